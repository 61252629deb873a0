"""What the engine refuses, each as an error of the package's one tree."""

from ostensible.errors import OstensibleError


class ContextOverflow(OstensibleError, ValueError):
    """A prompt and its reply cannot fit into the model's context, or into the memory set aside for it."""


class UnsupportedModel(OstensibleError, ValueError):
    """The engine would not compute what this model computes."""


class UnsupportedAdapter(OstensibleError, ValueError):
    """An adapter holds something other than plain LoRA deltas on linear layers of this model."""


class UnsupportedChat(OstensibleError, ValueError):
    """A conversation is something other than one user turn."""


class BadSampling(OstensibleError, ValueError):
    """Sampling parameters lie outside their ranges."""


class EngineClosed(OstensibleError, RuntimeError):
    """The engine was closed, or stopped at an error, before it could answer."""


class ServerFailed(OstensibleError, RuntimeError):
    """A vLLM server could not be started, crashed too often, or did something else than it was asked."""
