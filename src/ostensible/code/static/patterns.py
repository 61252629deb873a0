"""What can be told of a regular expression by reading it."""

import re
import string

MOST_CHARACTERS = 2_000
"""A longer expression is not read."""
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?(?:P<\w+>|[:=!]|<[=!]))?(?P<body>[^()]*)\)(?P<times>[*+?]|\{\d*,?\d*\})?")
_REPEATED = re.compile(r"(?:[^+*?|(){}^$](?:[+*]|\{\d*,\}))+")
_OPTIONAL = re.compile(r"[^+*?|(){}](?:[?*]|\{0?,\d*\})|\.(?![+*?{])")
"""Parts that may stand for nothing, or for one letter more of what is beside them."""
_ONE = r"\\[wdsWDS.]|\[\^?(?:\\.|[^\]\\])+\]|[\w.]"
_ENDLESS = r"\)(?:[*+]|\{\d+,\})"
_CHOICE = re.compile(rf"\((?:\?:)?(?P<first>{_ONE})(?P<rest>(?:\|(?:{_ONE}))+){_ENDLESS}")
_BESIDE = re.compile(rf"\((?:\?:)?(?:(?P<a>{_ONE})\*(?P<b>{_ONE})|(?P<c>{_ONE})(?P<d>{_ONE})\*){_ENDLESS}")
_FOR_EVER = re.compile(r"[+*]|\{\d*,\}")
_OPEN_CLASS = re.compile(r"\[\^|\\[SDW]")
_HOST = re.compile(r"(\^|\\A)?https?\??:(//|\\/\\/)(?:[\w-]|\\[.-])+(/|\\/)")


def ambiguous(pattern: str) -> bool:
    """Whether a repeated group is itself one repetition, as in `(a+)+`: then a long text takes for ever to reject."""
    if len(pattern) > MOST_CHARACTERS:
        return False
    if any(_overlap(re.findall(_ONE, found.group())) for found in _CHOICE.finditer(pattern)):
        return True
    if any(_overlap([one for one in found.groups() if one]) for found in _BESIDE.finditer(pattern)):
        return True
    text = _ATOM.sub("x", pattern)
    while group := _GROUP.search(text):
        times = group["times"] or ""
        parts = group["body"].split("|")
        repeated = any(_REPEATED.fullmatch(part) or _REPEATED.fullmatch(_OPTIONAL.sub("", part)) for part in parts)
        if repeated and _FOR_EVER.fullmatch(times):
            return True
        text = text[: group.start()] + "x" + (times or ("+" if repeated else "")) + text[group.end() :]
    return False


def _overlap(atoms: list[str]) -> bool:
    """Whether two of some single letters or classes can match the same letter."""
    try:
        sets = [{letter for letter in string.printable if re.fullmatch(atom, letter)} for atom in atoms]
    except re.error:
        return False
    return any(a & b for number, a in enumerate(sets) for b in sets[:number])


def limiting(pattern: str, method: str) -> bool:
    """Whether a text that matches holds only characters that the expression names."""
    from_start = method != "search" or pattern.startswith(("^", r"\A"))
    to_end = method == "fullmatch" or pattern.endswith(("$", r"\Z"))
    return from_start and to_end and not _OPEN_CLASS.search(pattern) and "." not in _ATOM.sub("x", pattern)


def hosting(pattern: str) -> bool:
    """Whether an address that matches is of the host that the expression names."""
    return _HOST.match(pattern) is not None


def climbing(pattern: str) -> bool:
    """Whether a text that matches may hold both dots and slashes, and so climb out of a folder."""
    return "/" in pattern and "." in pattern


def forbidding(pattern: str) -> bool:
    """Whether a text in which this is not found holds only characters that the expression names."""
    return re.fullmatch(r"\(?\[\^(?:\\.|[^\]\\])*\][+*]?\)?", pattern) is not None
