"""A run: stages in order, inside one folder, each done once.

A stage is skipped when its settings, its inputs and its code are what they were when it was last done. A stage that was
cut off goes on where it stood; one whose settings, inputs or code have changed starts anew.
"""

import hashlib
import inspect
import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ostensible import attempts, provenance, stages
from ostensible.checks import check_devices
from ostensible.disk import told_of_disk_faults
from ostensible.errors import MissingStage, RunConflict, StaleRun, UnknownName
from ostensible.machine import peak_rss_bytes
from ostensible.paths import RunPaths
from ostensible.provenance import MANIFEST_VERSION
from ostensible.settings import Machine, Settings, read_settings, write_settings
from ostensible.stages import STAGES, Context, Stage
from ostensible.superseded import retire
from ostensible.tables import write_atomic


@dataclass(frozen=True, slots=True)
class StageState:
    """What is known of a stage: the fingerprint of what it was made from, and of what it made; the options it had."""

    fingerprint: str
    done: bool
    outputs: dict[str, str]
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    options: dict[str, Any] = field(default_factory=dict[str, Any])


_STATE = TypeAdapter(StageState)


def open_run(folder: Path, settings: Settings, *, replace: bool = False) -> RunPaths:
    """Make a run folder for settings, or take up the one that was made for the same settings.

    Args:
        folder: May exist.
        settings: What the run computes.
        replace: Let other settings take the folder over; stages that they change are done anew.

    Raises:
        RunConflict: The folder was made with other settings and `replace` is off, or holds something else; or another
            process works in it.
        CannotWrite: The disk is full, or the folder is read-only.
    """
    with told_of_disk_faults(folder), held(folder, settings, replace=replace) as (paths, _):
        return paths


@contextmanager
def held(
    folder: Path, settings: Settings | None = None, *, replace: bool = False
) -> Generator[tuple[RunPaths, Settings]]:
    """Keep other processes out of a run folder, which is made or taken up for settings where they are given.

    Settings are written and read only while it is held, so that none change under a run at work.

    Args:
        folder: May exist; has to where no settings are given.
        settings: What the run computes; what the folder was made for where None.
        replace: As `open_run` takes it.

    Raises:
        RunConflict: As `open_run` does, or another process works in this folder. Nothing is changed.
        MissingStage: No settings are given, and it is not a run folder.
    """
    if settings is None:
        load_settings(folder)
    else:
        check_folder(folder, settings, replace=replace)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise RunConflict(f"{folder} cannot be made: {error}. Choose another with --out.") from error
    paths = RunPaths(folder)
    with locked(folder):
        if settings is None:
            settings = load_settings(folder)
        else:
            check_folder(folder, settings, replace=replace)
            text = write_settings(settings)
            if not paths.settings.is_file() or paths.settings.read_text(encoding="utf-8") != text:
                write_atomic(paths.settings, text)
        yield paths, settings


def check_folder(folder: Path, settings: Settings, *, replace: bool = False) -> None:
    """Make sure that a folder can be that of a run with these settings, and touch nothing.

    Other settings may take over a folder in which no stage was finished, as where a first try named a wrong file.

    Raises:
        RunConflict: It was made with other settings and `replace` is off, or it is or holds something else.
    """
    paths = RunPaths(folder)
    if folder.exists() and not folder.is_dir():
        raise RunConflict(f"{folder} is a file. Choose a folder with --out.")
    if paths.settings.exists():
        before = load_settings(folder)
        if before != settings and not replace and _has_finished(paths):
            raise RunConflict(
                f"{folder} was made with other settings: {'; '.join(differences(before, settings))}. Choose another "
                "folder with --out, or do the stages that this changes anew with --replace."
            )
    elif folder.exists() and any(path != paths.lock for path in folder.iterdir()):
        raise RunConflict(f"{folder} exists and is not a run folder (no settings.json). Choose another with --out.")


def _has_finished(paths: RunPaths) -> bool:
    return any((state := read_state(paths, stage.name)) and state.done for stage in STAGES)


