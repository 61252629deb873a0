"""Writes of a function into files that others may read, as nothing in it takes their right to away."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ostensible.code.static.syntax import Function, dotted, last, literal, permissions

WRITERS = {"write", "writelines"}
DUMPERS = {"dump", "safe_dump", "print"}
WHOLE_FILE = {"write_text", "write_bytes"}
OTHERS = 0o077
"""The bits of everyone but the owner."""
PROTECTING = re.compile(r"chmod|icacls|secure|protect|restrict|permission|_acl$")
"""Names of functions that are given a path and may take rights away; of their own, only chmod's arguments are read."""


def readable_writes(node: Function) -> Iterator[tuple[str, ast.expr]]:
    """What is written into files that are left readable for others, and where those files are opened.

    Yields:
        `unprotected write` with what is written, and `unprotected file` with what names the file.
    """
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    files = _Files(_assigned(node))
    if any(last(call.func) == "umask" and call.args and files.masks(call.args[0]) for call in calls):
        return
    guarded = {path for call in calls for path in files.guarded(call)}
    for name, call in _steps(node):
        if name:
            files.take(name, call)
        for path, written in () if name else files.written(call):
            if _plain(path) not in guarded:
                yield "unprotected write", written
                yield "unprotected file", files.named(_bare(path))


def _steps(node: Function) -> list[tuple[str, ast.Call]]:
    """The calls of a function as they are written; those whose result a variable holds once more, with its name."""
    found: list[tuple[str, ast.Call]] = []
    for one in ast.walk(node):
        match one:
            case ast.withitem(context_expr=ast.Call() as call, optional_vars=ast.Name(id=name)):
                found.append((name, call))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                found.append((name, call))
            case ast.Call():
                found.append(("", one))
            case _:
                pass
    return sorted(found, key=lambda step: (step[1].lineno, step[1].col_offset))


def _assigned(node: Function) -> dict[str, ast.expr]:
    """The variables of a function that are set once, and to what."""
    found = [
        (one.targets[0].id, one.value)
        for one in ast.walk(node)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    ]
    times = Counter(name for name, _ in found)
    return {name: value for name, value in found if times[name] == 1}


@dataclass
class _Files:
    """Files that a function opens for everyone, by the variable that holds them, and what names them."""

    assigned: Mapping[str, ast.expr]
    opened: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])

    def named(self, node: ast.expr) -> ast.expr:
        """What a variable was set to, or the expression itself."""
        return self.assigned.get(node.id, node) if isinstance(node, ast.Name) else node

    def masks(self, mode: ast.expr) -> bool:
        """Whether a mask takes all rights from others; what is not known is believed."""
        bits = permissions(self.named(mode))
        return bits is None or bits & OTHERS == OTHERS

    def restricted(self, mode: ast.expr) -> bool:
        """Whether permissions are for the owner alone; what is not known is believed."""
        bits = permissions(self.named(mode))
        return bits is None or not bits & OTHERS

    def take(self, name: str, call: ast.Call) -> None:
        """A variable holds what this call brings."""
        path = self._path(call)
        self.opened.pop(name, None)
        if path is not None:
            self.opened[name] = path

    def _path(self, call: ast.Call) -> ast.expr | None:
        """What names the file that a call opens to write to it."""
        function = dotted(call.func)
        if function == "os.open" and call.args:
            return None if len(call.args) > 2 and self.restricted(call.args[2]) else call.args[0]
        handle = call.args[0] if call.args else None
        if function in ("os.fdopen", "open") and isinstance(handle, ast.Name) and handle.id in self.opened:
            return self.opened[handle.id]
        if isinstance(handle, ast.Call) and dotted(handle.func) == "os.open":
            return self._path(handle)
        if function == "os.fdopen" or any(word.arg == "opener" for word in call.keywords):
            return None
        given = [*call.args, *(word.value for word in call.keywords)]
        modes = [value for value in given if re.fullmatch(r"[wax][bt+]*", literal(value) or "")]
        if last(call.func) != "open" or not modes:
            return None
        owner = [call.func.value] if isinstance(call.func, ast.Attribute) and given[0] in modes else []
        return next((value for value in [*owner, *given] if value not in modes), None)

    def written(self, call: ast.Call) -> Iterator[tuple[ast.expr, ast.expr]]:
        """What a call writes, after the name of the file that it writes to."""
        name, given = last(call.func), [*call.args, *(word.value for word in call.keywords)]
        if dotted(call.func) == "os.write" and len(given) == 2:
            yield from self._into(given[0], given[1:])
        elif name in WRITERS and isinstance(call.func, ast.Attribute):
            yield from self._into(call.func.value, given)
        elif name in DUMPERS:
            for handle in given:
                yield from self._into(handle, given)
        elif name in WHOLE_FILE and isinstance(call.func, ast.Attribute):
            yield from ((call.func.value, value) for value in given[:1])

    def _into(self, handle: ast.expr, values: list[ast.expr]) -> Iterator[tuple[ast.expr, ast.expr]]:
        match handle:
            case ast.Name(id=name) if name in self.opened:
                yield from ((self.opened[name], value) for value in values if value is not handle)
            case ast.Call() as call if (path := self._path(call)) is not None:
                yield from ((path, value) for value in values)
            case _:
                pass

    def guarded(self, call: ast.Call) -> Iterator[str]:
        """The files whose rights a call takes away."""
        name, given = last(call.func), [*call.args, *(word.value for word in call.keywords)]
        owner = [call.func.value] if isinstance(call.func, ast.Attribute) else []
        if name in ("chmod", "fchmod", "touch"):
            modes = [value for value in given if permissions(value) is not None or name != "touch"]
            if modes and self.restricted(modes[-1]):
                yield from map(_plain, [*owner, *given])
        elif PROTECTING.search(name):
            yield from map(_plain, given)


def _plain(path: ast.expr) -> str:
    """How a path is written."""
    return ast.unparse(_bare(path))


def _bare(path: ast.expr) -> ast.expr:
    """A path without `Path(...)` or `str(...)` around it; for the number of a handle, the handle."""
    match path:
        case ast.Call(func=function, args=[inner]) if last(function) in ("Path", "str", "fspath"):
            return _bare(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="fileno")):
            return _bare(inner)
        case _:
            return path
