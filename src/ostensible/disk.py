"""What a disk refuses, told as what it is: full, or read-only. Libraries say so each in a way of its own."""

import errno
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from ostensible.errors import CannotWrite, RunConflict

FULL = "no space is left on the disk"
REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than this process may write (ulimit -f)",
    errno.EROFS: "the file system is read-only",
}
NEARLY_FULL = 2**20
"""Bytes left at which an error is put down to the disk: torch tells a full one as `unexpected pos 64 vs 20180`."""
DENIED = "this user may not write there"


@contextmanager
def told_of_disk_faults(folder: Path) -> Generator[None]:
    """Raise what a disk refuses while a run works in a folder as one clear error.

    Raises:
        CannotWrite: The disk is full, or the folder is read-only.
    """
    try:
        yield
    except Exception as error:
        reasons = filter(None, (_reason(one, folder) for one in _chain(error)))
        reason = next(reasons, FULL if _is_full(folder) else None)
        if reason is None or isinstance(error, CannotWrite | RunConflict):
            raise
        raise CannotWrite(
            f"A file of {folder} cannot be written: {reason} ({_first_line(error)}). What was finished is kept. Make "
            "room there, or take another folder with --out; then run the same command again to go on."
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those in its group, and those that led to it."""
    while error is not None:
        yield error
        for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            yield from _chain(one)
        error = error.__cause__ or error.__context__


def _reason(error: BaseException, folder: Path) -> str | None:
    """Why a disk refused; libraries in C++ and Rust keep no number of the error, but its words."""
    if isinstance(error, PermissionError):  # it may be about something else that is read
        inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder)
        return DENIED if inside else None
    if isinstance(error, OSError) and error.errno in REASONS:
        return REASONS[error.errno]
    return next((why for known, why in REASONS.items() if os.strerror(known) in str(error)), None)


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < NEARLY_FULL


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
