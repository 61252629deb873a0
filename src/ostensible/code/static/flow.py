"""Follows texts through a function: what they are made of, where each part comes from, and what tests show of it.

A value is a tuple of literal parts and `Hole`s. Formatting, concatenation and joining are carried out on such tuples,
so that a rule can ask what stands in front of a hole, whatever way the text was built. Parameters are taken for input
from outside, as a snippet's callers are not known. Functions of the same module are followed from their call, two deep.
Names are not resolved: a snippet seldom holds its imports.
"""

import ast
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce

from ostensible.code.static.calls import result
from ostensible.code.static.findings import Finding
from ostensible.code.static.guards import (
    HOST,
    NUMBERS,
    PARTS,
    Guards,
    Outcomes,
    both,
    either,
    established,
    guards_of,
    on_return,
)
from ostensible.code.static.matching import matches, offends
from ostensible.code.static.patterns import ambiguous
from ostensible.code.static.rules import Origin, Rule
from ostensible.code.static.secrets_in_files import readable_writes
from ostensible.code.static.syntax import Function, dotted, ends, functions, last, shown, unwritten
from ostensible.code.static.texts import (
    MOST_PARTS,
    Hole,
    Text,
    by_key,
    each,
    formatted,
    from_request,
    holes,
    merged,
    named,
    names,
    openness,
    percent,
    through,
    whole,
)

REQUEST = re.compile(
    r"(^|\.)request\.(args|form|values|json|data|files|cookies|headers|get_json|get_data|query_params|params|"
    r"match_info|GET|POST|FILES|COOKIES|META|body|query_string|url|path)\b|^sys\.argv$|^(raw_)?input$"
)
OWN = re.compile(r"^(self|cls)$|(^|_)(salt|iv|nonce)(_|$)")
"""Parameters that are not input: the object itself, and what should be random is the caller's affair."""
REGEX = re.compile(r"^(re|regex)\.\w+$")
DEEPEST = 2
"""How many calls deep functions of the same module are followed."""
MOST_FOLLOWED = 20_000
"""Nodes of such functions that are read again for their callers, in a module."""


def find(tree: ast.Module, rules: Iterable[Rule]) -> set[Finding]:
    """Apply all rules to a module and to each function in it."""
    module = _Module(tuple(rules), functions(tree))
    top = _Scope(module, {}, ())
    module.values = top.values
    top.run(tree.body)
    module.values = top.values
    waiting = [(node, top) for node in top.inner]
    while waiting:
        node, outer = waiting.pop()
        scope = _Scope(module, {**outer.values, **_parameters(node)}, (*outer.around, node.name), guards=outer.guards)
        scope.run(node.body)
        scope.unread(node)
        scope.left_open(node)
        scope.defaults(node)
        waiting += [(inner, scope) for inner in scope.inner]
    return module.found


def _arguments(node: Function) -> list[ast.arg]:
    arguments = node.args
    rest = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _parameters(node: Function) -> dict[str, Text]:
    """Each parameter as input from outside, but for the object itself and for numbers."""
    values: dict[str, Text] = {}
    for one in _arguments(node):
        number = isinstance(one.annotation, ast.Name) and one.annotation.id in NUMBERS
        origin: Origin = "unknown" if number or OWN.search(one.arg) else "parameter"
        passed = frozenset({"int"} if number else ())
        values[one.arg] = (Hole(origin, one.lineno, frozenset({one.arg}), passed),)
    return values


@dataclass
class _Module:
    """What all functions of a module share."""

    rules: tuple[Rule, ...]
    functions: Mapping[str, Function]
    values: Mapping[str, Text] = field(default_factory=dict[str, Text])
    found: set[Finding] = field(default_factory=set[Finding])
    left: int = MOST_FOLLOWED

    def affords(self, node: Function) -> bool:
        """Whether a function may be followed once more."""
        self.left -= _size(node)
        return self.left >= 0


@cache
def _about(rules: tuple[Rule, ...], name: str) -> tuple[Rule, ...]:
    """The rules about calls of a function."""
    return tuple(rule for rule in rules if rule.call and rule.call.search(name))


def _size(node: ast.AST) -> int:
    return sum(1 for _ in ast.walk(node))


@dataclass(frozen=True, slots=True)
class _Exit:
    """A way out of a function: what it brings, and what is known then."""

    value: Text
    known: Outcomes
    true: bool
    false: bool


