"""What Inspect finds under the name `ostensible`: a model provider, the tasks, the judges and the monitors."""

from inspect_ai.model import modelapi

from ostensible.judge import cot_judge, vulnerability_judge
from ostensible.monitors.scorers import custom_monitor, keyword_monitor, llm_monitor, tfidf_monitor
from ostensible.tasks import control, near_miss, triggered

__all__ = [
    "control",
    "cot_judge",
    "custom_monitor",
    "keyword_monitor",
    "llm_monitor",
    "near_miss",
    "ostensible",
    "tfidf_monitor",
    "triggered",
    "vulnerability_judge",
]


@modelapi(name="ostensible")
def ostensible():
    """Our local engine, loaded when it is first used."""
    from ostensible.engines.provider import LocalAPI

    return LocalAPI
