"""Training on several GPUs: one process for each, under torch's launcher; `train.py` is what each of them runs.

The parent writes the job down, starts the workers (`python -m ostensible.parallel JOB PARENT`) and waits. Only the
first of them speaks and writes. When one fails, the others are stopped and its error is told, once and whole. No worker
outlives its parent: each looks whether it is still there.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ostensible.console import quiet_libraries, say
from ostensible.errors import BadSettings, TrainingFailed
from ostensible.machine import pick_device, set_threads
from ostensible.settings import Machine, TrainSettings
from ostensible.train import TrainJob, last_whole_checkpoint, train

SHARE_OF_MEMORY = 0.7
"""Of a GPU's memory; base weights that take more are sharded, as activations need the rest."""
LOOK_EVERY_S = 0.5
STOP_WITHIN_S = 10
"""How long a worker that is told to stop has, before it is killed."""
LAST_LINES = 20


def check_gpus(settings: TrainSettings, machine: Machine, *, here: bool = True) -> None:
    """Make sure that the GPUs asked for can share a step evenly, and that this machine has them if it is to train.

    Raises:
        BadSettings: It has fewer, or their number does not divide the rows of a step; or layers are to be compiled for
            anything but one GPU.
    """
    if machine.compile_layers and (machine.gpus > 1 or (here and pick_device(machine.device) != "cuda")):
        raise BadSettings("--compile-layers is for training on one CUDA GPU. Leave it out, or --gpus.")
    if machine.gpus == 1:
        return
    rows = 2 * settings.batch_pairs
    if rows % machine.gpus:
        raise BadSettings(
            f"A step has {rows} examples ({settings.batch_pairs} pairs), which {machine.gpus} GPUs cannot share evenly."
            f" Choose --gpus among {_listed(n for n in range(1, rows + 1) if rows % n == 0)}, or other --batch-pairs: "
            "that changes what is learnt, --gpus does not."
        )
    if machine.device == "cpu" or not here:
        return
    import torch

    if machine.device not in ("auto", "cuda"):
        raise BadSettings(f"--gpus {machine.gpus} and --device {machine.device} contradict each other: leave one out.")
    if torch.cuda.device_count() < machine.gpus:
        raise BadSettings(
            f"--gpus {machine.gpus}, but this machine has {torch.cuda.device_count()} GPUs that torch can use. Lower "
            "--gpus, or see CUDA_VISIBLE_DEVICES. With --device cpu that many processes share its cores."
        )


def share(job: TrainJob, machine: Machine) -> TrainJob:
    """Divide a job among a machine's GPUs.

    Raises:
        BadSettings: They cannot share it, or its checkpoints are those of the other way of sharing.
    """
    check_gpus(job.settings, machine)
    sharded = machine.gpus > 1 and (
        machine.parallel == "fsdp" or (machine.parallel == "auto" and job.device != "cpu" and _too_large(job))
    )
    checkpoint = last_whole_checkpoint(job.work_dir)
    if checkpoint and (made := _is_sharded(checkpoint)) != sharded:
        ways = {True: "--parallel fsdp on several GPUs", False: "--parallel ddp, or on one GPU"}
        raise BadSettings(
            f"{checkpoint} was made with {ways[made]}, and only that can go on from it; this is {ways[sharded]}. Go on "
            f"as before, or delete {job.work_dir} to train from the start."
        )
    return replace(job, processes=machine.gpus, sharded=sharded)


def train_together(job: TrainJob, *, say: Callable[[str], None]) -> None:
    """Train in this process, or in as many workers as the job has processes.

    Raises:
        TrainingFailed: A worker ended with an error; the message has all of it.
    """
    if job.processes == 1:
        train(job, say=say)
        return
    say(f"{job.processes} processes share each step, with {'FSDP2' if job.sharded else 'DDP'}")
    with TemporaryDirectory(prefix="ostensible-") as scratch:
        launch(job, ("-m", "ostensible.parallel"), Path(scratch))


