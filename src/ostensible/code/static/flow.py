"""Follows texts through a function: what they are made of, and where each part comes from.

A value is a tuple of literal parts and `Hole`s. Formatting, concatenation and joining are carried out on such tuples,
so that a rule can ask what stands in front of a hole, whatever way the text was built. Analysis stays within a function
and takes its parameters for input from outside, as a snippet's callers are not known. Names are not resolved: a snippet
seldom holds its imports.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from string import Formatter
from typing import get_args

from ostensible.code.static.findings import Finding
from ostensible.code.static.rules import Origin, Rule

REQUEST = re.compile(
    r"(^|\.)request\.(args|form|values|json|data|files|cookies|headers|get_json|get_data|query_params|params|"
    r"match_info|GET|POST|FILES|COOKIES|META|body|query_string|url|path)\b|^sys\.argv$|^(raw_)?input$"
)
OWN = {"self", "cls", "salt", "iv", "nonce"}
"""Parameters that are not input: the object itself, and what should be random is the caller's affair."""
NUMBERS = {"int", "float", "bool", "complex"}
NOT_A_GUARD = {
    "exists",
    "isfile",
    "isdir",
    "is_file",
    "is_dir",
    "isinstance",
    "len",
    "hasattr",
    "get",
    "strip",
    "lower",
}
CHECK = re.compile(r"valid|check|verify|sanit|ensure|assert|relative_to|authori[sz]e", re.IGNORECASE)
PERCENT = re.compile(r"%(?:\((?P<key>[^)]*)\))?[-#0 +]*[\d*]*(?:\.\d+)?(?P<kind>[a-zA-Z%])")
ORIGINS: tuple[Origin, ...] = get_args(Origin)
LOOKUP = re.compile(r"(^|_)(get|find|load|fetch|query|read|select|lookup|retrieve|open|search|create|make)(_|$)")
"""Functions that bring something else than what they are given."""
SAME = {"encode", "decode", "strip", "lstrip", "rstrip", "lower", "upper", "copy", "expanduser", "absolute"}
"""Methods whose result is made of the same parts."""
MOST_PARTS = 100
"""A text of more parts than this is no longer taken apart."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Part of a text that is not a literal.

    Attributes:
        origin: Where it comes from.
        line: Where it is put in.
        names: Variables that it went through.
        through: Functions that it went through.
    """

    origin: Origin
    line: int
    names: frozenset[str] = frozenset()
    through: frozenset[str] = frozenset()


Text = tuple[str | Hole, ...]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def find(tree: ast.Module, rules: Iterable[Rule]) -> set[Finding]:
    """Apply all rules to a module and to each function in it."""
    rules = tuple(rules)
    module = _Scope({}, rules, ())
    module.run(tree.body)
    found = module.found
    waiting = [(node, module.values, module.around) for node in module.inner]
    while waiting:
        node, outer, around = waiting.pop()
        scope = _Scope({**outer, **_parameters(node)}, rules, (*around, node.name))
        scope.guards = _guards(node)
        scope.run(node.body)
        found |= scope.found
        waiting += [(inner, scope.values, scope.around) for inner in scope.inner]
    return found


def _parameters(node: Function) -> dict[str, Text]:
    """Each parameter as input from outside, but for the object itself and for numbers."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one]
    values: dict[str, Text] = {}
    for one in every:
        number = isinstance(one.annotation, ast.Name) and one.annotation.id in NUMBERS
        origin: Origin = "unknown" if number or one.arg in OWN else "parameter"
        through = frozenset({"int"} if number else ())
        values[one.arg] = (Hole(origin, one.lineno, frozenset({one.arg}), through),)
    return values


def _guards(node: Function) -> frozenset[str]:
    """Variables whose content is tested: compared, looked up, or handed to a test other than for existence."""
    names: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.If | ast.IfExp | ast.Assert | ast.While):
            names |= {name for part in ast.walk(inner.test) if _tests_content(part) for name in _names(part)}
        elif isinstance(inner, ast.Call) and CHECK.search(_last(inner.func)):
            names |= _names(inner)
    return frozenset(names)


def _tests_content(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return not _trivial(node)
    return isinstance(node, ast.Call) and _last(node.func) not in NOT_A_GUARD


def _trivial(test: ast.Compare) -> bool:
    """Comparison with None or something empty, or of a length."""
    if any(isinstance(op, ast.Is | ast.IsNot) for op in test.ops):
        return True
    sides = (test.left, *test.comparators)
    return any(isinstance(side, ast.Constant) and not side.value for side in sides) or any(
        isinstance(side, ast.Call) and _last(side.func) == "len" for side in sides
    )


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _dotted(node: ast.expr) -> str:
    """`a.b.c`, with calls and lookups inside left out; empty where there is no name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value)}.{name}".lstrip(".")
        case ast.Call(func=inner) | ast.Subscript(value=ast.expr() as inner):
            return _dotted(inner)
        case ast.Await(value=inner):
            return _dotted(inner)
        case _:
            return ""


