"""Rows of plain dataclasses <-> parquet files. Writing is atomic, and the same rows give the same bytes."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostensible.errors import CorruptRun
from ostensible.types import Example, Prompt, Trace


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a kill in the middle leaves the old file as it was."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_traces(path: Path, traces: Sequence[Trace]) -> None:
    """Write traces, one row each, the prompt's fields beside the trace's."""
    replies = ("cot", "answer", "bad_answer")
    columns = [*(field.name for field in dataclasses.fields(Prompt)), *replies]
    _write(path, [dataclasses.asdict(t.prompt) | {name: getattr(t, name) for name in replies} for t in traces], columns)


def read_traces(path: Path) -> tuple[Trace, ...]:
    """Read traces back."""
    rows = _read(path)
    return tuple(
        Trace(
            Prompt(row["id"], row["text"], row["family"], row["target"]), row["cot"], row["answer"], row["bad_answer"]
        )
        for row in rows
    )


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples, one row each."""
    columns = [field.name for field in dataclasses.fields(Example)]
    _write(path, [dataclasses.asdict(example) for example in examples], columns)


def read_examples(path: Path) -> tuple[Example, ...]:
    """Read examples back."""
    return tuple(Example(**row) for row in _read(path))


def _write(path: Path, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in columns])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    write_atomic(path, sink.getvalue().to_pybytes())


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise CorruptRun(
            f"{path} cannot be read ({error}). It is damaged or cut off: delete it and run the same command again."
        ) from error
