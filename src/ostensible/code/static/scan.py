"""All static tools behind one call."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostensible.code.extract import NO_CODE, is_code, parse
from ostensible.code.static.findings import Finding, Scan, Source
from ostensible.code.static.tools import Tool, installed

BATCH = 500
"""Files that are read and scanned at once."""
COOKIE = re.compile(r"^([ \t\f]*#.*?)coding([:=])", re.MULTILINE)


def scan(sources: Sequence[Source], tools: Mapping[str, Tool] | None = None) -> list[Scan]:
    """Scan Python code with all tools, each run once over all sources.

    Sources are files or snippets; an indented one is dedented. Nothing in it can silence a tool.

    Args:
        sources: In any number.
        tools: By name; all that are installed where it is left out.

    Raises:
        EvaluationFailed: A tool cannot be run at all.
    """
    parsed = [parse(source.text) for source in sources]
    found: defaultdict[int, set[Finding]] = defaultdict(set)
    unread: defaultdict[int, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="ostensible-scan-") as name:
        folder = Path(name)
        for number, one in enumerate(parsed):
            if one.code is not None:
                # A declared encoding would make tools that read the file differ from those that read the text.
                text = COOKIE.sub(r"\1codinq\2", one.code)
                (folder / f"{number}.py").write_text(text, encoding="utf-8", newline="")
        for tool, run in (installed() if tools is None else tools).items():
            report = run(folder)
            for number, finding in report.found:
                found[number].add(finding)
            for number in report.unread:
                unread[number].append(tool)
    return [
        Scan(source.path, tuple(sorted(found[number])), one.reason, tuple(unread[number]))
        for number, (source, one) in enumerate(zip(sources, parsed, strict=True))
    ]


def scan_paths(paths: Iterable[Path], *, strict: bool = False) -> Iterator[dict[str, Any]]:
    """Scan files, and all `*.py` below folders, in order of path. What is no Python source is called unparseable.

    Yields:
        Rows with `path`, `verdict`, `findings` and, where the file could not be read or parsed, `problem`.

    Raises:
        EvaluationFailed: A tool cannot be run at all.
    """
    batch: list[Path] = []
    for path in _walk(paths):
        batch.append(path)
        if len(batch) == BATCH:
            yield from _rows(batch, strict)
            batch = []
    yield from _rows(batch, strict)


def _walk(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(found for found in path.rglob("*.py") if found.is_file()) if path.is_dir() else (path,)


def _rows(paths: Sequence[Path], strict: bool) -> Iterator[dict[str, Any]]:
    texts = [_read(path) for path in paths]
    readable = [Source(str(path), text) for path, (text, _) in zip(paths, texts, strict=True) if text is not None]
    scans = iter(scan(readable) if readable else ())
    for path, (text, problem) in zip(paths, texts, strict=True):
        yield (next(scans) if text is not None else Scan(str(path), problem=problem)).row(strict=strict)


def _read(path: Path) -> tuple[str | None, str]:
    """A file's text, or why there is none. Line ends stay as they are."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        # JSON, too, is an expression to Python.
        no_code = path.suffix != ".py" and (code := parse(text).code) is not None and not is_code(code)
        return (None, f"{NO_CODE}: nothing in it does anything") if no_code else (text, "")
    except UnicodeDecodeError as error:
        return None, f"not UTF-8: byte {error.start}"
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