def _last(node: ast.expr) -> str:
    return _dotted(node).rpartition(".")[2]


class _Scope:
    """One function's body, statement by statement."""

    def __init__(self, values: Mapping[str, Text], rules: tuple[Rule, ...], around: tuple[str, ...]) -> None:
        self.values = dict(values)
        self.rules = rules
        self.around = around
        self.guards: frozenset[str] = frozenset()
        self.target = ""
        self.known: dict[ast.expr, Text] = {}
        self.inner: list[Function] = []
        self.found: set[Finding] = set()

    def run(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.inner.append(node)
            case ast.ClassDef(body=body):
                self.run(body)
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign([target], value)
            case ast.AugAssign(target=target, op=ast.Add(), value=value):
                self.target = _last(target)
                self._bind(target, self._checked((*self.value(target), *self.value(value)), node.lineno))
            case ast.If(test=test, body=body, orelse=orelse):
                self.value(test)
                self._branches(body, orelse)
            case (
                ast.For(target=target, iter=iterated, body=body) | ast.AsyncFor(target=target, iter=iterated, body=body)
            ):
                self._bind(target, self._mixed([iterated], node.lineno))
                self.run([*body, *node.orelse])
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    value = self.value(item.context_expr)
                    if item.optional_vars:
                        self._bind(item.optional_vars, value)
                self.run(body)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=last):
                for part in (body, *(handler.body for handler in handlers), orelse, last):
                    self.run(part)
            case ast.While(test=test, body=body, orelse=orelse):
                self.value(test)
                self.run([*body, *orelse])
            case ast.Match(subject=subject, cases=cases):
                self.value(subject)
                self._branches(*(case.body for case in cases))
            case ast.Return(value=ast.expr() as value):
                self._judge(value, "return", {0: self.value(value)})
            case _:
                self.target = ""
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)

    def _assign(self, targets: list[ast.expr], value: ast.expr) -> None:
        self.target = _last(targets[0])
        found = self.value(value)
        for target in targets:
            self._bind(target, found)

    def _bind(self, target: ast.expr, value: Text) -> None:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._bind(part, value)
            case ast.Starred(value=inner):
                self._bind(inner, value)
            case ast.Name() | ast.Attribute():
                name = _dotted(target)
                if name in self.guards:
                    self.guards |= {name for part in _holes(value) for name in part.names}
                self.values[name] = tuple(
                    part if isinstance(part, str) else replace(part, names=part.names | {name}) for part in value
                )
            case _:
                pass

    def _branches(self, *bodies: list[ast.stmt]) -> None:
        """Run each branch on its own; where they differ, keep the value that is the most open to the outside."""
        start, ends = self.values, list[dict[str, Text]]()
        for body in bodies:
            self.values = dict(start)
            self.run(body)
            ends.append(self.values)
        names = {name for end in ends for name in end}
        self.values = {name: max((end[name] for end in ends if name in end), key=_openness) for name in names}

    def value(self, node: ast.expr) -> Text:
        """What an expression's text is made of. Rules are applied to the calls in it."""
        if node in self.known:
            return self.known[node]
        parts = self._value(node)
        if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Call) and len(parts) > 1:
            self._checked(parts, node.lineno)
        if len(parts) > MOST_PARTS:
            parts = (_merged(_holes(parts), node.lineno),)
        self.known[node] = parts
        return parts

    def _value(self, node: ast.expr) -> Text:
        match node:
            case ast.Constant(value=bytes() as value):
                return (value.decode("latin-1"),)
            case ast.Constant(value=value):
                return (str(value),)
            case ast.JoinedStr(values=values):
                return tuple(part for value in values for part in self.value(value))
            case ast.FormattedValue(value=value, conversion=conversion, format_spec=spec):
                return _formatted(self.value(value), ast.unparse(spec) if spec else "", conversion == ord("r"))
            case ast.BinOp(op=ast.Add()):
                return self._sum(node)
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                return self._percent(self.value(left), right, node)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return (*self.value(left), "/", *self.value(right))
            case ast.Call():
                return self._call(node)
            case ast.Name(id=name):
                if name in self.values:
                    return self.values[name]
                return (Hole("constant" if name.isupper() else "unknown", node.lineno, frozenset({name})),)
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return self._part_of(node, value)
            case ast.IfExp(body=body, orelse=orelse, test=test):
                self.value(test)
                return max(self.value(body), self.value(orelse), key=_openness)
            case ast.BoolOp(values=values):
                return max(map(self.value, values), key=_openness)
            case ast.Await(value=value) | ast.Starred(value=value):
                return self.value(value)
            case ast.NamedExpr(target=target, value=value):
                found = self.value(value)
                self._bind(target, found)
                return found
            case ast.ListComp(elt=elt) | ast.SetComp(elt=elt) | ast.GeneratorExp(elt=elt):
                for part in node.generators:
                    self._bind(part.target, self._mixed([part.iter], node.lineno))
                return self._mixed([elt], node.lineno, "list")
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) | ast.Dict(values=parts):
                return self._mixed(parts, node.lineno, "list")
            case ast.Compare(left=left, ops=ops, comparators=others):
                texts: dict[int | str, Text] = {n: self.value(side) for n, side in enumerate((left, *others))}
                if isinstance(ops[0], ast.In | ast.NotIn):
                    self._judge(node, "in", texts)
                return (Hole("constant", node.lineno),)
            case ast.Lambda():
                return (Hole("constant", node.lineno),)
            case _:
                inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                return self._mixed(inner, node.lineno)

    def _sum(self, node: ast.BinOp) -> Text:
        """A chain of additions, without a call for each link."""
        links: list[ast.expr] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add):
            links.append(left.right)
            left = left.left
        return tuple(part for link in (left, *reversed(links)) for part in self.value(link))

    def _percent(self, template: Text, right: ast.expr, node: ast.expr) -> Text:
        if not any(isinstance(part, str) for part in template):
            return self._mixed([right], node.lineno)
        values = right.elts if isinstance(right, ast.Tuple) else [right]
        texts = iter([self.value(value) for value in values])
        named = _by_key(right) if isinstance(right, ast.Dict) else {}
        rest = self._mixed([right], node.lineno)
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
                value = self.value(named[match["key"]]) if match["key"] in named else next(texts, rest)
                parts += _formatted(value, match["kind"], match["kind"] == "r")
            parts.append(part[end:])
        return tuple(parts)

    def _call(self, node: ast.Call) -> Text:
        name, dotted = _last(node.func), _dotted(node.func)
        positional = [self.value(value) for value in node.args]
        keywords = {word.arg or "**": self.value(word.value) for word in node.keywords}
        receiver = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else ()
        self._judge(node, dotted, {**dict(enumerate(positional)), **keywords, "self": receiver})
        if REQUEST.search(dotted) and not _from_request(receiver):
            return (Hole("request", node.lineno, frozenset({dotted})),)
        if name == "format" and any(isinstance(part, str) for part in receiver):
            return _format(receiver, positional, keywords)
        if name in ("join", "joinpath") and (re.search(r"\bpath\.join$|joinpath$", dotted)):
            parts = [receiver, *positional] if name == "joinpath" else positional
            return tuple(part for number, text in enumerate(parts) for part in (("/", *text) if number else text))
        if name == "join" and node.args and all(isinstance(part, str) for part in receiver):
            return self._join("".join(map(str, receiver)), node.args[0])
        if name in SAME and receiver:
            return tuple(part if isinstance(part, str) else _through(part, name) for part in receiver)
        if name in ("str", "Path", "PurePath", "bytes") and len(positional) == 1:
            return positional[0]
        given = [part for text in (*positional, *keywords.values()) for part in _holes(text)]
        result = _merged([*_holes(receiver), *given], node.lineno, default="unknown")
        if LOOKUP.search(name) and _openness(receiver) < _openness((result,)):
            result = Hole("unknown", node.lineno)
        return (_through(replace(result, line=node.lineno), name),)

    def _join(self, separator: str, iterable: ast.expr) -> Text:
        """Parts with the separator between them; as if two alike where the number is not known."""
        known = isinstance(iterable, ast.List | ast.Tuple)
        texts = (
            [self.value(part) for part in iterable.elts] if known else [self._mixed([iterable], iterable.lineno)] * 2
        )
        parts = [part for number, text in enumerate(texts) for part in ((separator, *text) if number else text)]
        return tuple(p if isinstance(p, str) else replace(p, through=p.through - {"list"}) for p in parts)

    def _part_of(self, node: ast.expr, whole: ast.expr) -> Text:
        name = _dotted(node)
        if isinstance(node, ast.Attribute) and name in self.values:
            return self.values[name]
        holes = _holes(self.value(whole))
        if REQUEST.search(name) and not _from_request(holes):
            return (Hole("request", node.lineno, frozenset({name})),)
        if isinstance(node, ast.Attribute) and node.attr.isupper():
            return (Hole("constant", node.lineno),)
        merged = _merged(holes, node.lineno)
        file_name = isinstance(whole, ast.Call) and _last(whole.func).endswith("Path") and name.endswith(".name")
        return (_through(merged, "basename") if file_name else merged,)

    def _mixed(self, nodes: Iterable[ast.expr], line: int, through: str = "") -> Text:
        holes = [part for node in nodes for part in _holes(self.value(node))]
        merged = _merged(holes, line)
        return (_through(merged, through) if through else merged,)

    def _checked(self, text: Text, line: int) -> Text:
        """Apply the rules that are about any text."""
        for rule in self.rules:
            if rule.call is None and any(self._offending(rule, text)):
                self.found.add(_finding(rule, line))
        return text

    def _judge(self, node: ast.expr, name: str, arguments: Mapping[int | str, Text]) -> None:
        """Apply the rules that are about a call."""
        source = ""
        for rule in self.rules:
            if rule.call is None or not re.search(rule.call, name):
                continue
            source = source or ast.unparse(node)
            if not re.search(rule.where, source) or (rule.unless and re.search(rule.unless, source)):
                continue
            if not any(re.search(rule.within, around) for around in (*self.around, self.target)):
                continue
            texts = [text for key, text in arguments.items() if not rule.arguments or key in rule.arguments]
            if rule.origin is None or any(self._matches(rule, text) for text in texts):
                self.found.add(_finding(rule, node.lineno))

    def _matches(self, rule: Rule, text: Text) -> bool:
        if rule.origin == "constant":
            return all(isinstance(part, str) or part.origin == "constant" for part in text)
        return any(self._offending(rule, text))

    def _offending(self, rule: Rule, text: Text) -> Iterator[Hole]:
        """Holes of a text that a rule minds."""
        if not _holes(text) or not re.search(
            rule.text, "".join("\0" if isinstance(part, Hole) else part for part in text)
        ):
            return
        least = ORIGINS.index(rule.origin or "unknown")
        before = ""
        for part in text:
            if isinstance(part, str):
                before += part
                continue
            harmless = any(re.search(rule.cleansed_by, name) for name in part.through) or (
                rule.guarded and part.names & self.guards
            )
            if not harmless and ORIGINS.index(part.origin) >= least and re.search(rule.before, before):
                yield part
            before += "\0"


