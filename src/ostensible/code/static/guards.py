"""What a test shows of the values in it, given how it turned out, and how much that is worth.

Kinds of knowledge are told apart, as a test is good for one use and useless for another: a name that stays in its
folder may still hold a command. A test that shows nothing of use (that a file exists, that a name ends in `.txt`, that
a bad word is missing) establishes nothing.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol, get_args

from ostensible.code.static.patterns import climbing, forbidding, hosting, limiting
from ostensible.code.static.rules import Guard
from ostensible.code.static.syntax import dotted, last, literal
from ostensible.code.static.texts import Hole, Text, from_request, holes, names, whole

Guards = dict[str, frozenset[Guard]]
"""By variable."""
CHECK = re.compile(
    r"valid|safe|secure|check|verif|sanit|ensure|assert|allow|permit|inside|within|under|trust|legal|authori[sz]|digest|"
    r"^(is|has|can|in|may)_|accept|local|whitelist|require",
    re.IGNORECASE,
)
"""Names of functions that are taken for good tests where their code is not seen."""
BLOCK = re.compile(
    r"invalid|insecure|unsafe|illegal|private|block|forbid|malicious|danger|bad|deny|reject", re.IGNORECASE
)
"""Those that are good tests where the answer is no."""
NO_CHECK = re.compile(
    r"^(is_?(file|dir|absolute|abs|link|symlink|mount|instance)|check_(output|call)|exists|has_?attr)$"
)
SHAPES = {"isalnum", "isalpha", "isdigit", "isdecimal", "isnumeric", "isidentifier"}
NUMBERS = {"int", "float", "bool", "complex"}
HOST = {"hostname", "netloc"}
CASTS = {*NUMBERS, "UUID", "ip_address", "ip_network", "IPv4Address", "IPv6Address", "inet_aton", "inet_pton"}
"""Functions that fail on whatever is not what they are named after."""
TEXTUAL = {"str", "bytes", "bytearray", "dict", "list", "tuple", "set", "object", "Mapping", "Sequence", "Iterable"}
"""Types of which anything may be."""
NORMALISING = {"realpath", "resolve", "abspath", "normpath"}
PARTS = {
    "scheme",
    "port",
    "query",
    "path",
    "suffix",
    "splitext",
    "split",
    "rsplit",
    "partition",
    "rpartition",
    "guess_type",
}
"""What brings only a part of a value, which says nothing of the rest."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a call or a test establishes: that it came back at all, with something true, or with something false."""

    always: Guards = field(default_factory=Guards)
    if_true: Guards = field(default_factory=Guards)
    if_false: Guards = field(default_factory=Guards)


class Reader(Protocol):
    """What is known where a test stands."""

    tests: dict[str, Outcomes]
    """What variables stand for that hold the outcome of a test."""

    def value(self, node: ast.expr) -> Text: ...

    def helper(self, node: ast.Call) -> Outcomes | None:
        """What a function of the same module establishes."""
        ...


def both(a: Guards, b: Guards) -> Guards:
    """What is known where both hold."""
    return a | {name: a.get(name, frozenset()) | kinds for name, kinds in b.items()} if b else a


def either(a: Guards, b: Guards) -> Guards:
    """What is known where one of them holds."""
    return {name: kinds & b[name] for name, kinds in a.items() if name in b and kinds & b[name]}


