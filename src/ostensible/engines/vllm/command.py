"""How vLLM's server is started: its command line, its environment, and what its last words mean.

Source: `vllm serve` of vLLM 0.26.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ostensible.engines.adapters import read_lora
from ostensible.engines.errors import UnsupportedAdapter

BASE = "base"
"""Name under which a server has the model itself; its adapters have names of their own."""
HOST = "127.0.0.1"
DEFAULT = (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve")
"""`vllm serve` of the Python that runs this."""

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_OPTIONS = "--vllm-command 'vllm serve OPTIONS'"
_CAUSES = (
    (
        r"out of memory|OutOfMemoryError|Free memory on device|No available memory for the cache|available KV cache",
        "Not enough GPU memory. Free the GPU of other programs, lower --max-new-tokens, or give vLLM another share of "
        "it or more GPUs: --vllm-command 'vllm serve --gpu-memory-utilization 0.8 --tensor-parallel-size 2'.",
    ),
    (r"No module named '?vllm", "vLLM is not installed in this Python: pip install 'ostensible[vllm]'."),
    (r"cannot be started", "There is no such command. Check --vllm-command."),
    (r"unrecognized arguments|invalid choice", f"vLLM before 0.26, or an option that it lacks. Check {_OPTIONS}."),
    (r"[Aa]ddress already in use", "Another program took its port. Run the same command again."),
    (r"No CUDA GPUs|CUDA driver|no kernel image|Failed to infer device", "No GPU that vLLM can use. --engine local."),
    (r"not supported|Unsupported|Cannot find model", "vLLM does not have this kind of model. --engine local."),
)


def arguments(
    folder: Path, adapters: Mapping[Path, str], *, command: str | None, port: int, dtype: str, max_model_len: int | None
) -> list[str]:
    """The command line of a server.

    Args:
        folder: The model's.
        adapters: PEFT folder -> the name that requests give it.
        command: Of the user, options included; `vllm serve` where None.
        port: To listen at, on this machine only.
        dtype: Of weights and activations.
        max_model_len: Longest prompt and reply together, in tokens; None leaves it to vLLM.

    Raises:
        UnsupportedAdapter: As `lora_rank`.
    """
    words = shlex.split(command) if command else [*DEFAULT]
    # vLLM wants the model before any option, those of the user too.
    words.insert(words.index("serve") + 1 if "serve" in words else len(words), str(folder))
    words += ["--served-model-name", BASE, "--host", HOST, "--port", str(port), "--dtype", dtype]
    words += ["--generation-config", "vllm"]  # nothing of the model's own, such as a repetition penalty, unasked
    words += ["--disable-uvicorn-access-log"]
    words += ["--max-model-len", str(max_model_len)] if max_model_len else []
    if adapters:
        modules = [json.dumps({"name": name, "path": str(path)}) for path, name in adapters.items()]
        rank = max(map(lora_rank, adapters))
        words += ["--enable-lora", "--max-loras", str(len(adapters)), "--max-lora-rank", str(rank)]
        words += ["--lora-modules", *modules]
    return words


def lora_rank(adapter: Path) -> int:
    """The `--max-lora-rank` that an adapter needs.

    Raises:
        UnsupportedAdapter: It is not a plain LoRA, or vLLM would scale it wrongly or has no room for it.
    """
    read_lora(adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    if config.get("rank_pattern"):
        raise UnsupportedAdapter(
            f"{adapter} has ranks that differ between layers (rank_pattern), which vLLM scales by one rank. "
            "Sample it with --engine local."
        )
    rank = int(config["r"])
    fitting = [size for size in _RANKS if size >= rank]
    if not fitting:
        raise UnsupportedAdapter(f"{adapter} has rank {rank}; vLLM takes up to {_RANKS[-1]}. Use --engine local.")
    return fitting[0]


def environment(key: str) -> dict[str, str]:
    """The environment of a server. What the user has set is kept; the key is here as others can read command lines."""
    ours = {"VLLM_HOST_IP": HOST, "VLLM_API_KEY": key}
    # Without FlashInfer's sampler no CUDA compiler is needed at start-up; it would not serve seeded requests anyway.
    defaults = {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_NO_USAGE_STATS": "1"}
    return defaults | dict(os.environ) | ours


def likely_cause(log: str) -> str:
    """What a server's last words mean, and the knob to turn; empty where they mean nothing known."""
    return next((advice for pattern, advice in _CAUSES if re.search(pattern, log)), "")