def stages_of(settings: Settings) -> tuple[Stage, ...]:
    """The stages that a run of these settings has, in order."""
    return tuple(stage for stage in STAGES if stage.part_of(settings))


def check_stage(name: str, settings: Settings) -> None:
    """Make sure that a run of these settings has a stage of this name.

    Raises:
        UnknownName: It has not; the message lists those that it has.
    """
    names = [stage.name for stage in stages_of(settings)]
    if name not in names:
        raise UnknownName(
            f"There is no stage {name!r}. Stages: {', '.join(names)}"
            + ("" if settings.teacher else "; with --teacher, teach before them")
            + ("." if settings.twins else "; with --twins, twin-benign and twin-shuffled after evaluate.")
        )


def is_done(folder: Path) -> bool:
    """Whether all stages of a run are done, and nothing of what they read and wrote has changed; touches nothing."""
    paths, settings = RunPaths(folder), load_settings(folder)
    return all(
        (state := read_state(paths, stage.name)) and state.done and not _changed_since(stage, state, paths, settings)
        for stage in stages_of(settings)
    )


def stage_begun(folder: Path) -> str | None:
    """Name of the last stage that a run has begun."""
    begun = [stage.name for stage in STAGES if read_state(RunPaths(folder), stage.name)]
    return begun[-1] if begun else None


def load_settings(folder: Path) -> Settings:
    """Read a run folder's settings.

    Raises:
        MissingStage: It is not a run folder.
        CorruptRun: Its settings are damaged, or of another version of this package.
    """
    return read_settings(RunPaths(folder).settings)


def execute(
    folder: Path,
    machine: Machine,
    *,
    settings: Settings | None = None,
    replace: bool = False,
    first: str | None = None,
    last: str = STAGES[-1].name,
    again: bool = False,
    say: Callable[[str], None],
) -> None:
    """Do a run's stages from `first` to `last`, skipping what is done.

    Args:
        folder: Run folder.
        machine: Where to compute.
        settings: What the run computes; the folder is made or taken up for them as `open_run` does. None takes its own.
        replace: As `open_run` takes it.
        first: Stage to begin with; the first that the run has where None.
        last: Stage to end with.
        again: Do them even if nothing has changed.
        say: Told one line at a time what happens.

    Raises:
        RunConflict: As `open_run` does.
        MissingStage: It is not a run folder, or a stage before `first` is not done.
        UnknownName: The run has no such stage.
        StaleRun: What a stage before `first` made has changed since.
        CannotWrite: The disk is full, or the folder is read-only.
        BadSettings: There is no GPU of the kind that is asked for.
        MissingPackage: The engine that is asked for is not installed.
    """
    check_devices(machine)
    with told_of_disk_faults(folder), held(folder, settings, replace=replace) as (paths, settings):
        found = stages_of(settings)
        names = [stage.name for stage in found]
        for name in filter(None, (first, last)):
            check_stage(name, settings)
        start = names.index(first) if first else 0
        for stage in found[:start]:
            _require(stage, paths)
        for stage in found[start : names.index(last) + 1]:
            _do(stage, _context(paths, settings, machine, say), again=again)


def _context(paths: RunPaths, settings: Settings, machine: Machine, say: Callable[[str], None]) -> Context:
    found = stages_of(settings)
    states = {stage.name: state for stage in found if (state := read_state(paths, stage.name)) and state.done}
    return Context(
        paths,
        settings,
        machine,
        say,
        timings_s={name: state.seconds for name, state in states.items()},
        peak_rss_bytes=max((state.peak_rss_bytes for state in states.values()), default=0),
    )