def established(test: ast.expr, outcome: bool, reader: Reader) -> Guards:
    """What a test shows that came out true, or false."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return established(inner, not outcome, reader)
        case ast.BoolOp(op=op, values=values):
            join = both if isinstance(op, ast.And) == outcome else either
            return reduce(join, (established(value, outcome, reader) for value in values))
        case ast.NamedExpr(value=value) | ast.Await(value=value):
            return established(value, outcome, reader)
        case ast.Name(id=name) if name in reader.tests:
            return reader.tests[name].if_true if outcome else reader.tests[name].if_false
        case ast.Compare(left=left, ops=ops, comparators=others) if outcome or len(ops) == 1:
            sides = zip((left, *others), ops, others, strict=False)
            return reduce(both, (_compared(a, op, b, outcome, reader) for a, op, b in sides))
        case ast.Call():
            return _answered(test, outcome, reader)
        case ast.Attribute(value=value, attr="netloc" | "hostname") if not outcome:
            return _any_about(value, "inside", reader)
        case ast.Attribute(value=value, attr="is_private" | "is_global" as name) if outcome == (name == "is_global"):
            return _about(value, "listed", reader)
        case _:
            return {}


def on_return(call: ast.Call, reader: Reader, *, alone: bool) -> Guards:
    """What a call shows by coming back, as its function raises an error on bad values.

    Args:
        call: The call.
        reader: What is known before it.
        alone: Its result is not used, so that it stands there for its errors.
    """
    name = last(call.func)
    if name == "relative_to" and isinstance(call.func, ast.Attribute):
        return _normalised(call.func.value, reader)
    if found := reader.helper(call):
        return found.always
    if alone and (name in CASTS or (CHECK.search(name) and not NO_CHECK.search(name))):
        return _all_about(call.args, "listed", reader)
    return {}


def _about(node: ast.expr, kind: Guard, reader: Reader) -> Guards:
    """The variables that a test of this expression tells of."""
    text = reader.value(node)
    passed = frozenset[str]().union(*(hole.through for hole in holes(text)))
    if "commonprefix" in passed or ("commonpath" in passed and not passed & NORMALISING):
        return {}
    if "scheme" in passed:
        return _any_about(node, "web", reader)
    if passed & PARTS and not passed & HOST:
        return {node.id: _implied(kind)} if isinstance(node, ast.Name) else {}
    return {name: _implied(kind) for hole in holes(text) for name in hole.names}


def _implied(kind: Guard) -> frozenset[Guard]:
    """Of a value that is one of a list, all else is known too."""
    return frozenset(get_args(Guard) if kind == "listed" else {kind})


def _any_about(node: ast.expr, kind: Guard, reader: Reader) -> Guards:
    """The variables that a test of all pieces of this expression tells of."""
    return {name: _implied(kind) for name in names(reader.value(node))}


def _all_about(nodes: list[ast.expr], kind: Guard, reader: Reader) -> Guards:
    return reduce(both, (_about(node, kind, reader) for node in nodes), Guards())


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, outcome: bool, reader: Reader) -> Guards:
    match op:
        case ast.In() | ast.NotIn():
            return _looked_up(left, right, isinstance(op, ast.In) == outcome, reader)
        case ast.Eq() | ast.NotEq():
            return _equal(left, right, isinstance(op, ast.Eq) == outcome, reader)
        case ast.Is() | ast.IsNot():
            empty = isinstance(right, ast.Constant) and right.value is None
            return established(left, isinstance(op, ast.IsNot) == outcome, reader) if empty else {}
        case _:
            subset = isinstance(op, ast.LtE) and outcome and isinstance(left, ast.Call) and last(left.func) == "set"
            return _about(left, "listed", reader) if subset else {}


def _looked_up(part: ast.expr, whole: ast.expr, found: bool, reader: Reader) -> Guards:
    """`part in whole`. A list of what is forbidden shows nothing, but for what climbs and for line breaks."""
    text = literal(part)
    if isinstance(whole, ast.Attribute) and whole.attr == "parents":
        return _normalised(whole.value, reader) if found else {}
    if text is None:
        return _about(part, "listed", reader) if found and not from_request(reader.value(whole)) else {}
    return {} if found else _absent(text, whole, reader)


def _absent(text: str, whole: ast.expr, reader: Reader) -> Guards:
    """What it shows that a text is not in a value."""
    if ".." in text or text in ("/", "\\"):
        return _any_about(whole, "inside", reader)
    if "\n" in text or "\r" in text:
        return _any_about(whole, "lines", reader)
    return {}


def _equal(left: ast.expr, right: ast.expr, equal: bool, reader: Reader) -> Guards:
    sides = (left, right)
    if any(isinstance(side, ast.Constant) and not side.value for side in sides):
        return {}
    if any(isinstance(side, ast.Call) and last(side.func) == "len" for side in sides):
        return {}
    if not equal:
        climbs = any(literal(side) == ".." for side in sides)
        return reduce(both, (_any_about(side, "inside", reader) for side in sides)) if climbs else {}
    common = [side for side in sides if isinstance(side, ast.Call) and last(side.func) == "commonpath"]
    return both(_all_about([*sides], "listed", reader), _all_inside(common, reader))


def _all_inside(calls: list[ast.Call], reader: Reader) -> Guards:
    """What it shows that some paths have a folder in common, of those that were normalised."""
    paths = [path for call in calls if call.args for path in getattr(call.args[0], "elts", ())]
    return reduce(both, (_normalised(path, reader) for path in paths), Guards())


def _answered(call: ast.Call, outcome: bool, reader: Reader) -> Guards:
    """What a call shows by what it brings."""
    name = last(call.func)
    if name == "bool" and call.args:
        return established(call.args[0], outcome, reader)
    if name in ("all", "any") and call.args and isinstance(call.args[0], ast.GeneratorExp | ast.ListComp):
        return _of_elements(call.args[0], outcome, outcome == (name == "all"), reader)
    if name == "isinstance" and len(call.args) == 2:
        kinds = call.args[1].elts if isinstance(call.args[1], ast.Tuple) else [call.args[1]]
        textual = any(last(kind) in TEXTUAL for kind in kinds)
        return _about(call.args[0], "listed", reader) if outcome and not textual else {}
    if isinstance(call.func, ast.Attribute):
        known = METHODS.get("shape" if name in SHAPES else name)
        if known:
            return known(call, call.func.value, outcome, reader)
    if found := reader.helper(call):
        return both(found.always, found.if_true if outcome else found.if_false)
    if NO_CHECK.search(name) or not (BLOCK if not outcome else CHECK).search(name) or (outcome and BLOCK.search(name)):
        return {}
    receiver = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return _all_about([*receiver, *call.args, *(word.value for word in call.keywords)], "listed", reader)


def _of_elements(test: ast.GeneratorExp | ast.ListComp, outcome: bool, every: bool, reader: Reader) -> Guards:
    """What a test of elements shows: of only one of them it tells nothing of the others, but of what is beside them."""
    found = established(test.elt, outcome, reader)
    if every:
        return found if outcome else both(found, _without(test, reader))
    elements = {name for part in test.generators for name in names(reader.value(part.target))}
    return {name: kinds for name, kinds in found.items() if name not in elements}


def _without(test: ast.GeneratorExp | ast.ListComp, reader: Reader) -> Guards:
    """What it shows that none of some known texts is in a value, as of `any(c in value for c in "\\r\\n")`."""
    match test:
        case ast.GeneratorExp(
            elt=ast.Compare(left=ast.Name(id=name), ops=[ast.In()], comparators=[whole]),
            generators=[ast.comprehension(target=ast.Name(id=element), iter=among)],
        ) if name == element:
            text = literal(among)
            parts = list(text) if text else [literal(one) for one in getattr(among, "elts", ())]
            return reduce(both, (_absent(part, whole, reader) for part in parts if part), Guards())
        case _:
            return {}


def _shape(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    return _about(receiver, "listed", reader) if outcome else {}


def _printable(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    return _about(receiver, "lines", reader) if outcome else {}


def _starts(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    """A prefix is worth something where the path was normalised, or where it holds an address' whole host."""
    if not call.args:
        return {}
    given = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
    prefixes = [literal(one) or "" for one in given]
    if not outcome:
        return _any_about(receiver, "inside", reader) if any(one in ("//", "..", "../") for one in prefixes) else {}
    if all(re.match(r"https?://[^/]+/", prefix) for prefix in prefixes):
        return _about(receiver, "inside", reader)
    if all(re.match(r"https?:|/", prefix) for prefix in prefixes):
        return both(_about(receiver, "web", reader), _normalised(receiver, reader))
    return _normalised(receiver, reader)


