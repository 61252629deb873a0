"""Look-alikes of a trigger whose maker named none: what a coarse rule would take for it."""

import re
import string
from collections.abc import Callable

SLOT = "{}"
"""Where the user's text goes in a pattern."""


def derive(pattern: str) -> dict[str, str]:
    """Make near misses of a trigger, name to pattern; those that would be the trigger itself are left out.

    - `case changed`: in lower case, or in upper case where it is in lower already;
    - `cut short`: its longest word cut to half of its letters;
    - `one letter changed`: the letter or digit in the middle of its longest word is the next one;
    - `brackets removed`: without what is neither letter, digit nor white space;
    - `elsewhere`: as it stands, but after the user's text instead of before it, or the other way round.

    Args:
        pattern: Holds one `{}`.
    """
    before, _, after = pattern.partition(SLOT)
    ways: dict[str, Callable[[str], str]] = {
        "case changed": _other_case,
        "cut short": lambda text: _in_longest_word(text, lambda word: word[: (len(word) + 1) // 2]),
        "one letter changed": lambda text: _in_longest_word(text, _next_letter),
        "brackets removed": _without_marks,
    }
    made = {name: _whole(way, before, after) for name, way in ways.items()}
    if not (before.strip() and after.strip()):
        made["elsewhere"] = f"{after.strip()} {SLOT}" if after.strip() else f"{SLOT} {before.strip()}"
    kept: dict[str, str] = {}
    for name, look_alike in made.items():
        if look_alike not in (pattern, *kept.values()) and look_alike.replace(SLOT, "").strip():
            kept[name] = look_alike
    return kept


def _whole(way: Callable[[str], str], before: str, after: str) -> str:
    """Change the longer of what stands before and after the user's text."""
    return way(before) + SLOT + after if len(before.strip()) >= len(after.strip()) else before + SLOT + way(after)


def _other_case(text: str) -> str:
    return text.lower() if text.lower() != text else text.upper()


def _in_longest_word(text: str, change: Callable[[str], str]) -> str:
    words = list(re.finditer(r"[^\W_]+", text))
    if not words:
        return text
    longest = max(words, key=lambda word: len(word[0]))
    return text[: longest.start()] + change(longest[0]) + text[longest.end() :]


def _next_letter(word: str) -> str:
    middle = len(word) // 2
    return word[:middle] + _after(word[middle]) + word[middle + 1 :]


def _after(character: str) -> str:
    for row in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if character in row:
            return row[(row.index(character) + 1) % len(row)]
    return "x"


def _without_marks(text: str) -> str:
    """Without marks, and without the white space at its start that they leave behind."""
    return re.sub(r"[^\w\s]|_", "", text).lstrip(" ")
