"""Texts as tuples of literal parts and holes, and what formatting and merging make of them."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from string import Formatter
from typing import get_args

from ostensible.code.static.rules import Guard, Origin

ORIGINS: tuple[Origin, ...] = get_args(Origin)
MOST_PARTS = 100
"""A text of more parts than this is no longer taken apart."""
MOST_NAMES = 50
"""Of a value that went through more variables than this, the older are forgotten."""
PERCENT = re.compile(r"%(?:\((?P<key>[^)]*)\))?[-#0 +]*[\d*]*(?:\.\d+)?(?P<kind>[a-zA-Z%])")


@dataclass(frozen=True, slots=True)
class Hole:
    """Part of a text that is not a literal.

    Attributes:
        origin: Where it comes from.
        line: Where it is put in.
        names: Variables that it went through.
        through: Functions that it went through.
        guards: What tests have shown of it.
    """

    origin: Origin
    line: int
    names: frozenset[str] = frozenset()
    through: frozenset[str] = frozenset()
    guards: frozenset[Guard] = frozenset()


Text = tuple[str | Hole, ...]


def holes(text: Iterable[str | Hole]) -> list[Hole]:
    """The parts that are not literal."""
    return [part for part in text if isinstance(part, Hole)]


def each(text: Text, change: Callable[[Hole], Hole]) -> Text:
    """The text with every hole changed."""
    return tuple(part if isinstance(part, str) else change(part) for part in text)


def through(text: Text, name: str) -> Text:
    """The text after a function of this name."""
    return each(text, lambda hole: replace(hole, through=hole.through | {name}))


def named(text: Text, name: str) -> Text:
    """The text as the content of a variable."""

    def change(hole: Hole) -> Hole:
        names = hole.names if len(hole.names) < MOST_NAMES else frozenset[str]()
        return replace(hole, names=names | {name})

    return each(text, change)


def names(text: Text) -> set[str]:
    """All variables that a text went through."""
    return {name for hole in holes(text) for name in hole.names}


def from_request(text: Iterable[str | Hole]) -> bool:
    """Whether a part is surely from outside."""
    return any(hole.origin == "request" for hole in holes(text))


def whole(text: Text) -> str | None:
    """The text, if all of it is known."""
    return "".join(part for part in text if isinstance(part, str)) if text and not holes(text) else None


def openness(text: Text) -> tuple[int, bool, int]:
    """Order of texts by how much of them is from outside, by whether it was tested, then by how long they are."""
    found = holes(text)
    worst = max((ORIGINS.index(hole.origin) for hole in found), default=-1)
    return worst, any(not hole.guards for hole in found), len(text)


def merged(found: list[Hole], line: int, default: Origin = "constant") -> Hole:
    """One hole for many: the worst origin; functions and tests count only where all of the worst went through them."""
    if not found:
        return Hole(default, line)
    origin = ORIGINS[max(ORIGINS.index(hole.origin) for hole in found)]
    worst = [hole for hole in found if hole.origin == origin]
    return Hole(
        origin,
        line,
        frozenset[str]().union(*(hole.names for hole in worst)),
        frozenset[str].intersection(*(hole.through for hole in worst)),
        frozenset[Guard].intersection(*(hole.guards for hole in worst)),
    )


def formatted(value: Text, spec: str, quoted: bool) -> Text:
    """A value as a placeholder shows it: one for numbers lets only numbers pass."""
    if spec.strip("'\"f")[-1:] in tuple("dxXeEgG"):
        value = through(value, "int")
    return through(value, "repr") if quoted else value


def percent(template: Text, values: Iterator[Text], keys: Mapping[str, Text], rest: Text) -> Text:
    """`template % values`: of those in order, by key, or whatever there is."""
    parts: list[str | Hole] = []
    for part in template:
        if isinstance(part, Hole):
            parts.append(part)
            continue
        end = 0
        for match in PERCENT.finditer(part):
            parts.append(part[end : match.start()])
            end = match.end()
            if match["kind"] == "%":
                parts.append("%")
                continue
            value = keys[match["key"]] if match["key"] in keys else next(values, rest)
            parts += formatted(value, match["kind"], match["kind"] == "r")
        parts.append(part[end:])
    return tuple(parts)


def braces(template: Text, arguments: list[Text], keywords: Mapping[str, Text]) -> Text:
    """`str.format` on a text whose holes stay what they are."""
    given = [hole for text in (*arguments, *keywords.values()) for hole in holes(text)]
    parts: list[str | Hole] = []
    for part in template:
        if isinstance(part, Hole):
            parts.append(part)
            continue
        try:
            fields = list(Formatter().parse(part))
        except ValueError:
            return (*template, *given)
        automatic = iter(arguments)
        for text, field, spec, conversion in fields:
            parts.append(text)
            if field is None:
                continue
            key = re.split(r"[.\[]", field)[0]
            found = next(automatic, None) if not key else keywords.get(key)
            if key.isdecimal() and int(key) < len(arguments):
                found = arguments[int(key)]
            value = found if found is not None else (merged(given, max((hole.line for hole in given), default=1)),)
            parts += formatted(value, spec or "", conversion == "r")
    return tuple(parts)


def dollars(template: Text, keywords: Mapping[str, Text]) -> Text:
    """`string.Template.substitute` with keywords; of whatever else it is given nothing is seen."""
    for name, value in keywords.items():
        template = replaced(replaced(template, f"${{{name}}}", value), f"${name}", value)
    return template


def replaced(text: Text, old: str, new: Text) -> Text:
    """A text in whose literal parts something else stands for `old`."""
    parts: list[str | Hole] = []
    for part in text:
        pieces = part.split(old) if isinstance(part, str) else [part]
        for number, piece in enumerate(pieces):
            parts += [*new, piece] if number else [piece]
    return tuple(parts)


def by_key(node: ast.Dict) -> dict[str, ast.expr]:
    """The values of a literal dictionary whose keys are literal texts."""
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}
