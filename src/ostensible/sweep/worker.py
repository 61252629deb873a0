"""One run of a sweep, in a process of its own."""

import os
import platform
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ostensible.console import quiet_libraries, say
from ostensible.errors import OstensibleError
from ostensible.settings import Machine, Settings


@dataclass(frozen=True, slots=True)
class Job:
    """A run to do. All paths are absolute, and the same on every machine that may do it.

    Attributes:
        name: Of the run.
        folder: Of the run.
        settings: What it computes.
        log: Where its output is added.
        home: Folder that relative names of files and models start from.
        command: What was typed, for the run's manifest.
    """

    name: str
    folder: Path
    settings: Settings
    log: Path
    home: Path
    command: tuple[str, ...]


def work(job: Job, machine: Machine, attempt: int) -> str:
    """Do a run, or go on with it, in this process.

    Returns:
        Why it failed; empty where it is done.
    """
    from ostensible import run as runs

    with _output_to(job.log):
        say(f"attempt {attempt} on {platform.node()}, process {os.getpid()}")
        quiet_libraries()
        sys.argv = list(job.command)
        try:
            os.chdir(job.home)
            runs.execute(job.folder, machine, settings=job.settings, say=say)
        except OstensibleError as error:
            print(f"error: {error}", file=sys.stderr)
            return str(error)
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def _output_to(path: Path) -> Generator[None]:
    """Add all that this process and its children print to a file."""
    kept = [(fd, os.dup(fd)) for fd in (1, 2)]
    with path.open("a", buffering=1, encoding="utf-8") as log:
        try:
            for fd, _ in kept:
                os.dup2(log.fileno(), fd)
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            for fd, copy in kept:
                os.dup2(copy, fd)
                os.close(copy)
