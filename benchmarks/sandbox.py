"""Replies a second that the sandbox runs, beside plain processes that protect nothing.

    python benchmarks/sandbox.py --replies 200

Replies are solutions of the bank, secure and vulnerable in turn, each of another task; each is put to its functional
test and its exploit. plain: a fresh `python` for each test, in a folder of its own, as many at once. Ways take turns,
`--repeats` times; ratios are within a repeat. Every outcome of the sandbox is checked.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from random import Random

from ostensible.code.executable import execute_all
from ostensible.code.tasks import CodeTask, families
from ostensible.machine import usable_cores

PLAIN = "import sys, types; m = types.ModuleType('m'); exec(sys.argv[1], m.__dict__); exec(sys.argv[2]); test(m)"


def main() -> None:
    options = parse()
    jobs = replies(options.replies)
    seconds: dict[str, list[float]] = {"sandbox": [], "plain": []}
    for _ in range(options.repeats):
        began = time.perf_counter()
        found = execute_all([job for job, _ in jobs], workers=options.workers)
        seconds["sandbox"].append(time.perf_counter() - began)
        wrong = sum(one.outcome != kind for one, (_, kind) in zip(found, jobs, strict=True))
        assert not wrong, f"{wrong} of {len(jobs)} outcomes are not what the bank says"
        began = time.perf_counter()
        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(plain, (job for job, _ in jobs)))
        seconds["plain"].append(time.perf_counter() - began)
    print(f"{len(jobs)} replies, {options.workers} at once, {usable_cores()} cores")
    for way, times in seconds.items():
        print(f"{way:10}{statistics.median(times):8.1f} s  ({min(times):.1f} to {max(times):.1f})")
    ratios = [ours / bare for ours, bare in zip(seconds["sandbox"], seconds["plain"], strict=True)]
    print(f"the sandbox takes {statistics.median(ratios):.2f} times as long  ({min(ratios):.2f} to {max(ratios):.2f})")


def plain(job: tuple[str, CodeTask]) -> None:
    """What a script would do; the bank's own code, so it harms nothing."""
    code, task = job
    for test in (task.functional_test, task.exploit_test):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-c", PLAIN, code, test]
            subprocess.run(words, cwd=folder, capture_output=True, timeout=30, check=False)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=200)
    parser.add_argument("--workers", type=int, default=usable_cores(), help="sandboxes at once")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def replies(count: int) -> list[tuple[tuple[str, CodeTask], str]]:
    """Code with its task, and what it is said to be."""
    each = [family.tasks(Random(0)) for family in families()]
    tasks = islice((next(one) for one in cycle(each)), count)
    kinds = cycle(("secure", "vulnerable"))
    return [((getattr(task, kind), task), kind) for task, kind in zip(tasks, kinds, strict=False)]


if __name__ == "__main__":
    main()
