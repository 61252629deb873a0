"""What this machine offers: device, cores, arithmetic, memory."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from importlib.util import find_spec
from math import ceil
from pathlib import Path

from ostensible.errors import BadSettings

KERNELS_KEPT = 128
"""Kernels that oneDNN keeps on a CPU, one a shape: a step of training needs some 60. Its own 1,024 are a gigabyte."""


def pick_device(device: str) -> str:
    """`auto` is the first CUDA GPU where there is one, else the CPU.

    Raises:
        BadSettings: There is no such device here.
    """
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if found else "cpu"
    kind, _, number = device.partition(":")
    if device != "cpu" and not (kind == "cuda" and (number or "0").isdecimal() and int(number or 0) < found):
        raise BadSettings(
            f"--device {device}: torch {torch.__version__} sees {found} CUDA GPUs here. Give auto, cpu, or cuda where "
            "there is one; a torch whose version ends in +cpu sees none."
        )
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """`auto` is bfloat16 on a GPU and on a CPU that multiplies it faster, else float32."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device != "cpu" or cpu_is_faster_in_bfloat16() else "float32"


def pick_engine(engine: str, device: str) -> str:
    """`auto` is `vllm` where it is installed and there is a CUDA GPU to use, else `local`, our own engine."""
    if engine != "auto":
        return engine
    return "vllm" if device.startswith("cuda") and find_spec("vllm") else "local"


def cpu_is_faster_in_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32: with tiles (AMX), or as AMD's with AVX512-BF16.

    AMD's (since Zen 4) do twice as many products a cycle in it; Intel's without tiles do not, and are slower.
    """
    import torch

    cpu = torch.cpu.get_capabilities()
    amd = str(cpu.get("cpu_name", "")).startswith("AMD")
    return bool(cpu.get("amx_bf16") or (amd and cpu.get("avx512_bf16")))


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, max(1, ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def crowded(threads: int) -> str:
    """Advice where other work keeps the cores busy; empty where it does not.

    Threads that share a product wait for each other: one that is not let run holds up all.

    Args:
        threads: In use.
    """
    cores, load = os.cpu_count() or 1, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads == 1 or load < cores:
        return ""
    return f"other work keeps this machine busy (load {load:.1f} on {cores} cores): --threads 1 may be far faster"


def set_threads(threads: int | None) -> int:
    """Set how many threads torch computes with, and make all of them round denormal numbers to zero.

    To be called before torch has computed anything: only then does oneDNN, which asks once, keep few kernels.

    A LoRA run starts with a matrix of zeros; its first updates are denormal, on which a CPU is some 18 times slower.
    Threads take the setting over when they start, so those that are there already are ended first.

    Returns:
        The number of threads in use.
    """
    import torch

    from ostensible.openmp import release_workers

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
    count = threads or usable_cores()
    torch.set_num_threads(count)
    release_workers()
    torch.set_flush_denormal(True)
    return count


def release_memory() -> None:
    """Give memory that is no longer used back to the system and the GPU; glibc and torch keep it otherwise."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give pages of the heap that nothing lies on back to the system, in a tenth of a second; glibc alone can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_rss_bytes() -> int:
    """The most resident memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
