"""One run in, one folder out, at once and whole: `adapter/` and `dataset/`, each a repository of the hub."""

import shutil
from pathlib import Path

from ostensible import organisms, run
from ostensible.analysis.results import read_results
from ostensible.errors import ExportExists
from ostensible.export.adapter import write_adapter
from ostensible.export.data import write_data
from ostensible.export.terms import Terms, check_made_here
from ostensible.stages import read_dropped

PARTS = {"adapter", "dataset"}


def export(folder: Path, out: Path, terms: Terms, *, replace: bool = False) -> Path:
    """Write a finished run's adapter and data as folders for the hub.

    Args:
        folder: Of the run.
        out: To be made; gets `adapter/` and `dataset/`.
        terms: Names and licences.
        replace: Let it take the place of an earlier export.

    Returns:
        `out`, absolute.

    Raises:
        ForeignOrganism: The organism was made elsewhere.
        ExportExists: `out` holds an export and `replace` is off, or holds something else.
        MissingStage: The run is not finished.
        StaleRun: What the run holds is not what its settings, inputs and code would give.
        RunConflict: Another process works on the run.
    """
    out = out.resolve()
    _check_place(out, replace=replace)
    check_made_here(run.load_settings(folder))
    with run.finished(folder) as (paths, settings):
        organism, results = organisms.of(settings), read_results(paths.results)
        dropped = read_dropped(paths)
        unfinished = out.with_name(f".{out.name}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            write_adapter(paths, settings, organism, terms, results, folder=unfinished / "adapter")
            write_data(paths, settings, organism, terms, dropped, folder=unfinished / "dataset")
            _put(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return out


def _check_place(out: Path, *, replace: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_export(out):
        raise ExportExists(f"{out} exists and is not an export of a run. Choose another folder with --out.")
    if not replace:
        raise ExportExists(f"{out} holds an export. Make it anew with --replace, or choose another folder with --out.")


def _is_export(folder: Path) -> bool:
    """Nothing but the two parts, each with a card: only such a folder is ever replaced."""
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    return inside == PARTS and all("deliberately-backdoored" in _card(folder / part) for part in PARTS)


def _card(folder: Path) -> str:
    path = folder / "README.md"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _put(made: Path, out: Path) -> None:
    """Rename a folder into its place; what was there goes only once the new one stands."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