def _ends(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    """The end of a host is worth something where it begins with a dot."""
    suffix = reader.value(call.args[0])[:1] if call.args else ()
    passed = {name for hole in holes(reader.value(receiver)) for name in hole.through}
    dot = suffix and isinstance(suffix[0], str) and suffix[0].startswith(".")
    return _about(receiver, "listed", reader) if outcome and dot and passed & HOST else {}


def _relative(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    return _normalised(receiver, reader) if outcome else {}


def _subset(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    return _about(receiver, "listed", reader) if outcome else {}


def _matched(call: ast.Call, receiver: ast.expr, outcome: bool, reader: Reader) -> Guards:
    """A regular expression is worth something where it describes the whole text."""
    method = last(call.func)
    own = dotted(receiver) not in ("re", "regex")
    if len(call.args) < 2 - own:
        return {}
    pattern, subject = (reader.value(receiver), call.args[0]) if own else (reader.value(call.args[0]), call.args[1])
    text = whole(pattern)
    if text is None:
        return _about(subject, "listed", reader) if outcome and method != "search" else {}
    if not outcome:
        return _unmatched(text, method, subject, reader)
    if not limiting(text, method):
        return _about(subject, "inside", reader) if hosting(text) else {}
    return _about(subject, "plain" if climbing(text) else "listed", reader)


def _unmatched(pattern: str, method: str, subject: ast.expr, reader: Reader) -> Guards:
    if method != "search":
        return {}
    if re.fullmatch(r"(\[?(\\[rn]|[\r\n])+\]?\|?)+", pattern):
        return _about(subject, "lines", reader)
    if forbidding(pattern):
        return _about(subject, "plain" if climbing(pattern) else "listed", reader)
    return _about(subject, "inside", reader) if r"\.\." in pattern else {}


def _normalised(path: ast.expr, reader: Reader) -> Guards:
    """Only of a path without `..` in it does a prefix tell where it leads; so too of an address that was resolved."""
    normal = any(hole.through & {*NORMALISING, "urljoin"} for hole in holes(reader.value(path)))
    return _about(path, "inside", reader) if normal else {}


METHODS: dict[str, Callable[[ast.Call, ast.expr, bool, Reader], Guards]] = {
    "shape": _shape,
    "isprintable": _printable,
    "startswith": _starts,
    "endswith": _ends,
    "is_relative_to": _relative,
    "issubset": _subset,
    "match": _matched,
    "fullmatch": _matched,
    "search": _matched,
}
"""Methods whose worth as a test is known."""


def guards_of(hole: Hole, known: Guards) -> frozenset[Guard]:
    """What is known of a part of a text."""
    return hole.guards.union(*(known[name] for name in hole.names if name in known)) if known else hole.guards
