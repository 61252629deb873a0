"""What a result came from: hashes of inputs, the code that computed it, versions of libraries."""

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ostensible import tables
from ostensible.errors import CorruptRun
from ostensible.models import sha256
from ostensible.paths import RunPaths

MANIFEST_VERSION = 1
PACKAGE = Path(__file__).parent
DATA_FILES = {".jinja", ".css", ".js"}
"""Files beside a module that are part of what it does."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "inspect-ai", "reasoning-gym")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what a run was made from.

    Raises:
        CorruptRun: It is damaged, or of another version of this package.
    """
    remedy = f"Any stage that is done writes it anew: {RunPaths(path.parent).command('analyse', '--again')}"
    manifest = tables.read_json(path, dict, remedy=remedy)
    if manifest.get("version") != MANIFEST_VERSION:
        raise CorruptRun(
            f"{path} is a manifest of version {manifest.get('version')!r}, not {MANIFEST_VERSION}: another version of "
            f"ostensible wrote it. {remedy}"
        )
    return manifest


def code_version(modules: Iterable[str]) -> str:
    """Hash the source of modules and of every module of this package that they import, directly or not.

    Args:
        modules: Dotted names such as `ostensible.train`.
    """
    digest = hashlib.sha256()
    for module in sorted(_closure(tuple(modules))):
        digest.update(f"{module}:{sha256(_source(module))}\n".encode())
        for extra in sorted(p for p in _source(module).parent.iterdir() if p.suffix in DATA_FILES):
            digest.update(f"{extra.name}:{sha256(extra)}\n".encode())
    return digest.hexdigest()


def hash_tree(path: Path, root: Path) -> dict[str, str]:
    """Hash a file, or every file of a folder, by content: `{name relative to root: sha256}`."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(root)): sha256(file) for file in files}


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that results depend on."""
    found = {"python": platform.python_version(), "ostensible": metadata.version("ostensible")}
    return found | {name: metadata.version(name) for name in LIBRARIES}


def revision() -> dict[str, str | bool | None]:
    """The git commit of this code and whether it was changed since; nulls where it is not a checkout."""
    commit = _git("rev-parse", "HEAD")
    tracked = commit is not None and bool(_git("ls-files", Path(__file__).name))
    if not tracked:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--", "."))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _closure(modules: tuple[str, ...]) -> set[str]:
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(_imports(module))
    return seen


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of this package that a module imports anywhere, inside functions too."""
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    return tuple(name for node in ast.walk(tree) for name in _named(node) if _exists(name))


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _exists(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE.name and _source(module).is_file()


def _source(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
