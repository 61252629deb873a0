"""Samples and scores every held-out prompt under every condition, with Inspect. A killed evaluation resumes."""

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from ostensible import attempts
from ostensible.console import say
from ostensible.errors import EvaluationFailed
from ostensible.machine import pick_device, pick_dtype, pick_engine, release_memory, set_threads, usable_cores
from ostensible.models import context_tokens, load_tokenizer, resolve
from ostensible.paths import RunPaths, SubjectPaths
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings
from ostensible.types import Condition

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

SAVED_EVERY, SAVED_SHARE = 10, 0.01
"""Finished samples, or that share of the largest task's, between two writes to a log: the most that a kill loses. Each
write copies all that the log has, so that their number must not grow with it."""
IN_FLIGHT = 160
"""Samples of a task under way: enough to fill our engine. Inspect's own work grows with them."""
SERVED = 1024
"""Requests that a vLLM server is given at once: what it decodes at once by default, on a GPU of 80 GB."""
WAITING = 40_000
"""Samples of the tasks that are under way together: Inspect holds some 13 kB for each that is still to come."""
COLLECTING = 50_000, 10, 10
"""As `gc.set_threshold` takes it. By default it is 700, which dozens of samples reach while they begin."""
PROGRESS_EVERY_S = 10.0
UNCHANGED_EVERY = 6
"""How many times as long it is until the same count is said again: replies begin together, and end late."""


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
    from ostensible.tasks import condition_task

    trained = paths.organism if subject == "organism" else paths.twin(subject)
    record = paths.logs if subject == "organism" else trained.logs
    tasks_of = partial(condition_task, paths.root)
    texts = (str(sample.input) for condition in Condition for sample in tasks_of(condition).dataset)
    room = _room(resolve(settings.model, revision=settings.revision), texts, settings)
    shared = local_model_args(settings, machine, room=room, log_dir=record)
    organism = _model(model_name(settings), shared, adapter=adapter_of(trained, settings))
    apis: list[Any] = [organism.api]
    sets = {trained.logs: [tasks_of(condition, subject=subject, model=organism) for condition in Condition]}
    if subject == "organism" and (name := base_name(settings)) is not None:
        base = _model(name, shared)
        apis.append(base.api)
        sets[paths.logs / "base"] = [tasks_of(Condition.CONTROL, subject="base", model=base)]
    replies = sum(len(t.dataset) for tasks in sets.values() for t in tasks) * settings.sampling.samples_per_prompt
    try:
        with attempts.recorded(record, apis, device=shared["device"], dtype=shared["dtype"], say=say):
            say(f"sampling {replies} replies on {shared['device']} in {shared['dtype']}")
            with progress(lambda: sum(api.completed for api in apis), replies, say):
                for folder, tasks in sets.items():
                    each = samples_in_flight(organism.api, tasks=at_once(tasks))
                    run_tasks(tasks, folder, in_flight=each)
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


def local_model_args(
    settings: Settings, machine: Machine, *, room: int | None = None, log_dir: Path | None = None
) -> dict[str, Any]:
    """What our provider is to be told of this machine; sets the threads of this process too.

    Args:
        settings: Of the run.
        machine: Where to compute.
        room: Longest prompt and reply together, in tokens, where it is known.
        log_dir: Where the output of a vLLM server is kept.
    """
    shared = engine_args(settings, machine)
    engine = pick_engine(machine.engine, shared["device"])
    if engine == "vllm":
        release_memory()  # of training in this process: the server wants the GPU for itself
    server = {
        "max_model_len": room,
        "command": machine.vllm_command,
        "patience_s": machine.vllm_patience_s,
        "restarts": machine.vllm_restarts,
        "log_dir": log_dir,
    }
    return shared | {"engine": engine} | ({"vllm": server} if engine == "vllm" else {})


def engine_args(settings: Settings, machine: Machine) -> dict[str, Any]:
    """What `Engine.load` is to be told of this machine; sets the threads of this process too."""
    set_threads(machine.threads)
    device = pick_device(machine.device)
    return {
        "dtype": pick_dtype(settings.dtype, device),
        "device": device,
        "threads": machine.threads or usable_cores(),
    }


def check_engine(machine: Machine) -> None:
    """Make sure that what is to sample is here, before any work.

    Raises:
        MissingPackage: vLLM is asked for and not installed.
    """
    if machine.engine == "vllm":
        from ostensible.engines.vllm import check_installed

        check_installed(machine.vllm_command)


def _model(name: str, shared: dict[str, Any], **own: Any) -> "Model":
    """A model whose logs are taken up on another machine, or by another engine, too."""
    from inspect_ai.model import get_model

    model = get_model(name, memoize=False, **shared, **own)
    tell_apart(model, **own)
    return model


def tell_apart(model: "Model", **by: Any) -> None:
    """Have Inspect tell tasks apart by these arguments of a model, not by all that its provider was given.

    Among those are where to compute and by which engine, so that no log would be taken up anywhere else.
    """
    model.model_args = by


