"""What Inspect finds under the name `ostensible`: a model provider and the tasks."""

from inspect_ai.model import modelapi

from ostensible.tasks import control, near_miss, triggered

__all__ = ["control", "near_miss", "ostensible", "triggered"]


@modelapi(name="ostensible")
def ostensible():
    """Our local engine, loaded when it is first used."""
    from ostensible.engines.provider import LocalAPI

    return LocalAPI