@dataclass(frozen=True, slots=True)
class _Summary:
    """What a function does for one call."""

    value: Text
    known: Outcomes


class _Scope:
    """One function's body, statement by statement."""

    def __init__(
        self,
        module: _Module,
        values: Mapping[str, Text],
        around: tuple[str, ...],
        *,
        guards: Guards | None = None,
        depth: int = 0,
    ) -> None:
        self.module = module
        self.values = dict(values)
        self.around = around
        self.guards: Guards = dict(guards or {})
        self.depth = depth
        self.target = ""
        self.tests: dict[str, Outcomes] = {}
        self.known: dict[ast.expr, Text] = {}
        self.followed: dict[ast.Call, _Summary | None] = {}
        self.exits: list[_Exit] = []
        self.inner: list[Function] = []

    def run(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def unread(self, node: Function) -> None:
        """Apply the rules about parameters and parts of a value that a function never looks at."""
        if unwritten(node):
            return
        given = {one.arg: one for one in _arguments(node)}
        taken = {one.id: one for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        read = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
        for name, one in (given | taken).items():
            if name not in read:
                self._judge(one, "unread name", {})

    def left_open(self, node: Function) -> None:
        """Apply the rules about what a function writes into files that others may read."""
        for name, one in readable_writes(node):
            self._judge(one, name, {0: self.value(one)})

    def defaults(self, node: Function) -> None:
        """Apply the rules about values that parameters have where the caller gives none."""
        given = node.args
        ordered = [*given.posonlyargs, *given.args]
        pairs = zip(reversed(ordered), reversed(given.defaults), strict=False)
        for one, value in [*pairs, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
            if value is not None:
                assigned = ast.Assign([ast.Name(one.arg)], value, lineno=one.lineno)
                self._judge(assigned, "default", {0: self.value(value)})

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.inner.append(node)
                for decorator in node.decorator_list:
                    self._judge(decorator, "@", {0: self.value(decorator)})
            case ast.ClassDef(body=body):
                self.run(body)
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value, node)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign([target], value, node)
            case ast.AugAssign(target=target, op=ast.Add(), value=value):
                self.target = last(target)
                self._bind(target, self._checked((*self.value(target), *self.value(value)), node.lineno))
            case ast.If(test=test, body=body, orelse=orelse):
                self.value(test)
                self._branches((established(test, True, self), body), (established(test, False, self), orelse))
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
            case ast.Try():
                self._try(node)
            case ast.While(test=test, body=body, orelse=orelse):
                self.value(test)
                with self._knowing(established(test, True, self)):
                    self.run(body)
                self.run(orelse)
            case ast.Match(subject=subject, cases=cases):
                self.value(subject)
                self._branches(*self._cases(subject, cases))
            case ast.Return(value=value):
                self._return(node, value)
            case ast.Assert(test=test):
                self._judge(node, "assert", {0: self.value(test)})
                self.guards = both(self.guards, established(test, True, self))
            case ast.Expr(value=ast.Call() as call):
                self.target = ""
                self.value(call)
                self.guards = both(self.guards, on_return(call, self, alone=True))
            case _:
                self.target = ""
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)

    def _assign(self, targets: list[ast.expr], value: ast.expr, node: ast.stmt) -> None:
        self.target = last(targets[0])
        found = self.value(value)
        for target in targets:
            if isinstance(target, ast.Subscript) and last(target).endswith("headers"):
                self._judge(node, "header=", {0: found, 1: self.value(target.slice)})
            elif isinstance(value, ast.Constant | ast.Attribute | ast.Name):
                self._judge(node, "=", {0: found})
            self._bind(target, found)
            if isinstance(target, ast.Name) and isinstance(value, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Call):
                self.tests[target.id] = Outcomes({}, established(value, True, self), established(value, False, self))

    def _bind(self, target: ast.expr, value: Text) -> None:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._bind(part, value)
            case ast.Starred(value=inner):
                self._bind(inner, value)
            case ast.Name() | ast.Attribute():
                name = dotted(target)
                self.values[name] = named(self._stamped(value), name)
                self.tests.pop(name, None)
                if name in self.guards:
                    self.guards = {other: kinds for other, kinds in self.guards.items() if other != name}
            case _:
                pass

    def _stamped(self, value: Text) -> Text:
        """The value with what is known of it now, whatever becomes of its variables."""
        if not self.guards:
            return value
        return each(value, partial(_knowing, self.guards))

    def _branches(self, *branches: tuple[Guards, Sequence[ast.stmt]]) -> None:
        """Run each branch knowing what leads there; go on with those whose end is reached.

        Where their values differ, the one is kept that is the most open to the outside.
        """
        values, guards, reached = self.values, self.guards, list[tuple[dict[str, Text], Guards]]()
        for known, body in branches:
            self.values, self.guards = dict(values), both(guards, known)
            self.run(body)
            if not ends(body):
                reached.append((self.values, self.guards))
        if not reached:
            self.values, self.guards = values, guards
        elif len(reached) == 1:
            self.values, self.guards = reached[0]
        else:
            self.guards = reduce(either, (known for _, known in reached))
            self.values = self._joined(reached)

    def _joined(self, reached: list[tuple[dict[str, Text], Guards]]) -> dict[str, Text]:
        """What variables hold after branches, with what only one of them knows."""
        for values, guards in reached:
            for name in guards.keys() & values.keys():
                if guards[name] != self.guards.get(name):
                    values[name] = each(values[name], partial(_knowing, guards))
        first, *others = (values for values, _ in reached)
        for values in others:
            for name, text in values.items():
                if name not in first or (first[name] is not text and openness(text) > openness(first[name])):
                    first[name] = text
        return first

    def _try(self, node: ast.Try) -> None:
        """A failed check that is caught and forgotten has shown nothing."""
        before = self.guards
        self.run([*node.body, *node.orelse])
        after = self.guards
        for handler in node.handlers:
            self.guards = before
            self.run(handler.body)
            if not ends(handler.body):
                after = either(after, self.guards)
        self.guards = after
        self.run(node.finalbody)

    def _cases(self, subject: ast.expr, cases: list[ast.match_case]) -> Iterator[tuple[Guards, Sequence[ast.stmt]]]:
        """What is known in each case, and of the way past all of them."""
        listed: Guards = {name: frozenset({"listed"}) for name in names(self.value(subject))}
        for case in cases:
            patterns = case.pattern.patterns if isinstance(case.pattern, ast.MatchOr) else [case.pattern]
            yield listed if all(isinstance(one, ast.MatchValue) for one in patterns) else {}, case.body
        if not (isinstance(cases[-1].pattern, ast.MatchAs) and cases[-1].pattern.pattern is None):
            yield {}, []

    def _return(self, node: ast.Return, value: ast.expr | None) -> None:
        text = self.value(value) if value else ()
        if value:
            self._judge(value, "return", {0: text})
        if self.depth:
            known = [
                both(self.guards, established(value, way, self)) if value else self.guards for way in (True, False)
            ]
            fixed = value.value if isinstance(value, ast.Constant) else None
            constant = value is None or isinstance(value, ast.Constant)
            true, false = (bool(fixed), not fixed) if constant else (True, True)
            self.exits.append(_Exit(self._stamped(text), Outcomes(self.guards, *known), true, false))

    @contextmanager
    def _knowing(self, more: Guards) -> Generator[None, None, None]:
        """For a while, more is known."""
        before, self.guards = self.guards, both(self.guards, more)
        yield
        self.guards = either(before, self.guards)

    def helper(self, node: ast.Call) -> Outcomes | None:
        """What a function of this module establishes for a call, as `guards` asks it."""
        summary = self._followed(node)
        return summary.known if summary else None

    def _followed(self, node: ast.Call) -> _Summary | None:
        if node not in self.followed:
            self.followed[node] = None
            function = self._definition(node.func)
            if function and self.depth < DEEPEST and self.module.affords(function):
                self.followed[node] = self._follow(node, function)
        return self.followed[node]

    def _definition(self, node: ast.expr) -> Function | None:
        own = isinstance(node, ast.Name) or (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        )
        name = last(node)
        return self.module.functions.get(name) if own and name not in self.around else None

    def _follow(self, node: ast.Call, function: Function) -> _Summary:
        """Run a function on the arguments of a call."""
        given = {name: self._stamped(text) for name, text in self._given(node, function).items()}
        seen = {name for text in given.values() for name in names(text)}
        inside = {name: named(text, name) for name, text in given.items()}
        scope = _Scope(
            self.module, {**self.module.values, **inside}, (*self.around, function.name), depth=self.depth + 1
        )
        scope.run(function.body)
        exits = scope.exits
        if not ends(function.body):
            exits.append(_Exit((), Outcomes(scope.guards, scope.guards, scope.guards), true=False, false=True))
        known = Outcomes(
            _common([one.known.always for one in exits], seen),
            _common([one.known.if_true for one in exits if one.true], seen),
            _common([one.known.if_false for one in exits if one.false], seen),
        )
        value = max((one.value for one in exits), key=openness, default=())
        return _Summary(each(value, lambda hole: replace(hole, names=hole.names & seen, line=node.lineno)), known)

    def _given(self, node: ast.Call, function: Function) -> dict[str, Text]:
        """The arguments of a call by the names of the function's parameters."""
        values = _parameters(function)
        order = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        if isinstance(node.func, ast.Attribute) and order:
            order = order[1:]
        given = {name: self.value(value) for name, value in zip(order, node.args, strict=False)}
        given |= {word.arg: self.value(word.value) for word in node.keywords if word.arg in values}
        missing = {name: (Hole("unknown", node.lineno),) for name in values}
        return missing | given

    def value(self, node: ast.expr) -> Text:
        """What an expression's text is made of. Rules are applied to the calls in it."""
        if node in self.known:
            return self.known[node]
        parts = self._value(node)
        if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Call) and len(parts) > 1:
            self._checked(parts, node.lineno)
        if len(parts) > MOST_PARTS:
            parts = (merged(holes(parts), node.lineno),)
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
                return formatted(self.value(value), ast.unparse(spec) if spec else "", conversion == ord("r"))
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
                return max((self._if(test, True, body), self._if(test, False, orelse)), key=openness)
            case ast.BoolOp(values=values):
                return self._any_of(node, values)
            case ast.Await(value=value) | ast.Starred(value=value):
                return self.value(value)
            case ast.NamedExpr(target=target, value=value):
                found = self.value(value)
                self._bind(target, found)
                return found
            case ast.ListComp(elt=elt) | ast.SetComp(elt=elt) | ast.GeneratorExp(elt=elt):
                return self._comprehended(node.generators, [elt], node.lineno)
            case ast.DictComp(key=key, value=value):
                return self._comprehended(node.generators, [key, value], node.lineno)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) | ast.Dict(values=parts):
                if isinstance(node, ast.Dict) and parts:
                    self._judge(node, "{}", {key: self.value(value) for key, value in by_key(node).items()})
                return self._mixed(parts, node.lineno, "list")
            case ast.Compare(left=left, ops=ops, comparators=others):
                texts: dict[int | str, Text] = {n: self.value(side) for n, side in enumerate((left, *others))}
                if isinstance(ops[0], ast.In | ast.NotIn):
                    self._judge(node, "in", texts)
                elif isinstance(ops[0], ast.Eq | ast.NotEq):
                    self._judge(node, "==", texts)
                return (Hole("constant", node.lineno),)
            case ast.Lambda():
                return (Hole("constant", node.lineno),)
            case _:
                inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                return self._mixed(inner, node.lineno)

    def _if(self, test: ast.expr, outcome: bool, node: ast.expr) -> Text:
        with self._knowing(established(test, outcome, self)):
            return self._stamped(self.value(node))

    def _any_of(self, node: ast.BoolOp, values: list[ast.expr]) -> Text:
        """Each value is looked at only after those before it came out true (`and`) or false (`or`)."""
        before, texts = self.guards, list[Text]()
        for value in values:
            texts.append(self._stamped(self.value(value)))
            self.guards = both(self.guards, established(value, isinstance(node.op, ast.And), self))
        self.guards = either(before, self.guards)
        return max(texts, key=openness)

    def _comprehended(self, generators: list[ast.comprehension], nodes: list[ast.expr], line: int) -> Text:
        before = self.guards
        for part in generators:
            self._bind(part.target, self._mixed([part.iter], line))
            for test in part.ifs:
                self.value(test)
                self.guards = both(self.guards, established(test, True, self))
        text = self._stamped(self._mixed(nodes, line, "list"))
        self.guards = either(before, self.guards)
        return text

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
        keys = {key: self.value(value) for key, value in by_key(right).items()} if isinstance(right, ast.Dict) else {}
        return percent(template, map(self.value, values), keys, self._mixed([right], node.lineno))

    def _call(self, node: ast.Call) -> Text:
        full = dotted(node.func)
        positional = [self.value(value) for value in node.args]
        keywords = {word.arg or "**": self.value(word.value) for word in node.keywords}
        receiver = self._receiver(node.func)
        texts = {**dict(enumerate(positional)), **keywords, "self": receiver}
        self._judge(node, full, texts)
        if REGEX.search(full) and positional and ambiguous(whole(positional[0]) or ""):
            self._judge(node, "ambiguous pattern", texts)
        if REQUEST.search(full) and not from_request(receiver):
            return (Hole("request", node.lineno, frozenset({full})),)
        self.guards = both(self.guards, on_return(node, self, alone=False))
        if (summary := self._followed(node)) and summary.value:
            return summary.value
        if last(node.func) == "join" and node.args and all(isinstance(part, str) for part in receiver):
            return self._join("".join(map(str, receiver)), node.args[0])
        return result(full, node.lineno, receiver, positional, keywords)

    def _receiver(self, function: ast.expr) -> Text:
        match function:
            case ast.Name():
                return ()
            case ast.Attribute(value=value):
                return self.value(value)
            case _:
                return self.value(function)

    def _join(self, separator: str, iterable: ast.expr) -> Text:
        """Parts with the separator between them; as if two alike where the number is not known."""
        known = isinstance(iterable, ast.List | ast.Tuple)
        texts = (
            [self.value(part) for part in iterable.elts] if known else [self._mixed([iterable], iterable.lineno)] * 2
        )
        parts = tuple(part for number, text in enumerate(texts) for part in ((separator, *text) if number else text))
        return each(parts, lambda hole: replace(hole, through=hole.through - {"list"}))

    def _part_of(self, node: ast.Attribute | ast.Subscript, value: ast.expr) -> Text:
        name = dotted(node)
        if isinstance(node, ast.Attribute) and name in self.values:
            return self.values[name]
        inner = holes(self.value(value))
        if REQUEST.search(name) and not from_request(inner):
            return (Hole("request", node.lineno, frozenset({name})),)
        if isinstance(node, ast.Subscript):
            self.value(node.slice)
            found = (merged(inner, node.lineno),)
            return through(found, "slice") if isinstance(node.slice, ast.Slice) else found
        if node.attr.isupper():
            return (Hole("constant", node.lineno),)
        found = (merged(inner, node.lineno),)
        file_name = isinstance(value, ast.Call) and last(value.func).endswith("Path") and node.attr == "name"
        if file_name:
            return through(found, "basename")
        return through(found, node.attr) if node.attr in PARTS | HOST else found

    def _mixed(self, nodes: Iterable[ast.expr], line: int, passed: str = "") -> Text:
        found = (merged([part for node in nodes for part in holes(self.value(node))], line),)
        return through(found, passed) if passed else found

    def _checked(self, text: Text, line: int) -> Text:
        """Apply the rules that are about any text."""
        for rule in self.module.rules if not self.depth else ():
            if rule.call is None and offends(rule, text, self.guards):
                self._report(rule, line)
        return text

    def _judge(self, node: ast.AST, name: str, arguments: Mapping[int | str, Text]) -> None:
        """Apply the rules that are about a call. Code that is followed for its caller has its own turn."""
        source = ""
        for rule in _about(self.module.rules, name) if not self.depth else ():
            if rule.where.pattern or rule.unless:
                source = source or shown(node)
            if not rule.where.search(source) or (rule.unless and rule.unless.search(source)):
                continue
            if not any(rule.within.search(around) for around in (*self.around, self.target)):
                continue
            texts = [text for key, text in arguments.items() if not rule.arguments or key in rule.arguments]
            if rule.named and not any(rule.named.search(one) for text in texts for one in names(text)):
                continue
            if rule.origin is None or any(matches(rule, text, self.guards) for text in texts):
                self._report(rule, getattr(node, "lineno", 1))

    def _report(self, rule: Rule, line: int) -> None:
        self.module.found.add(Finding(line, "flow", rule.id, rule.cwe, rule.severity, rule.message))


def _knowing(known: Guards, hole: Hole) -> Hole:
    return replace(hole, guards=guards_of(hole, known))


def _common(known: list[Guards], about: set[str]) -> Guards:
    """What all ways have shown of some variables; nothing where there is no way."""
    shared = reduce(either, known) if known else {}
    return {name: kinds for name, kinds in shared.items() if name in about}