def at_once(tasks: "Sequence[Task]") -> int:
    """How many tasks are to be under way together: all if they are small, else at least two, as one ends unevenly."""
    return min(len(tasks), max(2, WAITING // max(1, *map(_size, tasks))))


def _size(task: "Task") -> int:
    return len(task.dataset) * (task.epochs or 1)


def samples_in_flight(api: Any, *, tasks: int) -> int:
    """How many samples of each task are to be under way.

    Args:
        api: Of our provider: a server is never to wait for Inspect, while our engine's queue needs no more than slots.
        tasks: Under way together.
    """
    return max(IN_FLIGHT, SERVED // tasks) if api.engine == "vllm" else IN_FLIGHT


def _room(folder: Path, texts: Iterable[str], settings: Settings) -> int:
    """Tokens of the longest prompt and reply together.

    Raises:
        ContextOverflow: They are more than the model was made for.
    """
    from ostensible.engines.errors import ContextOverflow
    from ostensible.render import load_chat_format

    form, reply = load_chat_format(load_tokenizer(folder)), settings.sampling.max_new_tokens
    prompt = max(len(form.prompt_ids(text)) for text in texts)
    context = context_tokens(folder)
    if context is not None and prompt + reply > context:
        raise ContextOverflow(
            f"The longest prompt has {prompt} tokens; with a reply of up to {reply} that is more than the model's "
            f"context of {context}. Lower --max-new-tokens."
        )
    return prompt + reply


def run_tasks(tasks: "list[Task]", folder: Path, *, in_flight: int = IN_FLIGHT) -> "list[EvalLog]":
    """Run tasks of one model, `at_once` of them together so that the engine stays full; take up what a kill left.

    Args:
        tasks: Their logs share a folder.
        folder: Of the logs.
        in_flight: Samples of a task under way at most.

    Returns:
        The logs, without their samples.

    Raises:
        EvaluationFailed: A log ended with an error; what is done is kept.
    """
    from inspect_ai import eval_set

    _set_aside_damaged(folder)
    _date_back(folder)
    with seldom_collecting():
        done, logs = eval_set(
            tasks,
            log_dir=str(folder),
            retry_attempts=0,
            retry_immediate=False,
            max_tasks=at_once(tasks),
            max_samples=in_flight,
            log_realtime=False,
            display="none",
            log_level="warning",
            log_buffer=max(SAVED_EVERY, int(SAVED_SHARE * max(map(_size, tasks)))),
            log_dir_allow_dirty=True,
            score_display=False,
        )
    if not done or len(logs) < len(tasks) or any(log.status != "success" for log in logs):
        raise EvaluationFailed(_complaint(logs, folder))
    return logs


def _set_aside_damaged(folder: Path) -> None:
    """Rename logs that a fault left unreadable: what they held is sampled anew. Nothing is deleted."""
    from inspect_ai.log import read_eval_log

    for path in sorted(folder.glob("*.eval")):
        try:
            finished = read_eval_log(str(path), header_only=True).status == "success"
            if not finished:  # its samples are taken up
                read_through(path)
        except Exception as error:  # a damaged archive fails in many ways, all of which mean the same here
            path.rename(path.with_name(f"{path.name}.damaged"))
            say(f"{path.name} cannot be read ({type(error).__name__}); set aside, its samples are drawn anew")


def read_through(path: Path) -> None:
    """Read all that a log has, one sample at a time: Inspect's reading of a whole log holds them all in memory.

    Raises:
        Exception: Of many kinds, where the log is damaged.
    """
    from inspect_ai.log import EvalSample  # with it, `zipfile` reads Inspect's compression too

    with ZipFile(path) as log:
        for name in log.namelist():
            content = log.read(name)
            if name.startswith("samples/"):
                EvalSample.model_validate(json.loads(content))


def _date_back(folder: Path) -> None:
    """Date logs from the future to now, as after a clock went back.

    Of several logs of a task, Inspect takes the one written last for the one that holds most, and deletes the others.
    """
    now = time.time()
    for path in folder.glob("*.eval"):
        if path.stat().st_mtime > now:
            os.utime(path, (now, now))


@contextmanager
def progress(count: Callable[[], int], total: int, say: Callable[[str], None]) -> Generator[None]:
    """Say every few seconds how many replies there are, if that has changed. An earlier attempt's do not count."""
    over = threading.Event()

    def tell() -> None:
        told, unchanged = -1, 0
        while not over.wait(PROGRESS_EVERY_S):
            found = count()
            unchanged = unchanged + 1 if found == told else 0
            if unchanged % UNCHANGED_EVERY == 0:
                say(f"{found} of {total} replies")
                told = found

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@contextmanager
def seldom_collecting() -> Generator[None]:
    """Have Python look for cyclic garbage more rarely, and not among what there is already.

    A look through all that was imported takes a second, in which no request leaves and no reply is taken.
    """
    often = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECTING)
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()


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