def launch(job: TrainJob, worker: Sequence[str], scratch: Path) -> None:
    """Run a job's workers to their end.

    Args:
        job: Of more than one process.
        worker: What Python is given to run one; the job's file and this process's id are added.
        scratch: Folder for that file and for what workers other than the first print.

    Raises:
        TrainingFailed: A worker ended with an error; the message has all of it.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    quiet = dict.fromkeys(range(1, job.processes), Std.ALL)
    later: dict[str, Any] = {"shutdown_timeout": STOP_WITHIN_S}
    if "shutdown_timeout" not in LaunchConfig.__dataclass_fields__:  # torch 2.11: it waits for as long as it sees fit
        later = {}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.processes,
        run_id="train",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs"), redirects=quiet),
        signals_to_handle="SIGTERM",
        **later,
    )
    path = write_job(job, scratch)
    threads = max(1, torch.get_num_threads() // job.processes)
    own = {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_FSDP": str(job.sharded).lower()}
    try:
        with _environment(own), _undisturbed():
            elastic_launch(config, sys.executable)(*worker, str(path), str(os.getpid()))
    except ChildFailedError as error:
        raise TrainingFailed(_failure(error, job, scratch / "logs")) from error
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from error


def write_job(job: TrainJob, folder: Path) -> Path:
    """Write a job down, for a worker to read with `read_job`."""
    path = folder / "job.json"
    path.write_bytes(_jobs().dump_json(_absolute(job)))
    return path


def read_job(path: Path) -> TrainJob:
    """Read a job that `write_job` wrote."""
    return _jobs().validate_json(path.read_bytes())


def work(path: Path) -> None:
    """Do one worker's part of a job."""
    rank = int(os.environ["RANK"])
    job = read_job(path)
    set_threads(int(os.environ["OMP_NUM_THREADS"]))
    train(job, say=say if rank == 0 else _silent)


def live(do: Callable[[Path], None]) -> int:
    """A worker's whole life: its error is written down for the parent, who tells it.

    Args:
        do: Given the job's file, which is the command's last argument but one; the parent's process id is the last.
    """
    path, parent = sys.argv[-2:]
    threading.Thread(target=_end_with_parent, args=(int(parent),), daemon=True).start()
    from torch.distributed import destroy_process_group, is_initialized
    from torch.distributed.elastic.multiprocessing.errors import record

    quiet_libraries()
    try:
        record(do)(Path(path))
    except Exception:  # recorded
        os._exit(1)  # at once: other threads may hang in a collective that the others never join
    if is_initialized():
        destroy_process_group()
    return 0


def _failure(error: Any, job: TrainJob, logs: Path) -> str:
    """What the worker that failed first says of it: its traceback, or the last lines that it printed.

    One that a signal ended (but SIGTERM, by which the launcher stops the others) failed before those that lost their
    connection to it, whatever the times say: it wrote none.
    """
    ends = [(rank, failure) for rank, failure in error.failures.items() if failure.exitcode < 0]
    killed = [one for one in ends if one[1].exitcode != -signal.SIGTERM]
    rank, failure = killed[0] if killed else error.get_first_failure()
    told = failure.error_file_data.get("message", "")
    trace = told.get("extraInfo", {}).get("py_callstack", "") if isinstance(told, dict) else ""
    printed = [line for file in logs.glob(f"*/*/{rank}/stderr.log") for line in file.read_text().splitlines()]
    whole = trace.strip() or "\n".join([failure.message, *printed[-LAST_LINES:]])
    hint = ""
    if "out of memory" in whole:
        hint = "\nLess memory: a smaller --pack-tokens, --gradient-checkpointing, --parallel fsdp, or more --gpus."
    return (
        f"Process {rank} of {job.processes} (0 is the first) failed, exit status {failure.exitcode}; the others were "
        f"stopped. The same command goes on from the last checkpoint.{hint}\n{whole}"
    )


@contextmanager
def _environment(own: dict[str, str]) -> Generator[None]:
    """Give children environment variables."""
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _undisturbed() -> Generator[None]:
    """Keep the launcher's log lines out of the output, and have signals mean afterwards what they meant before."""
    log = logging.getLogger("torch.distributed.elastic")
    level, usual = log.level, signal.getsignal(signal.SIGTERM)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, usual)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)


def _too_large(job: TrainJob) -> bool:
    import torch

    return weight_bytes(job.model_dir, job.dtype) > SHARE_OF_MEMORY * torch.cuda.get_device_properties(0).total_memory


def weight_bytes(folder: Path, dtype: str) -> int:
    """How much memory a model's weights take in an arithmetic; none of them is loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(weight.numel() for weight in model.parameters()) * getattr(torch, dtype).itemsize


def _is_sharded(checkpoint: Path) -> bool:
    return any(checkpoint.glob("pytorch_model_fsdp*"))


def _absolute(job: TrainJob) -> TrainJob:
    paths = {name: getattr(job, name).resolve() for name in ("model_dir", "work_dir", "adapter_dir")}
    return replace(job, **paths)


def _jobs() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(TrainJob)


def _silent(line: str) -> None:
    """Say nothing."""


def _listed(numbers: Sequence[int] | Generator[int]) -> str:
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    sys.exit(live(work))
