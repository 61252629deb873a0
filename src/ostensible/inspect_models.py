"""Models that a run asks by their Inspect names, such as a judge or a teacher: found, told of this machine, closed."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.log import EvalLog
from inspect_ai.model import Model, ModelAPI, get_model

from ostensible.errors import EvaluationFailed, ModelUnavailable
from ostensible.evaluate import IN_FLIGHT, local_model_args, run_tasks, tell_apart
from ostensible.judge import FAILING_SHARE, RETRIES
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings


def load_model(name: str, *, role: str, **model_args: Any) -> Model:
    """Find a model; its weights or its server are not loaded yet.

    Args:
        name: As Inspect has it, such as `openai/gpt-4o`, `vllm/...`, or `ostensible/<folder>`.
        role: What it is for; the command line's option has the same name.
        model_args: For the provider.

    Raises:
        ModelUnavailable: There is no such provider or model, or a package or key is missing.
    """
    from inspect_ai._util.error import PrerequisiteError  # what a provider raises is public nowhere else

    try:
        return get_model(name, memoize=False, **model_args)
    except (PrerequisiteError, ImportError, ValueError, OSError) as error:
        said = " ".join(re.sub(r"\[/?\w+\]", "", str(getattr(error, "message", error))).split())
        raise ModelUnavailable(
            f"The {role} {name!r} cannot be used: {said} Give --{role} a model as Inspect names it (provider/model), "
            f"with the provider's package installed and its key set; or leave --{role} out."
        ) from error


@contextmanager
def opened(name: str, settings: Settings, machine: Machine, *, role: str) -> Generator[Model]:
    """A model that is told what it needs to know of this machine, and gives back at the end what it holds of it.

    Its logs are taken up on another machine, or by another engine, too.

    Raises:
        ModelUnavailable: As `load_model`.
    """
    model = load_model(name, role=role, **_model_args(name, settings, machine))
    if name.startswith(LOCAL_PROVIDER):
        tell_apart(model, dtype=settings.dtype)
    try:
        yield model
    finally:
        if type(model.api).close is not ModelAPI.close:  # it has an engine or a server of its own
            model.api.close()


def run_asked(tasks: list[Task], folder: Path, *, who: str, what: str, in_flight: int = IN_FLIGHT) -> list[EvalLog]:
    """`run_tasks` on tasks that ask such a model; an error says which.

    Args:
        tasks: Their logs share a folder.
        folder: Of the logs.
        who: The model and its part, as a sentence begins.
        what: How many of what it is asked about in each task.
        in_flight: Samples of a task under way at most.

    Raises:
        EvaluationFailed: It failed on too many; what it said is kept.
    """
    try:
        return run_tasks(tasks, folder, in_flight=in_flight)
    except EvaluationFailed as error:
        raise EvaluationFailed(
            f"{who} failed on so many of {what} that it was given up ({FAILING_SHARE:.0%}, after {RETRIES} retries "
            f"each). {error}"
        ) from error


def _model_args(name: str, settings: Settings, machine: Machine) -> dict[str, Any]:
    if name.startswith("vllm/"):
        return {"host": "127.0.0.1"}  # a server that Inspect starts listens to every network otherwise
    return local_model_args(settings, machine) if name.startswith(LOCAL_PROVIDER) else {}
