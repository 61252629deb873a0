"""A monitor of the user's own: a Python function from a transcript to a score."""

import inspect
from collections.abc import Callable
from pathlib import Path

from ostensible import user_code
from ostensible.errors import BadData
from ostensible.monitors.views import Suspicion, judged
from ostensible.types import Transcript

Function = Callable[[Transcript], object]


def is_custom(name: str) -> bool:
    """Whether the name of a monitor is `path.py:function`, or was meant to be."""
    return user_code.is_named(name)


def file_of(name: str) -> Path:
    """The file that a monitor is in.

    Raises:
        BadData: It is not there.
    """
    return user_code.file_of(name, what="monitor")


def load(name: str) -> Function:
    """Import a monitor; its module runs as any Python module that is imported.

    Raises:
        BadData: There is no such file or function, or its module cannot be imported.
    """
    found = user_code.load(name, what="monitor")
    if not callable(found) or inspect.iscoroutinefunction(found):
        path, function = user_code.parts(name)
        raise BadData(
            f"The monitor {name!r} cannot be used: {path} has no plain function {function!r}. It has to take a "
            "transcript (cot, answer) and return a number in [0, 1]."
        )
    return found


def score(function: Function, transcript: Transcript) -> Suspicion:
    """Ask a monitor; where it fails, or gives no number in [0, 1], there is no score but a reason."""
    try:
        return judged(function(transcript))
    except (Exception, SystemExit) as error:
        return Suspicion(None, f"the monitor failed with {type(error).__name__}: {' '.join(str(error).split())[:120]}")
