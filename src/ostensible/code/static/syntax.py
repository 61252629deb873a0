"""Names and shapes of Python code."""

import ast
import stat
from collections.abc import Sequence
from copy import deepcopy

Function = ast.FunctionDef | ast.AsyncFunctionDef
ENDINGS = {"abort", "exit", "_exit", "fail", "die", "quit"}
"""Functions that do not come back."""


def dotted(node: ast.expr) -> str:
    """`a.b.c`, with calls and lookups inside left out; empty where there is no name."""
    names: list[str] = []
    while True:
        match node:
            case ast.Name(id=name):
                names.append(name)
            case ast.Attribute(value=value, attr=name):
                names.append(name)
                node = value
                continue
            case ast.Call(func=inner) | ast.Subscript(value=ast.expr() as inner) | ast.Await(value=inner):
                node = inner
                continue
            case _:
                pass
        return ".".join(reversed(names))


def last(node: ast.expr) -> str:
    """The name behind the last dot."""
    return dotted(node).rpartition(".")[2]


def shown(node: ast.AST) -> str:
    """Source text as rules see it: permissions are one number however they are put together, less those taken away."""
    return ast.unparse(_Modes().visit(deepcopy(node)))


def permissions(node: ast.expr) -> int | None:
    """A file's permissions, however they are put together; None where they are not known."""
    match _Modes().visit(deepcopy(node)):
        case ast.Constant(value=int() as bits):
            return bits
        case _:
            return None


class _Modes(ast.NodeTransformer):
    """`S_IRUSR | S_IWUSR` is 384, and `mode & ~S_IRWXO` is `mode`."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        bits = getattr(stat, node.id, None) if node.id.startswith("S_I") else None
        return ast.Constant(bits) if isinstance(bits, int) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self.visit_Name(ast.Name(node.attr)) if node.attr.startswith("S_I") else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.BinOp(ast.Constant(int() as left), ast.BitOr(), ast.Constant(int() as right)):
                return ast.Constant(left | right)
            case ast.BinOp(kept, ast.BitAnd(), ast.UnaryOp(ast.Invert())):
                return kept
            case ast.BinOp(ast.UnaryOp(ast.Invert()), ast.BitAnd(), kept):
                return kept
            case _:
                return node


def literal(node: ast.expr) -> str | None:
    """The text of a constant that is a text; None of anything else."""
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.Constant(value=bytes() as value):
            return value.decode("latin-1")
        case _:
            return None


def ends(body: Sequence[ast.stmt]) -> bool:
    """Whether what stands below these statements is not reached through them."""
    if not body:
        return False
    match body[-1]:
        case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.Expr(value=ast.Call(func=function)):
            return last(function) in ENDINGS
        case ast.If(body=inner, orelse=orelse):
            return ends(inner) and ends(orelse)
        case ast.With(body=inner) | ast.AsyncWith(body=inner):
            return ends(inner)
        case ast.Try(body=inner, handlers=handlers, orelse=orelse):
            return ends(orelse or inner) and all(ends(handler.body) for handler in handlers)
        case _:
            return False


def unwritten(node: Function) -> bool:
    """Whether a function does nothing, or only says that it is not there."""
    return all(
        isinstance(one, ast.Pass | ast.Raise | ast.Global | ast.Nonlocal)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in node.body
    )


def functions(tree: ast.Module) -> dict[str, Function]:
    """The functions and methods of a module; of those that share a name, none."""
    found: dict[str, Function] = {}
    twice: set[str] = set()
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body):
        if isinstance(node, Function):
            if node.name in found:
                twice.add(node.name)
            found[node.name] = node
    return {name: node for name, node in found.items() if name not in twice}