def _holes(text: Text) -> list[Hole]:
    return [part for part in text if isinstance(part, Hole)]


def _from_request(text: Iterable[str | Hole]) -> bool:
    return any(isinstance(part, Hole) and part.origin == "request" for part in text)


def _finding(rule: Rule, line: int) -> Finding:
    return Finding(line, "flow", rule.id, rule.cwe, rule.severity, rule.message)


def _openness(text: Text) -> tuple[int, int]:
    """Order of texts by how much of them is from outside, then by how long they are."""
    return max((ORIGINS.index(part.origin) for part in _holes(text)), default=-1), len(text)


def _merged(holes: list[Hole], line: int, default: Origin = "constant") -> Hole:
    """One hole for many: the worst origin; harmless functions count only where all of the worst went through them."""
    if not holes:
        return Hole(default, line)
    origin = ORIGINS[max(ORIGINS.index(hole.origin) for hole in holes)]
    worst = [hole for hole in holes if hole.origin == origin]
    through = frozenset[str].intersection(*(hole.through for hole in worst))
    return Hole(origin, line, frozenset[str]().union(*(hole.names for hole in worst)), through)


def _through(hole: Hole, name: str) -> Hole:
    return replace(hole, through=hole.through | {name})


def _formatted(value: Text, spec: str, quoted: bool) -> Text:
    """A value as a placeholder shows it: one for numbers lets only numbers pass."""
    names = (["int"] if spec.strip("'\"f")[-1:] in tuple("dxXeEgG") else []) + (["repr"] if quoted else [])
    for name in names:
        value = tuple(part if isinstance(part, str) else _through(part, name) for part in value)
    return value


def _by_key(node: ast.Dict) -> dict[str, ast.expr]:
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _format(template: Text, arguments: list[Text], keywords: Mapping[str, Text]) -> Text:
    """`str.format` on a text whose holes stay what they are."""
    holes = [part for text in (*arguments, *keywords.values()) for part in _holes(text)]
    parts: list[str | Hole] = []
    for part in template:
        if isinstance(part, Hole):
            parts.append(part)
            continue
        try:
            fields = list(Formatter().parse(part))
        except ValueError:
            return (*template, *holes)
        automatic = iter(arguments)
        for literal, field, spec, conversion in fields:
            parts.append(literal)
            if field is None:
                continue
            key = re.split(r"[.\[]", field)[0]
            found = next(automatic, None) if not key else keywords.get(key)
            if key.isdecimal() and int(key) < len(arguments):
                found = arguments[int(key)]
            value = found if found is not None else (_merged(holes, max((hole.line for hole in holes), default=1)),)
            parts += _formatted(value, spec or "", conversion == "r")
    return tuple(parts)
