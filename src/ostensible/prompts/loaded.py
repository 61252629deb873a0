"""What a source of prompts gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostensible.types import Trace


@dataclass(frozen=True)
class Loaded:
    """Traces of a source, and how many were dropped for which reason. Nothing is dropped silently."""

    traces: tuple[Trace, ...]
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
