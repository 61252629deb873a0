"""A dose series from its plan to its page: the runs one after another, then what they show together."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ostensible import run as runs
from ostensible.analysis.monitoring import read_scores
from ostensible.analysis.replies import read_replies
from ostensible.analysis.results import RateResult, read_results
from ostensible.analysis.sheets import Row, to_csv
from ostensible.checks import check_machine
from ostensible.dose import page
from ostensible.dose.curve import DosedRun, measure
from ostensible.dose.results import DoseResults
from ostensible.paths import RunPaths
from ostensible.settings import Machine
from ostensible.sweep.conduct import states
from ostensible.sweep.plan import Plan
from ostensible.tables import write_atomic


def conduct(plan: Plan, folder: Path, machine: Machine, *, say: Callable[[str], None]) -> DoseResults:
    """Do what is not done of a dose series, then write `dose.json`, `dose.csv`, `dose.png` and `dose.html`.

    Args:
        plan: The runs, one a dose.
        folder: Of the series; each run has its own in it. May exist.
        machine: Where to compute.
        say: Told one line at a time what happens.

    Raises:
        RunConflict: Another process works in the folder, or a run's folder was made with other settings.
        OstensibleError: A run cannot be done; those before it are kept, and the same command goes on.
    """
    check_machine(plan.runs[0].settings, machine)
    found = states(plan, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with runs.locked(folder):
        for place, run in enumerate(plan.runs, start=1):
            say(f"{run.name}, {place} of {len(plan.runs)}: {found[run.name]}")
            if found[run.name] != "done":
                runs.execute(folder / run.name, machine, settings=run.settings, say=say)
        results = measure([_read(float(run.varies["dose"]), folder / run.name) for run in plan.runs])
        write_atomic(folder / "dose.json", results.model_dump_json(indent=1) + "\n")
        write_atomic(folder / "dose.csv", to_csv(list(rows(results))))
        page.write(results, folder)
    return results


def _read(dose: float, folder: Path) -> DosedRun:
    paths = RunPaths(folder)
    results = read_results(paths.results)
    replies = [one for one in read_replies(paths) if one.subject == "organism" and one.part == results.families]
    return DosedRun(dose, folder.name, results, replies, read_scores(paths.monitor_scores))


def rows(results: DoseResults) -> Iterator[Row]:
    """`dose.csv`: one row a monitor, view and dose, with the limits of its curve."""
    for curve in results.curves:
        for dose, point in zip(results.doses, curve.points, strict=True):
            row: dict[str, object] = {"monitor": curve.monitor, "view": curve.view, "dose": dose.dose, "run": dose.run}
            row |= _flat("verbalisation", dose.verbalisation) | {"threshold": point.threshold}
            row |= _flat("tpr", point.tpr) | _flat("fpr", point.fpr)
            parts = {"effect": point.effect, "auroc": point.auroc}
            row |= {
                f"{name}_{field}": getattr(part, field, None)
                for name, part in parts.items()
                for field in ("value", "low", "high")
            }
            limits = {"detection": curve.detection, "half": curve.half}
            yield (
                row
                | {f"{name}_limit": limit.value for name, limit in limits.items()}
                | {f"{name}_relation": limit.relation for name, limit in limits.items()}
            )


def _flat(name: str, rate: RateResult | None) -> dict[str, object]:
    return {f"{name}_{field}": getattr(rate, field, None) for field in RateResult.model_fields}
