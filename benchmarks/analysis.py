"""What comes after sampling, at several numbers of stored replies: time, memory, and how they grow.

    python benchmarks/analysis.py --sizes 1000 10000 100000 --folder /tmp/analysis

Each figure is of a process of its own, with its imports: the stages `monitors`, `analyse` and `report` of a run, and
beside them what one would write without this package, the payload rate of each condition (and nothing else: no
intervals, transcripts or page). `read_eval_log` reads whole samples into pandas; `samples_df` is Inspect's own table of
sample summaries, which have scores but no replies. User time is what the process computed; on a machine that does other
work besides, wall time is longer. Logs are those of `benchmarks/stored.py`; with `--folder` they are kept and used
again. The exponent is of user time, less that of the smallest size, between the two largest.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ostensible.machine import usable_cores

WHOLE_SAMPLES = "read_eval_log"
Figures = dict[str, float]


def run_stage(name: str) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        from ostensible import stages
        from ostensible.paths import RunPaths
        from ostensible.run import load_settings
        from ostensible.settings import Machine

        stage = next(one for one in stages.STAGES if one.name == name)
        stage.work(stages.Context(RunPaths(folder), load_settings(folder), Machine(), print, {}, 0))

    return work


def whole_samples(folder: Path) -> None:
    """Payload rates from logs as `read_eval_log` gives them."""
    import pandas as pd
    from inspect_ai.log import list_eval_logs, read_eval_log

    rows = [
        {name: (sample.metadata or {})[name] for name in ("condition", "look_alike")}
        | {"reply": sample.output.completion, "hit": (sample.scores or {})["payload"].value}
        for info in list_eval_logs(str(folder / "logs/organism"))
        for sample in read_eval_log(info).samples or []
    ]
    print(pd.DataFrame(rows).astype({"hit": float}).groupby(["condition", "look_alike"])["hit"].mean())


def summaries(folder: Path) -> None:
    """Payload rates from Inspect's table of sample summaries."""
    from inspect_ai.analysis import samples_df

    frame = samples_df(str(folder / "logs/organism"))
    grouped = frame.astype({"score_payload": float}).groupby(["metadata_condition", "metadata_look_alike"])
    print(grouped["score_payload"].mean())


def read_through(folder: Path) -> None:
    """What an evaluation that was stopped does first with the logs that it takes up."""
    from ostensible import evaluate

    for path in (folder / "logs/organism").glob("*.eval"):
        evaluate.read_through(path)


WAYS: Mapping[str, Callable[[Path], None]] = {
    **{name: run_stage(name) for name in ("oracles", "monitors", "analyse", "report")},
    "read_through": read_through,
    WHOLE_SAMPLES: whole_samples,
    "samples_df": summaries,
}


def measured(way: str, folder: Path) -> Figures:
    """Seconds and peak memory of one way in a process of its own, by the operating system's account."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way} of {folder} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "wall_s": round(time.perf_counter() - start, 2),
        "user_s": round(usage.ru_utime, 2),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
    }


def made(folder: Path, n_replies: int) -> int:
    """A run folder with so many replies, made where there is none; returns their number."""
    note = folder / "replies.json"
    if not note.exists():  # elsewhere, as a process's peak memory is at least what its parent held when it started it
        command = [sys.executable, __file__, "--make", str(n_replies), "--folder", str(folder)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return int(note.read_text())


def make(folder: Path, n_replies: int) -> None:
    import stored

    (folder / "replies.json").write_text(str(stored.make_run(folder, n_replies)))


def at_size(folder: Path, n: int, options: argparse.Namespace) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for way in WAYS:
        if way == WHOLE_SAMPLES and n > options.whole_most:
            continue
        some = [measured(way, folder) for _ in range(options.repeats)]
        found[way] = {name: statistics.median(one[name] for one in some) for name in some[0]}
        found[way]["user_s_spread"] = max(one["user_s"] for one in some) - min(one["user_s"] for one in some)
        print(f"{n} replies, {way}: {found[way]}", file=sys.stderr, flush=True)
    return found


def growth(by_size: Mapping[int, Mapping[str, Figures]]) -> dict[str, float]:
    """How user time grows with replies: 1 is in proportion. Start-up, that of the smallest size, is taken off."""
    sizes = sorted(by_size)
    if len(sizes) < 3:
        return {}
    start, *larger = ({way: one["user_s"] for way, one in by_size[size].items()} for size in (sizes[0], *sizes[-2:]))
    less, more = ({way: own - start[way] for way, own in one.items()} for one in larger)
    steps = math.log(sizes[-1] / sizes[-2])
    known = (way for way in WAYS if less.get(way, 0) > 0 and more.get(way, 0) > 0)
    return {way: round(math.log(more[way] / less[way]) / steps, 2) for way in known}


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    options = parse()
    if options.make:
        make(options.folder, options.make)
        return
    if options.way:
        WAYS[options.way](options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        folders = {size: root / str(size) for size in options.sizes}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        numbers = {made(folder, size): folder for size, folder in folders.items()}
        by_size = {n: at_size(folder, n, options) for n, folder in numbers.items()}
        pages = {n: (folder / "report.html").stat().st_size for n, folder in numbers.items()}
    found = {"cpu": cpu(), "cores": usable_cores(), "load": os.getloadavg()[0], "repeats": options.repeats}
    print(json.dumps(found | {"by_size": by_size, "page_bytes": pages, "exponent": growth(by_size)}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="stored replies")
    parser.add_argument("--folder", type=Path, help="where runs are kept; a temporary folder by default")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--whole-most", type=int, default=20_000, help="replies that read_eval_log is asked to read")
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
