"""Runs on Ray, on this machine or on a cluster. The only module that knows Ray."""

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from ostensible import run as runs
from ostensible.errors import BadSettings, ClusterUnavailable, MissingPackage
from ostensible.machine import usable_cores
from ostensible.settings import Machine
from ostensible.sweep.worker import Job, work

LOOK_EVERY_S = 2.0
SAY_EVERY_S = 30.0
"""How long nothing is said where nothing changes."""
LAST_LINES = 8
OBJECT_STORE_BYTES = 100 * 2**20
"""Next to nothing passes through Ray's store; by default it takes a third of the memory."""


@dataclass(frozen=True, slots=True)
class Share:
    """What each run gets of a machine.

    Attributes:
        cpus: And threads.
        gpus: May be a fraction; None is one where the cluster has any, else none.
    """

    cpus: int = 1
    gpus: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that was handed to Ray."""

    job: Job
    number: int
    log_bytes: int

    @property
    def stage(self) -> str | None:
        """What it is at; None while it waits for its turn."""
        return (runs.stage_begun(self.job.folder) or "start") if _size(self.job) > self.log_bytes else None


def execute(
    jobs: Sequence[Job], *, share: Share, address: str | None, retries: int, say: Callable[[str], None]
) -> dict[str, str]:
    """Do runs, as many at once as there is room for; a run that fails is tried again, then left.

    Args:
        jobs: What to do.
        share: CPUs and GPUs of each.
        address: Of a cluster; None starts Ray on this machine, for as long as this takes.
        retries: How often a run is tried again that failed, or whose process died.
        say: Told one line at a time what happens.

    Returns:
        Why it failed, by the name of each run that did.

    Raises:
        MissingPackage: Ray is not installed.
        ClusterUnavailable: No cluster answers at this address.
        BadSettings: No machine has what a run is to get.
    """
    check(share, retries)
    with _cluster(address) as ray:
        cpus, gpus = share.cpus, _fit(ray, share, local=address is None, say=say)
        # A vLLM server takes a GPU for itself.
        engine = "local" if 0 < gpus < 1 else "auto"
        machine = Machine(threads=cpus, device="cuda" if gpus else "cpu", engine=engine)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=0)(work)

        def start(job: Job, number: int) -> tuple[Any, Attempt]:
            return task.remote(job, machine, number), Attempt(job, number, _size(job))

        return _Watch(ray, start, retries, say).until_all_are_done(jobs)


class _Watch:
    """Waits for runs, starts those that failed again, and says how far they are."""

    def __init__(
        self, ray: Any, start: Callable[[Job, int], tuple[Any, Attempt]], retries: int, say: Callable[[str], None]
    ) -> None:
        self.ray, self.start, self.retries, self.say = ray, start, retries, say
        self.open: dict[Any, Attempt] = {}
        self.failed: dict[str, str] = {}
        self.done = 0

    def until_all_are_done(self, jobs: Sequence[Job]) -> dict[str, str]:
        self.open = dict(self.start(job, 1) for job in jobs)
        told, when = "", 0.0
        while self.open:
            for reference in self.ray.wait(list(self.open), timeout=LOOK_EVERY_S)[0]:
                self.end(self.open.pop(reference), _problem(self.ray, reference))
            line = self.progress()
            if line != told or time.monotonic() - when > SAY_EVERY_S:
                self.say(line)
                told, when = line, time.monotonic()
        return self.failed

    def end(self, attempt: Attempt, problem: str) -> None:
        job, tries = attempt.job, f"attempt {attempt.number} of {self.retries + 1}"
        if not problem:
            self.done += 1
            self.say(f"{job.name}: done")
        elif attempt.number <= self.retries:
            self.say(f"{job.name}: {tries} failed, tried again: {problem}")
            reference, again = self.start(job, attempt.number + 1)
            self.open[reference] = again
        else:
            self.failed[job.name] = problem
            last = "".join(f"\n  | {line}" for line in last_lines(job))
            self.say(f"{job.name}: {tries} failed: {problem}\nThe last lines of {job.log}:{last}")

    def progress(self) -> str:
        at = {attempt.job.name: stage for attempt in self.open.values() if (stage := attempt.stage)}
        now = f" ({', '.join(f'{name}: {stage}' for name, stage in at.items())})" if at else ""
        return (
            f"{self.done} done, {len(at)} running{now}, {len(self.open) - len(at)} waiting, {len(self.failed)} failed"
        )


def last_lines(job: Job) -> list[str]:
    """What a run printed last."""
    try:
        return job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []


@contextmanager
def _cluster(address: str | None) -> Generator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's switch for listening on the loopback address only
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # else `uv run` has this folder copied
    import ray  # pyright: ignore[reportMissingImports]

    api: Any = ray
    short = "/tmp" if os.path.isdir("/tmp") else None  # names of Ray's sockets have to fit into some 100 characters
    with TemporaryDirectory(prefix="ray-", dir=short, ignore_cleanup_errors=True) as scratch:
        try:
            _connect(api, address, scratch)
            yield api
        finally:
            api.shutdown()


def _connect(ray: Any, address: str | None, scratch: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address, **quiet)
            return
        ray.init(
            "local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=scratch,
            **quiet,
        )
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        where = f"the cluster at {address}" if address else "Ray on this machine"
        raise ClusterUnavailable(
            f"Cannot work with {where}: {error}. Check --address (auto, HOST:PORT or ray://HOST:PORT) and that Ray and "
            "Python have the same versions there."
        ) from error


def check(share: Share, retries: int) -> None:
    """Make sure that runs can be handed to Ray, which is not started.

    Raises:
        MissingPackage: Ray is not installed.
        BadSettings: No run can have such a share, or be tried so often.
    """
    if share.cpus < 1 or (share.gpus or 0) < 0 or retries < 0:
        raise BadSettings(
            f"A run cannot have {share.cpus} CPUs, {share.gpus or 0:g} GPUs and {retries} retries. --cpus-per-run is "
            "at least 1, --gpus-per-run and --retries are at least 0."
        )
    if find_spec("ray") is None:
        raise MissingPackage(
            "Sweeps run on Ray, and the package ray is not installed. Install it, or the extra `sweep`: "
            "pip install 'ray>=2.60'"
        )


def _fit(ray: Any, share: Share, *, local: bool, say: Callable[[str], None]) -> float:
    """The GPUs that each run gets; a cluster may still grow, this machine may not."""
    machines: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = float(any(one.get("GPU") for one in machines)) if share.gpus is None else share.gpus
    if not any(one.get("CPU", 0) >= share.cpus and one.get("GPU", 0) >= gpus for one in machines):
        has = "; ".join(f"{one.get('CPU', 0):g} CPUs and {one.get('GPU', 0):g} GPUs" for one in machines)
        lack = f"No machine has {share.cpus} CPUs and {gpus:g} GPUs for a run; there are {has}."
        if local:
            raise BadSettings(f"{lack} Lower --cpus-per-run or --gpus-per-run.")
        say(f"{lack} Runs wait until the cluster has one")
    return gpus


def _problem(ray: Any, reference: Any) -> str:
    """Why an attempt failed, also where its process or machine is gone; empty where it did not."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return str(error).strip().splitlines()[-1]
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        return f"its process ended before it could say why ({type(error).__name__}: {first})"


def _size(job: Job) -> int:
    return job.log.stat().st_size if job.log.exists() else 0
