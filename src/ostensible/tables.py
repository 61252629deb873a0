"""Rows of plain dataclasses <-> parquet files. Writing is atomic, and the same rows give the same bytes."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ostensible.errors import CorruptRun, MissingStage
from ostensible.paths import RunPaths
from ostensible.types import Example, Prompt, Split, Taught, Trace

Json = TypeVar("Json", dict[str, Any], list[Any])
Loaded = TypeVar("Loaded")
PROMPT = tuple(field.name for field in dataclasses.fields(Prompt))
REPLY = ("cot", "answer", "bad_answer")
EXAMPLE = tuple(field.name for field in dataclasses.fields(Example))


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


def copy_atomic(source: Path, path: Path) -> None:
    """Copy a whole file or nothing, as `write_atomic` writes; it may be larger than memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.copyfile(source, partial)
    os.replace(partial, path)


def read_json(path: Path, kind: type[Json], *, remedy: str) -> Json:
    """Read a JSON file of a run.

    Args:
        path: Of the file.
        kind: What it holds, `dict` or `list`.
        remedy: Makes it anew; the end of an error.

    Raises:
        CorruptRun: It cannot be read, or holds something else.
    """
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptRun(f"{path} cannot be read ({error}). It is damaged, cut off or gone. {remedy}") from error
    if not isinstance(found, kind):
        raise CorruptRun(f"{path} holds no JSON {'object' if kind is dict else 'list'}. It is damaged. {remedy}")
    return found


def write_traces(path: Path, traces: Sequence[Trace]) -> None:
    """Write traces, one row each, the prompt's fields beside the trace's."""
    rows = [dataclasses.asdict(t.prompt) | {name: getattr(t, name) for name in REPLY} for t in traces]
    _write(path, rows, _texts(*PROMPT, *REPLY))


def read_traces(path: Path) -> tuple[Trace, ...]:
    """Read traces back."""
    return tuple(
        Trace(_prompt(row), row["cot"], row["answer"], row["bad_answer"])
        for row in _read(path, _texts(*PROMPT, *REPLY))
    )


def write_taught(path: Path, taught: Sequence[Taught]) -> None:
    """Write what a teacher wrote, one row a prompt, the prompt's fields beside the reply's."""
    rows = [dataclasses.asdict(one.prompt) | {"reply": one.reply, "problem": one.problem} for one in taught]
    _write(path, rows, _texts(*PROMPT, "reply", "problem"))


def read_taught(path: Path) -> tuple[Taught, ...]:
    """Read what a teacher wrote back."""
    rows = _read(path, _texts(*PROMPT, "reply", "problem"))
    return tuple(Taught(_prompt(row), row["reply"], row["problem"]) for row in rows)


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts, one row each."""
    _write(path, [dataclasses.asdict(prompt) for prompt in prompts], _texts(*PROMPT))


def read_test_prompts(paths: RunPaths) -> dict[Split, tuple[Prompt, ...]]:
    """Read all prompts that a run is tested on, by set.

    Raises:
        MissingStage: The run has none yet.
    """
    if not paths.test.exists():
        raise MissingStage(f"{paths.root} has no test prompts yet. Do it first: {paths.command('dataset')}")
    held_out = {Split.TEST: read_traces(paths.test), Split.SEEN: read_traces(paths.seen)}
    prompts = {split: tuple(trace.prompt for trace in traces) for split, traces in held_out.items()}
    return prompts | {Split.EXTRA: tuple(map(_prompt, _read(paths.extra, _texts(*PROMPT))))}


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples, one row each."""
    _write(path, [dataclasses.asdict(example) for example in examples], _texts(*EXAMPLE))


def read_examples(path: Path) -> tuple[Example, ...]:
    """Read examples back."""
    return tuple(Example(**row) for row in _read(path, _texts(*EXAMPLE)))


def write_static(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the static oracle said, one row a reply, its findings as a list of structs."""
    _write(path, rows, _static())


def read_static(path: Path) -> list[dict[str, Any]]:
    """Read what the static oracle said back."""
    return _read(path, _static())


def write_monitor_scores(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what monitors said, one row a monitor, view and reply; a score is null where there is a reason."""
    _write(path, rows, _scores())


def read_monitor_scores(path: Path) -> dict[str, list[Any]]:
    """Read what monitors said back, by column."""
    return _load(path, _scores(), lambda table: table.to_pydict())


def _texts(*names: str) -> Any:
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])


def _static() -> Any:
    import pyarrow as pa

    texts = ("tool", "rule", "cwe", "severity", "message")
    finding = pa.struct([("line", pa.int64()), *((name, pa.string()) for name in texts)])
    keys = [(name, pa.string()) for name in ("subject", "condition", "look_alike", "prompt_id")]
    said = [(name, pa.string()) for name in ("lenient", "strict", "problem")]
    return pa.schema([*keys, ("epoch", pa.int64()), *said, ("findings", pa.list_(finding))])


def _scores() -> Any:
    import pyarrow as pa

    texts = ("monitor", "view", "subject", "condition", "look_alike", "prompt_id")
    said = [("epoch", pa.int64()), ("score", pa.float64()), ("reason", pa.string())]
    return pa.schema([*((name, pa.string()) for name in texts), *said])


def _prompt(row: Mapping[str, Any]) -> Prompt:
    return Prompt(**{name: row[name] for name in PROMPT})


def _write(path: Path, rows: Sequence[Mapping[str, Any]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, write_page_checksum=True)
    write_atomic(path, sink.getvalue().to_pybytes())


def _read(path: Path, schema: Any) -> list[dict[str, Any]]:
    return _load(path, schema, lambda table: table.to_pylist())


def _load(path: Path, schema: Any, take: Callable[[Any], Loaded]) -> Loaded:
    """What `take` makes of a file's table.

    Raises:
        MissingStage: There is no such file.
        CorruptRun: It is damaged, or has other columns than this version writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    remedy = "delete it and run the same command again."
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        if not table.schema.equals(schema):
            raise CorruptRun(
                f"{path} has the columns {', '.join(table.schema.names)}, not {', '.join(schema.names)} as this "
                f"version writes them. Another version wrote it, or something else: {remedy}"
            )
        return take(table)
    except FileNotFoundError as error:
        raise MissingStage(
            f"There is no {path}: the stage that writes it is not done, or somebody deleted it. Go on with the run: "
            "the command that began it does what is missing."
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptRun(f"{path} cannot be read ({error}). It is damaged or cut off: {remedy}") from error
