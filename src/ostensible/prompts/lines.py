"""Files of one JSON object a line, read line by line: every line that cannot be used is named, or counted."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from ostensible.errors import BadData

Row = dict[str, Any]
Parsed = TypeVar("Parsed")
LONGEST_NAME = 200
"""Characters of an id or a family."""
SHOWN = 20
"""How many bad lines an error names one by one."""


class BadLine(ValueError):
    """Why one line cannot be used: a reason that lines share, and what is particular to this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


def parse_lines(
    path: Path, parse: Callable[[int, Row], Parsed], *, needs: str, skip_bad: bool, dropped: Counter[str]
) -> Iterator[Parsed]:
    """Give what `parse` makes of each line, one at a time; what is wrong is known when all of them are read.

    Args:
        path: UTF-8, one JSON object a line; blank lines are ignored.
        parse: Makes something of a line's number and fields, or raises `BadLine`.
        needs: The fields that a line needs, for an error.
        skip_bad: Count and skip lines that cannot be used.
        dropped: Where they are counted by reason.

    Raises:
        BadData: The file cannot be read, holds nothing usable, or has bad lines and `skip_bad` is off. Every bad line
            is named as `file:line: reason`.
    """
    good = 0
    bad: list[tuple[int, BadLine]] = []
    for number, raw in read_lines(path):
        try:
            parsed = parse(number, parse_object(raw))
        except BadLine as error:
            bad.append((number, error))
            continue
        good += 1
        yield parsed
    if bad and not skip_bad:
        raise BadData(_complaint(path, bad, good=good))
    if not good:
        raise BadData(f"{path} holds no usable line ({len(bad)} bad, 0 good). Each line needs: {needs}.")
    dropped.update(error.reason for _, error in bad)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers.

    Raises:
        BadData: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, raw
    except (OSError, ValueError) as error:  # a path with a zero byte is the latter
        why = getattr(error, "strerror", None) or error
        raise BadData(f"{path} cannot be read: {why}. Check the path after the source's name.") from error


def parse_object(raw: bytes) -> Row:
    """The JSON object of a line.

    Raises:
        BadLine: It holds none.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLine("not UTF-8", f"byte {error.start} of the line") from error
    try:
        row: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLine("not JSON", str(error)) from error
    if not isinstance(row, dict):
        raise BadLine("not a JSON object", type(row).__name__)
    return cast(Row, row)


def text_field(row: Row, name: str, *, blank: bool = False) -> str:
    """A field's text as it stands.

    Raises:
        BadLine: It is missing, no text, or white space only where `blank` is off.
    """
    if name not in row:
        raise BadLine(f"missing field {name!r}")
    value = row[name]
    if not isinstance(value, str):
        raise BadLine(f"field {name!r} is not text", type(value).__name__)
    if not blank and not value.strip():
        raise BadLine(f"empty field {name!r}")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise BadLine(f"field {name!r} holds half a surrogate pair")
    return value


def name_field(row: Row, name: str) -> str:
    """A field that names something: it is shown on terminals and in tables, and names samples in logs.

    Raises:
        BadLine: As `text_field`; or it is too long, or holds what cannot be seen or turns other text around.
    """
    found = text_field(row, name).strip()
    if len(found) > LONGEST_NAME or not found.isprintable():
        reason = f"{len(found)} characters" if len(found) > LONGEST_NAME else f"{found!a} is not all printable"
        raise BadLine(f"field {name!r} is no name", reason)
    return found


def _complaint(path: Path, bad: list[tuple[int, BadLine]], *, good: int) -> str:
    shown = "\n".join(f"  {path}:{number}: {error}" for number, error in bad[:SHOWN])
    more = f"\n  ... and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{len(bad)} of {len(bad) + good} lines cannot be used:\n{shown}{more}\nMend them, or skip them: --skip-bad"
