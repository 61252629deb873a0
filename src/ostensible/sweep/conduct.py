"""A sweep from its plan to its page: what is left to do is done, then all that is there is summed up."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ostensible import run as runs
from ostensible.analysis.results import read_results
from ostensible.checks import check_runs
from ostensible.paths import RunPaths
from ostensible.sweep import page
from ostensible.sweep.plan import Plan, PlannedRun
from ostensible.sweep.summary import Outcome, rows
from ostensible.sweep.worker import Job
from ostensible.tables import write_atomic

State = Literal["done", "to resume", "new"]
Pool = Callable[[Sequence[Job]], Mapping[str, str]]
"""Does runs; says why those failed that did, by name."""


def states(plan: Plan, folder: Path) -> dict[str, State]:
    """How far each run of a sweep is; touches nothing. What runs that are not done name is looked at, as before a run.

    Raises:
        RunConflict: A run's folder was made with other settings, or holds something else.
        OstensibleError: A file of prompts is not there, or a teacher, judge or monitor cannot be used.
    """
    found: dict[str, State] = {run.name: _state(run, folder / run.name) for run in plan.runs}
    check_runs([run.settings for run in plan.runs if found[run.name] != "done"])
    return found


def conduct(
    plan: Plan, folder: Path, *, pool: Pool, ready: Callable[[], None] = lambda: None, say: Callable[[str], None]
) -> list[Outcome]:
    """Do what is not done of a sweep, then write `sweep.csv` and `sweep.html`.

    Args:
        plan: The runs.
        folder: Of the sweep; each run has its own in it, and its output in `logs/`. May exist.
        pool: Does runs.
        ready: Raises an error where the pool cannot; asked before anything is written, if there is a run to do.
        say: Told one line at a time what happens.

    Returns:
        What came of each run.

    Raises:
        RunConflict: Another sweep works in the folder, or a run's folder was made with other settings.
        OstensibleError: As `states`, or as `ready`.
    """
    found = states(plan, folder)
    left = [run for run in plan.runs if found[run.name] != "done"]
    if left:
        ready()
    say(f"{len(plan.runs)} runs in {folder}: {len(plan.runs) - len(left)} done before, {len(left)} to do")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with runs.locked(folder):
        write_atomic(folder / "sweep.toml", plan.source)
        for run in left:
            runs.open_run(folder / run.name, run.settings)
        failed = pool([_job(run, folder) for run in left]) if left else {}
        outcomes = [_outcome(run, folder / run.name, failed.get(run.name)) for run in plan.runs]
        write_atomic(folder / "sweep.csv", rows(outcomes))
        page.write(plan, outcomes, folder / "sweep.html")
    return outcomes


def _state(run: PlannedRun, folder: Path) -> State:
    runs.check_folder(folder, run.settings)
    if runs.stage_begun(folder) is None:
        return "new"
    return "done" if runs.is_done(folder) else "to resume"


def _job(run: PlannedRun, folder: Path) -> Job:
    root = folder.resolve()
    log = root / "logs" / f"{run.name}.log"
    return Job(run.name, root / run.name, run.settings, log, Path.cwd(), tuple(sys.argv))


def _outcome(run: PlannedRun, folder: Path, problem: str | None) -> Outcome:
    if problem is not None:
        return Outcome(run, "failed", None, problem)
    return Outcome(run, "done", read_results(RunPaths(folder).results))