def _do(stage: Stage, context: Context, *, again: bool) -> None:
    paths, say = context.paths, context.say
    fingerprint = _fingerprint(stage, paths, context.settings)
    state = read_state(paths, stage.name)
    options = context.machine.model_dump(include=stage.options)
    asked = context.machine.model_dump(include=stage.options, exclude_unset=True)
    current = state is not None and state.fingerprint == fingerprint and asked.items() <= state.options.items()
    if state and state.done and current and not again:
        state = _with_card(stage, state, context)
        damaged = _damaged(state, paths)
        if not damaged:
            say(f"{stage.name}: done before, nothing has changed")
            return
        retire([paths.root / name for name in damaged], f"{stage.name}-damaged", paths)
        say(f"{stage.name}: {', '.join(damaged)} changed since it was done; set aside in superseded/, made anew")
    elif state is None or not current or (again and state.done):  # what was begun again goes on
        _clear(stage, paths, state)
    say(f"{stage.name}: {stage.summary}")
    _write_state(paths, stage.name, StageState(fingerprint, done=False, outputs={}, options=options))
    start = time.perf_counter()
    stage.work(context)
    seconds = time.perf_counter() - start
    outputs = _outputs(stage, paths)
    _write_state(paths, stage.name, StageState(fingerprint, True, outputs, seconds, peak_rss_bytes(), options))
    _write_manifest(context)
    say(f"{stage.name}: done in {seconds:.1f} s")


def _with_card(stage: Stage, state: StageState, context: Context) -> StageState:
    """Have the card of a finished stage say what it would say now; the former is moved to `superseded/`."""
    if stage.card is None:
        return state
    paths, (path, text) = context.paths, stage.card(context)
    name, digest = str(path.relative_to(paths.root)), hashlib.sha256(text.encode()).hexdigest()
    if not path.is_file() or provenance.sha256(path) != digest:
        retire([path], f"{stage.name}-card", paths)
        write_atomic(path, text)
        context.say(f"{stage.name}: {name} written anew; the former is in superseded/")
    if state.outputs.get(name) != digest:
        outputs = state.outputs | {name: digest}
        state = StageState(state.fingerprint, True, outputs, state.seconds, state.peak_rss_bytes, state.options)
        _write_state(paths, stage.name, state)
        _write_manifest(context)
    return state


def read_state(paths: RunPaths, stage: str) -> StageState | None:
    """What a run folder says of a stage; None if it was never begun, or its record is damaged."""
    try:
        return _STATE.validate_json(paths.state(stage).read_bytes())
    except (OSError, ValidationError):
        return None


def _write_state(paths: RunPaths, stage: str, state: StageState) -> None:
    fields = {name: getattr(state, name) for name in StageState.__slots__}
    write_atomic(paths.state(stage), json.dumps(fields, indent=1) + "\n")


