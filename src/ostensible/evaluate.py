"""Samples and scores every held-out prompt under every condition, with Inspect. A killed evaluation resumes."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostensible.errors import EvaluationFailed
from ostensible.machine import pick_device, pick_dtype, set_threads, usable_cores
from ostensible.models import resolve
from ostensible.paths import RunPaths, SubjectPaths
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings
from ostensible.types import Condition

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog

SAVED_EVERY = 10
"""Finished samples between two writes to a log; what is lost at most when a run is killed."""
IN_FLIGHT = 160
"""Samples of a task under way: enough to fill the engine. Inspect's own work grows with them."""
PROGRESS_EVERY_S = 10.0


def evaluate(
    paths: RunPaths, settings: Settings, machine: Machine, *, subject: str = "organism", say: Callable[[str], None]
) -> None:
    """Write one `.eval` log a condition of a subject; of the organism also one of its base model on control prompts.

    Logs that a killed run left are taken up: samples that they hold are not sampled again.

    Args:
        paths: Of the run.
        settings: Of the run.
        machine: Where to compute.
        subject: `organism`, or the kind of a twin.
        say: Told one line at a time what happens.

    Raises:
        EvaluationFailed: A log ended with an error; what was sampled is kept.
    """
    from inspect_ai.model import get_model

    from ostensible.tasks import condition_task

    shared: dict[str, Any] = local_model_args(settings, machine) | {"memoize": False}
    trained = paths.organism if subject == "organism" else paths.twin(subject)
    adapter = adapter_of(trained, settings)
    organism = get_model(model_name(settings), adapter=adapter, **shared)
    apis: list[Any] = [organism.api]
    sets = {trained.logs: [condition_task(paths.root, c, subject=subject, model=organism) for c in Condition]}
    if subject == "organism" and (name := base_name(settings)) is not None:
        base = get_model(name, **shared)
        apis.append(base.api)
        sets[paths.logs / "base"] = [condition_task(paths.root, Condition.CONTROL, subject="base", model=base)]
    replies = sum(len(t.dataset) for tasks in sets.values() for t in tasks) * settings.sampling.samples_per_prompt
    say(f"sampling {replies} replies on {shared['device']} in {shared['dtype']}")
    try:
        with progress(lambda: sum(api.completed for api in apis), replies, say):
            for folder, tasks in sets.items():
                run_tasks(tasks, folder)
    finally:
        for api in apis:
            api.close()


def model_name(settings: Settings) -> str:
    """The model of a run as Inspect names it."""
    return f"{LOCAL_PROVIDER}{resolve(settings.model, revision=settings.revision)}"


def adapter_of(subject: SubjectPaths, settings: Settings) -> str | None:
    """The adapter that makes a run's model its organism; None where one from elsewhere is a whole model."""
    whole = settings.foreign is not None and settings.foreign.adapter is None
    return None if whole else str(subject.adapter.resolve())


def base_name(settings: Settings) -> str | None:
    """The base model of a run as Inspect names it; None where nobody has named that of a whole model."""
    if settings.foreign is None or settings.foreign.adapter is not None:
        return model_name(settings)
    return f"{LOCAL_PROVIDER}{resolve(settings.foreign.base)}" if settings.foreign.base else None


def local_model_args(settings: Settings, machine: Machine) -> dict[str, Any]:
    """What the local provider is to be told of this machine; sets the threads of this process too."""
    set_threads(machine.threads)
    device = pick_device(machine.device)
    return {
        "dtype": pick_dtype(settings.dtype, device),
        "device": device,
        "threads": machine.threads or usable_cores(),
    }


def run_tasks(tasks: "list[Task]", folder: Path) -> "list[EvalLog]":
    """Run tasks of one model, all at once so that the engine stays full; take up what a killed run left.

    Returns:
        The logs, without their samples.

    Raises:
        EvaluationFailed: A log ended with an error; what is done is kept.
    """
    from inspect_ai import eval_set

    done, logs = eval_set(
        tasks,
        log_dir=str(folder),
        retry_attempts=0,
        retry_immediate=False,
        max_tasks=len(tasks),
        max_samples=IN_FLIGHT,
        log_realtime=False,
        display="none",
        log_level="warning",
        log_buffer=SAVED_EVERY,
        log_dir_allow_dirty=True,
        score_display=False,
    )
    if not done or len(logs) < len(tasks) or any(log.status != "success" for log in logs):
        raise EvaluationFailed(_complaint(logs, folder))
    return logs


@contextmanager
def progress(count: Callable[[], int], total: int, say: Callable[[str], None]) -> Generator[None]:
    """Say every few seconds how many replies there are. Those of an earlier attempt are not counted."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(PROGRESS_EVERY_S):
            say(f"{count()} of {total} replies")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _complaint(logs: list[Any], folder: Path) -> str:
    """Why an evaluation did not finish, in words.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    for log in logs:
        if log.status == "cancelled":
            raise KeyboardInterrupt
        if log.status != "success":
            reason = log.error.message if log.error else f"status {log.status}"
            return (
                f"The evaluation {log.eval.task!r} did not finish: {reason}. What was sampled is kept in {folder}; "
                "run the same command again to go on."
            )
    raise KeyboardInterrupt  # Ctrl-C before a task's first sample: Inspect gives no log of it, and no error
