"""What well-known functions make of texts, and what is thought of the others."""

import re
from collections.abc import Mapping
from dataclasses import replace

from ostensible.code.static.guards import NORMALISING
from ostensible.code.static.patterns import climbing, forbidding
from ostensible.code.static.rules import Guard
from ostensible.code.static.texts import Hole, Text, braces, dollars, holes, merged, openness, replaced, through, whole

LOOKUP = re.compile(r"(^|_)(get|find|load|fetch|query|read|select|lookup|retrieve|open|search|create|make)(_|$)")
"""Functions that bring something else than what they are given."""
ARCHIVE = re.compile(r"^(tarfile|zipfile|gzip|bz2|lzma)\.")
"""Functions whose result is as much from outside as what they unpack."""
SAME = {"encode", "decode", "strip", "lstrip", "rstrip", "lower", "upper", "copy", "expanduser", "absolute"}
"""Methods whose result is made of the same parts."""
FIXED = {"bytes", "bytearray", "fromhex", "unhexlify", "b64decode", "replace", "ljust", "rjust", "zfill", "get", "len"}
"""Functions that bring always the same for the same constants."""


def result(full: str, line: int, receiver: Text, positional: list[Text], keywords: Mapping[str, Text]) -> Text:
    """What a function is known, or thought, to make of what it is given.

    Args:
        full: Its dotted name.
        line: Where it is called.
        receiver: The object whose method it is.
        positional: Its arguments in order.
        keywords: Its arguments by name.
    """
    name = full.rpartition(".")[2]
    if name == "format" and any(isinstance(part, str) for part in receiver):
        return braces(receiver, positional, keywords)
    if name in ("join", "joinpath") and re.search(r"\bpath\.join$|joinpath$", full):
        parts = [receiver, *positional] if name == "joinpath" else positional
        return tuple(part for number, text in enumerate(parts) for part in (("/", *text) if number else text))
    if name in ("Path", "PurePath") and len(positional) > 1:
        return tuple(part for number, text in enumerate(positional) for part in (("/", *text) if number else text))
    if name == "Template" and positional and any(isinstance(part, str) for part in positional[0]):
        return positional[0]
    if name in ("substitute", "safe_substitute"):
        return dollars(receiver, keywords)
    if name == "replace" and len(positional) == 2 and _holds(receiver, positional[0]) and holes(positional[1]):
        return replaced(receiver, whole(positional[0]) or "", positional[1])
    if name in SAME and receiver:
        return through(receiver, name)
    if name in NORMALISING and (positional or receiver):
        return through(positional[0] if positional else receiver, name)
    if name in ("str", "Path", "PurePath", "bytes") and len(positional) == 1:
        return positional[0]
    if full == "re.compile" and positional and whole(positional[0]):
        return positional[0]
    given = [part for text in (*positional, *keywords.values()) for part in holes(text)]
    made = merged([*holes(receiver), *given], line, default="unknown")
    if made.origin == "constant" and name not in FIXED:
        made = replace(made, origin="unknown")
    if name == "escape" and keywords.get("quote") == ("False",):
        return through((made,), "unquoted")
    if name == "replace" and len(positional) == 2 and (whole(positional[1]) or "").startswith(("&", "\\")):
        return through((made,), "escape")
    if name == "sub" and positional and forbidding(whole(positional[0] or receiver) or ""):
        kinds: frozenset[Guard] = frozenset({"plain"} if climbing(whole(positional[0]) or "") else {"listed"})
        return (replace(made, guards=made.guards | kinds),)
    if LOOKUP.search(name) and not ARCHIVE.search(full) and openness(receiver) < openness((made,)):
        made = Hole("unknown", line)
    return through((replace(made, line=line),), name)


def _holds(text: Text, sought: Text) -> bool:
    """Whether a known text is in a literal part of another."""
    known = whole(sought)
    return bool(known) and any(isinstance(part, str) and known in part for part in text)
