"""A user's regular expression on hostile text: checked when it is named, and never given more than a set time.

The library `regex` reads what Python's own `re` does and can be stopped; `re` cannot, so a pattern such as `(a+)+$` on
a reply that was written for it would hang a run for good.
"""

from typing import Any

import regex as _untyped_regex

from ostensible.errors import BadSettings

LIMIT_S = 2.0
"""Most time for one pattern on one text. A plain pattern takes microseconds on a reply."""

_regex: Any = _untyped_regex


class OutOfTime(TimeoutError):
    """A pattern did not come to an end on a text."""


def check_pattern(pattern: str) -> None:
    """See that a pattern can tell one text from another.

    Raises:
        BadSettings: It does not compile, or matches the empty text and so every text.
    """
    try:
        matches_nothing = _regex.compile(pattern).search("") is not None
    except _regex.error as error:
        raise BadSettings(
            f"{pattern!r} is no regular expression: {error}. Quote what is meant literally with \\."
        ) from error
    if matches_nothing:
        raise BadSettings(f"{pattern!r} matches the empty text, so it would find a payload in every answer. Narrow it.")


def spans(pattern: str, text: str, *, limit_s: float = LIMIT_S) -> list[tuple[int, int]]:
    """Where a pattern matches, in order; matches of no character left out.

    Raises:
        OutOfTime: It took longer than `limit_s` seconds.
    """
    try:
        return [found.span() for found in _regex.finditer(pattern, text, timeout=limit_s) if found[0]]
    except TimeoutError as error:
        raise OutOfTime(f"the pattern took more than {limit_s:g} s on this text") from error


def first(pattern: str, text: str, *, limit_s: float = LIMIT_S) -> str | None:
    """What a pattern matches first, or None.

    Raises:
        OutOfTime: As `spans`.
    """
    try:
        found = _regex.search(pattern, text, timeout=limit_s)
    except TimeoutError as error:
        raise OutOfTime(f"the pattern took more than {limit_s:g} s on this text") from error
    return None if found is None else str(found[0])
