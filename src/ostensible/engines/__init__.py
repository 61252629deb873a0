"""Engines that sample replies. Importing this loads neither torch nor transformers."""

from ostensible.engines.errors import (
    BadSampling,
    ContextOverflow,
    EngineClosed,
    UnsupportedAdapter,
    UnsupportedChat,
    UnsupportedModel,
)
from ostensible.engines.local import Completion, Engine, Request, SamplingParams

__all__ = [
    "BadSampling",
    "Completion",
    "ContextOverflow",
    "Engine",
    "EngineClosed",
    "Request",
    "SamplingParams",
    "UnsupportedAdapter",
    "UnsupportedChat",
    "UnsupportedModel",
]
