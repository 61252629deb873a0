"""What Inspect finds under the name `ostensible`: model providers, the tasks, the judges and the monitors."""

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
    "ostensible_oracle",
    "tfidf_monitor",
    "triggered",
    "vulnerability_judge",
]


@modelapi(name="ostensible")
def ostensible():
    """Our engine, or a vLLM server that it starts; loaded when it is first used."""
    from ostensible.engines.provider import OstensibleAPI

    return OstensibleAPI


@modelapi(name="ostensible-oracle")
def ostensible_oracle():
    """Organisms without weights, of known rates."""
    from ostensible.engines.oracle import OracleAPI

    return OracleAPI
