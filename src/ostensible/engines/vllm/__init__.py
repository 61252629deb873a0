"""Sampling through a vLLM server of our own. Importing this loads neither torch nor an HTTP client."""

from ostensible.engines.vllm.server import ServerSpec, check_installed

__all__ = ["ServerSpec", "check_installed"]
