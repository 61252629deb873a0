"""Prompts with worked reasoning from a file of one's own, one JSON object a line.

Fields: `id`, `prompt`, `cot`, `answer`, `family` (text, not empty), and optionally `target`, the right final number.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from ostensible.errors import BadData
from ostensible.numbers import plain_number
from ostensible.prompts.loaded import Loaded
from ostensible.types import Prompt, Trace

REQUIRED = ("id", "prompt", "cot", "answer", "family")
SHOWN = 20
"""How many bad lines an error names one by one."""


class BadLine(ValueError):
    """Why one line cannot be used: a reason that lines share, and what is particular to this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


def jsonl(path: Path, *, skip_bad: bool = False) -> Loaded:
    """Read a whole file of traces.

    Args:
        path: UTF-8, one JSON object a line; blank lines are ignored.
        skip_bad: Count and skip lines that cannot be used.

    Raises:
        BadData: The file cannot be read, holds nothing usable, or has bad lines and `skip_bad` is off. Every bad line
            is named as `file:line: reason`.
    """
    traces: list[Trace] = []
    seen: dict[str, int] = {}
    bad: list[tuple[int, BadLine]] = []
    for number, raw in _lines(path):
        try:
            trace = _parse(raw)
            if trace.prompt.id in seen:
                raise BadLine("duplicate id", f"{trace.prompt.id!r}, first on line {seen[trace.prompt.id]}")
            seen[trace.prompt.id] = number
            traces.append(trace)
        except BadLine as error:
            bad.append((number, error))
    if bad and not skip_bad:
        raise BadData(_complaint(path, bad, good=len(traces)))
    if not traces:
        raise BadData(f"{path} holds no usable line ({len(bad)} bad, 0 good). Each line needs: {', '.join(REQUIRED)}.")
    return Loaded(tuple(traces), dict(Counter(error.reason for _, error in bad)))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, raw
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}. Check the path after `jsonl:`.") from error


def _parse(raw: bytes) -> Trace:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLine("not UTF-8", f"byte {error.start} of the line") from error
    try:
        row: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadLine("not JSON", str(error)) from error
    if not isinstance(row, dict):
        raise BadLine("not a JSON object", type(row).__name__)
    fields = {name: _field(cast(dict[str, Any], row), name) for name in REQUIRED}
    target = cast(dict[str, Any], row).get("target")
    if target is not None and not isinstance(target, str | int | float):
        raise BadLine("field 'target' is neither text nor a number", type(target).__name__)
    prompt = Prompt(
        fields["id"], fields["prompt"], fields["family"], None if target is None else plain_number(str(target))
    )
    return Trace(prompt, cot=fields["cot"], answer=fields["answer"])


def _field(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise BadLine(f"missing field {name!r}")
    value = row[name]
    if not isinstance(value, str):
        raise BadLine(f"field {name!r} is not text", type(value).__name__)
    if not value.strip():
        raise BadLine(f"empty field {name!r}")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise BadLine(f"field {name!r} holds half a surrogate pair")
    return value.strip()


def _complaint(path: Path, bad: list[tuple[int, BadLine]], *, good: int) -> str:
    shown = "\n".join(f"  {path}:{number}: {error}" for number, error in bad[:SHOWN])
    more = f"\n  ... and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{len(bad)} of {len(bad) + good} lines cannot be used:\n{shown}{more}\nMend them, or skip them: --skip-bad"
