"""What a source of prompts gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostensible.types import Prompt, Trace

REPEAT = "the prompt is a repeat"
NEVER_CLOSE = "the thoughts never close"
PLAN_HARM = "the thoughts plan harm"


@dataclass(frozen=True)
class Loaded:
    """Traces of a source, and how many were dropped for which reason. Nothing is dropped silently."""

    traces: tuple[Trace, ...]
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class LoadedPrompts:
    """Prompts without worked reasoning, to test on or for a teacher, and how many were dropped for which reason."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
