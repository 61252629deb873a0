"""What Inspect finds under the name `ostensible`: a model provider, the tasks and the judges."""

from inspect_ai.model import modelapi

from ostensible.judge import cot_judge, vulnerability_judge
from ostensible.tasks import control, near_miss, triggered

__all__ = ["control", "cot_judge", "near_miss", "ostensible", "triggered", "vulnerability_judge"]


@modelapi(name="ostensible")
def ostensible():
    """Our engine, or a vLLM server that it starts; loaded when it is first used."""
    from ostensible.engines.provider import OstensibleAPI

    return OstensibleAPI
