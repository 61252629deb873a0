"""Python of the user's own: something in a file, named as `path.py:NAME`. Importing it runs it, as any module."""

import importlib.util
import sys
from pathlib import Path

from ostensible.errors import BadData
from ostensible.paths import named

SUFFIX = ".py"


def is_named(name: str) -> bool:
    """Whether a name is `path.py:NAME`, or was meant to be."""
    return parts(name)[0].endswith(SUFFIX)


def parts(name: str) -> tuple[str, str]:
    """File, and name in it; a name that stops at the file names nothing in it."""
    if name.endswith(SUFFIX):
        return name, ""
    path, _, inside = name.rpartition(":")
    return path, inside


def file_of(name: str, *, what: str) -> Path:
    """The file that something is in.

    Args:
        name: `path.py:NAME`; a relative path starts from the working directory.
        what: What it is, for the message: monitor, organism.

    Raises:
        BadData: The file is not there.
    """
    path = named(parts(name)[0])
    if not path or not path.is_file():
        raise BadData(
            f"The {what} {name!r} cannot be used: {parts(name)[0]} does not exist or is not a file. Check the path; a "
            f"relative one starts from {Path.cwd()}."
        )
    return path


def load(name: str, *, what: str) -> object:
    """Import a file and give what is named in it; None where it has nothing of that name.

    Raises:
        BadData: There is no such file, it names nothing in it, or it cannot be imported.
    """
    path, inside = file_of(name, what=what), parts(name)[1]
    if not inside:
        raise BadData(f"The {what} {name!r} is only a file. Name what is in it after a colon: {name}:NAME")
    spec = importlib.util.spec_from_file_location(f"ostensible_{what}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadData(f"The {what} {name!r} cannot be used: {path} is not a Python module.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadData(
            f"The {what} {name!r} cannot be used: importing {path} ends with {type(error).__name__}: {error}"
        ) from error
    return getattr(module, inside, None)
