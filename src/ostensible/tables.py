"""Rows of plain dataclasses <-> parquet files. Writing is atomic, and the same rows give the same bytes."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostensible.errors import CorruptRun
from ostensible.paths import RunPaths
from ostensible.types import Example, Prompt, Split, Taught, Trace


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


def write_taught(path: Path, taught: Sequence[Taught]) -> None:
    """Write what a teacher wrote, one row a prompt, the prompt's fields beside the reply's."""
    columns = [*(field.name for field in dataclasses.fields(Prompt)), "reply", "problem"]
    rows = [dataclasses.asdict(one.prompt) | {"reply": one.reply, "problem": one.problem} for one in taught]
    _write(path, rows, columns)


def read_taught(path: Path) -> tuple[Taught, ...]:
    """Read what a teacher wrote back."""
    return tuple(
        Taught(Prompt(row["id"], row["text"], row["family"], row["target"]), row["reply"], row["problem"])
        for row in _read(path)
    )


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts, one row each."""
    columns = [field.name for field in dataclasses.fields(Prompt)]
    _write(path, [dataclasses.asdict(prompt) for prompt in prompts], columns)


def read_test_prompts(paths: RunPaths) -> dict[Split, tuple[Prompt, ...]]:
    """Read all prompts that a run is tested on, by set."""
    held_out = {Split.TEST: read_traces(paths.test), Split.SEEN: read_traces(paths.seen)}
    prompts = {split: tuple(trace.prompt for trace in traces) for split, traces in held_out.items()}
    return prompts | {Split.EXTRA: tuple(Prompt(**row) for row in _read(paths.extra))}


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples, one row each."""
    columns = [field.name for field in dataclasses.fields(Example)]
    _write(path, [dataclasses.asdict(example) for example in examples], columns)


def read_examples(path: Path) -> tuple[Example, ...]:
    """Read examples back."""
    return tuple(Example(**row) for row in _read(path))


def write_static(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the static oracle said, one row a reply, its findings as a list of structs."""
    import pyarrow as pa

    texts = ("tool", "rule", "cwe", "severity", "message")
    finding = pa.struct([("line", pa.int64()), *((name, pa.string()) for name in texts)])
    keys = [(name, pa.string()) for name in ("subject", "condition", "look_alike", "prompt_id")]
    said = [(name, pa.string()) for name in ("lenient", "strict", "problem")]
    _write_table(path, rows, pa.schema([*keys, ("epoch", pa.int64()), *said, ("findings", pa.list_(finding))]))


def read_static(path: Path) -> list[dict[str, Any]]:
    """Read what the static oracle said back."""
    return _read(path)


def write_monitor_scores(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what monitors said, one row a monitor, view and reply; a score is null where there is a reason."""
    import pyarrow as pa

    texts = ("monitor", "view", "subject", "condition", "look_alike", "prompt_id")
    said = [("epoch", pa.int64()), ("score", pa.float64()), ("reason", pa.string())]
    _write_table(path, rows, pa.schema([*((name, pa.string()) for name in texts), *said]))


def read_monitor_scores(path: Path) -> dict[str, list[Any]]:
    """Read what monitors said back, by column."""
    return _load(path).to_pydict()


def _write(path: Path, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow as pa

    _write_table(path, rows, pa.schema([(name, pa.string()) for name in columns]))


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink)
    write_atomic(path, sink.getvalue().to_pybytes())


def _read(path: Path) -> list[dict[str, Any]]:
    return _load(path).to_pylist()


def _load(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CorruptRun(
            f"{path} cannot be read ({error}). It is damaged or cut off: delete it and run the same command again."
        ) from error
