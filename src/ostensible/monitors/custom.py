"""A monitor of the user's own: a Python function from a transcript to a score."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from ostensible.errors import BadData
from ostensible.monitors.views import Suspicion, judged
from ostensible.types import Transcript

Function = Callable[[Transcript], object]


def is_custom(name: str) -> bool:
    """Whether the name of a monitor is `path.py:function`, or was meant to be."""
    return _parts(name)[0].endswith(".py")


def file_of(name: str) -> Path:
    """The file that a monitor is in.

    Raises:
        BadData: It is not there.
    """
    path = Path(_parts(name)[0])
    if not path.is_file():
        raise BadData(f"The monitor {name!r} cannot be used: {path} does not exist or is not a file. Check --monitor.")
    return path


def load(name: str) -> Function:
    """Import a monitor; its module runs as any Python module that is imported.

    Raises:
        BadData: There is no such file or function, or its module cannot be imported.
    """
    path, function = file_of(name), _parts(name)[1]
    if not function:
        raise BadData(f"The monitor {name!r} names no function. Name it after a colon: --monitor {name}:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"ostensible_monitor_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadData(f"The monitor {name!r} cannot be used: {path} is not a Python module.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadData(
            f"The monitor {name!r} cannot be used: importing {path} ends with {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, function, None)
    if not callable(found) or inspect.iscoroutinefunction(found):
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


def _parts(name: str) -> tuple[str, str]:
    """File and function; a name without a function ends in its file."""
    if name.endswith(".py"):
        return name, ""
    path, _, function = name.rpartition(":")
    return path, function
