"""Finished runs of any organisms, models and settings beside each other, on one page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ostensible import run as runs
from ostensible.analysis.results import read_results
from ostensible.errors import BadSettings
from ostensible.paths import RunPaths
from ostensible.report.page import environment, flat
from ostensible.settings import PARTS, Settings
from ostensible.sweep import page
from ostensible.sweep.plan import Criteria, PlannedRun, label
from ostensible.sweep.summary import Outcome
from ostensible.tables import write_atomic

ABSENT = "–"
HEADING = b"<h1>compare</h1>"
GROUPS = (*PARTS, "foreign")


def write(folders: Sequence[Path], path: Path) -> None:
    """Write the page; runs are linked to by where they lie from it. The same input gives the same bytes.

    Args:
        folders: Of finished runs, at least two.
        path: The HTML file.

    Raises:
        BadSettings: There are fewer than two runs, one is named twice, or `path` is something else than such a page.
        MissingStage: A folder is no run, or its results are not made yet.
        CorruptRun: A run's files cannot be read.
    """
    if path.is_dir() or (path.exists() and HEADING not in path.read_bytes()):
        raise BadSettings(
            f"{path} exists and is no page of `compare`; it was left as it is. Choose another with --out."
        )
    outcomes = read(folders)
    reports = {outcome.run.name: Path(outcome.run.name) / "report.html" for outcome in outcomes}
    links = {name: Path(os.path.relpath(report, path.parent)).as_posix() for name, report in reports.items()}
    write_atomic(path, render(outcomes, links))


def read(folders: Sequence[Path]) -> list[Outcome]:
    """Read what runs found; each is named by its folder and told from the others by the settings that differ."""
    if len({folder.resolve() for folder in folders}) < max(len(folders), 2):
        raise BadSettings(
            f"{len(folders)} folders were given, {len({folder.resolve() for folder in folders})} of them different. "
            "Name at least two runs, each once: ostensible compare RUN RUN ..."
        )
    settings = {str(folder): runs.load_settings(folder) for folder in folders}
    differ = differences(settings)
    return [
        _outcome(name, one, {key: values[name] for key, values in differ.items()}) for name, one in settings.items()
    ]


def differences(settings: Mapping[str, Settings]) -> dict[str, dict[str, str]]:
    """What is not the same in all runs: values in words by the setting's name, then by run."""
    named = {
        run: {_short(name): value for name, value in flat(one.model_dump(mode="json"))} for run, one in settings.items()
    }
    names = dict.fromkeys(name for values in named.values() for name in values)
    found = {name: {run: values.get(name, ABSENT) for run, values in named.items()} for name in names}
    return {name: values for name, values in found.items() if len(set(values.values())) > 1}


def _short(name: str) -> str:
    """A setting's name without its group's; what look-alikes are called may have dots and be called like settings."""
    group, _, rest = name.partition(".")
    return rest if rest and group in GROUPS else name


def render(outcomes: Sequence[Outcome], links: Mapping[str, str]) -> str:
    """Make the page's HTML; see `write`."""
    template = environment({"label": label}).get_template("sweep/compare.html.jinja")
    return template.render(failed=(), criteria=(), **page.shown(outcomes, Criteria(), links))


def _outcome(name: str, settings: Settings, varies: Mapping[str, str]) -> Outcome:
    results = read_results(RunPaths(Path(name)).results)
    return Outcome(PlannedRun(name, settings, varies), "done", results)