def _fingerprint(stage: Stage, paths: RunPaths, settings: Settings) -> str:
    made_from = {
        "settings": stage.settings(settings),
        "inputs": {
            str(path.relative_to(paths.root)): provenance.hash_tree(path, paths.root) for path in stage.inputs(paths)
        },
        "outside": stage.outside(settings),
        "code": [inspect.getsource(stage.work), provenance.code_version(stage.modules)],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _outputs(stage: Stage, paths: RunPaths) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in stage.outputs(paths):
        found |= provenance.hash_tree(path, paths.root)
    return found


def _damaged(state: StageState, paths: RunPaths) -> list[str]:
    """Outputs that are gone or not what was written."""
    found = ((name, paths.root / name, digest) for name, digest in state.outputs.items())
    return [name for name, path, digest in found if not path.is_file() or provenance.sha256(path) != digest]


def _clear(stage: Stage, paths: RunPaths, state: StageState | None) -> None:
    """Make room for other outputs: finished ones are moved to `superseded/`, unfinished ones deleted.

    Where there is no record, nobody knows what outputs were made from: they are not taken up, and may be finished.
    """
    if state is None or state.done:
        made_from = state.fingerprint[:8] if state else "unrecorded"
        retire(stage.outputs(paths), f"{stage.name}-{made_from}", paths)
    for path in [*stage.outputs(paths), *stage.scratch(paths)]:
        _delete(path)


def keep_only(files: Collection[Path], paths: RunPaths) -> int:
    """Move all but some files of a run folder to `superseded/`; what lies there stays, as does the lock.

    Returns:
        How many files and folders were moved.
    """
    kept = {*files, *(folder for file in files for folder in file.parents), paths.root, paths.lock, paths.superseded}
    others = [
        path
        for path in sorted(paths.root.rglob("*"))
        if path not in kept and path.parent in kept and paths.superseded not in path.parents
    ]
    retire(others, "others", paths)
    return len(others)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _require(stage: Stage, paths: RunPaths) -> None:
    state = read_state(paths, stage.name)
    missing = [path for path in stage.outputs(paths) if not path.exists()]
    if state is None or not state.done or missing:
        raise MissingStage(
            f"The stage {stage.name!r} of {paths.root} is not done"
            + (f" ({missing[0].name} is missing)" if missing else "")
            + f". Do it first: {paths.command(stage.name)}"
        )
    if damaged := _damaged(state, paths):
        raise StaleRun(
            f"{', '.join(damaged)} in {paths.root} changed since the stage {stage.name!r} was done: it is damaged, or "
            f"somebody edited it. Make it anew: {paths.command(stage.name)}"
        )


@contextmanager
def finished(folder: Path) -> Generator[tuple[RunPaths, Settings]]:
    """Hold a run all of whose stages are done and are what its settings, inputs and code would give again.

    Raises:
        RunConflict: Another process works in this folder.
        MissingStage: It is not a run folder, or a stage is not done.
        StaleRun: A stage was done with other settings, inputs or code, or its outputs changed since.
    """
    with held(folder) as (paths, settings):
        for place, stage in enumerate(wanted := stages_of(settings)):
            commands = (paths.command(later.name) for later in wanted[place:])
            remedy = f"Do it, and what follows from it: {' && '.join(commands)}"
            state = read_state(paths, stage.name)
            if state is None or not state.done:
                raise MissingStage(f"The stage {stage.name!r} of {folder} is not done. {remedy}")
            if changed := _changed_since(stage, state, paths, settings):
                raise StaleRun(f"The stage {stage.name!r} of {folder} is stale: {changed}. {remedy}")
        yield paths, settings


def _changed_since(stage: Stage, state: StageState, paths: RunPaths, settings: Settings) -> str:
    """What about a stage is no longer as it was when it was done, in words; empty where nothing is."""
    if damaged := _damaged(state, paths):
        return f"{', '.join(damaged)} changed or is gone since it was done"
    if state.fingerprint != _fingerprint(stage, paths, settings):
        return "its settings, its inputs or the code of this package changed since it was done"
    return ""


def _write_manifest(context: Context) -> None:
    """Write down what this run was made from, as far as it has come."""
    states = {stage.name: read_state(context.paths, stage.name) for stage in stages_of(context.settings)}
    manifest: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "settings": context.settings.model_dump(mode="json"),
        "machine": context.machine.model_dump(mode="json"),
        "versions": provenance.versions(),
        "code": provenance.revision(),
        "sampling": {
            str(path.relative_to(context.paths.root)): [attempt.model_dump() for attempt in attempts.read(path.parent)]
            for pattern in ("", "twins/*/")
            for path in sorted(context.paths.root.glob(f"{pattern}logs/{attempts.NAME}"))
        },
        "inputs": stages.organism_hash(context.settings)
        | stages.input_hashes(
            context.settings, model=bool((weights := states.get("train") or states.get("evaluate")) and weights.done)
        ),
        "stages": {
            name: {"fingerprint": state.fingerprint, "seconds": state.seconds, "outputs": state.outputs}
            for name, state in states.items()
            if state and state.done
        },
        "command": " ".join(sys.argv),
    }
    write_atomic(context.paths.manifest, json.dumps(manifest, indent=1) + "\n")


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keep other processes out of a folder.

    Raises:
        RunConflict: Another process works in it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(RunPaths(folder).lock)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunConflict(
            f"Another process works in {folder}. Wait for it or stop it, or choose another folder with --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


def differences(before: Settings, after: Settings) -> Sequence[str]:
    """What differs between settings, by flat name."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return [f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in old | new if old.get(key) != new.get(key)]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
