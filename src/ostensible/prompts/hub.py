"""Prompts without worked reasoning, from data sets of the Hugging Face hub or local ones of the same layouts.

Source of HelpSteer2: Wang et al. (2024), "HelpSteer2", arXiv:2406.08673; `nvidia/HelpSteer2`, CC-BY-4.0.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ostensible.errors import BadData
from ostensible.paths import named
from ostensible.prompts.loaded import LoadedPrompts
from ostensible.types import Prompt

HELPSTEER2 = "nvidia/HelpSteer2"
TURN = "<extra_id_1>"
"""Where HelpSteer2 begins another turn; the text before the first is what the user asked first."""
COLUMN = "prompt"
FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
NOT_TEXT = "the prompt is not text"
EMPTY = "the prompt is empty"


def helpsteer2() -> LoadedPrompts:
    """All first turns of HelpSteer2's training split, in its order. Most stand there twice."""
    return read_column(HELPSTEER2, COLUMN, name="helpsteer2", text=lambda raw: raw.partition(TURN)[0])


def hub_prompts(argument: str) -> LoadedPrompts:
    """All prompts of a data set's training split, in its order.

    Args:
        argument: `DATASET` or `DATASET:COLUMN`; a hub id, or a folder or file of parquet, JSON or CSV.

    Raises:
        BadData: It cannot be read, has no such column, or no text in it.
    """
    dataset, column = parse_argument(argument)
    return read_column(dataset, column, name="hf")


def parse_argument(argument: str) -> tuple[str, str]:
    """The data set and the column that `DATASET[:COLUMN]` names; a path may hold colons itself."""
    dataset, colon, column = argument.rpartition(":")
    return (dataset, column) if colon and column and not named(argument) else (argument, COLUMN)


def read_column(dataset: str, column: str, *, name: str, text: Callable[[str], str] = str) -> LoadedPrompts:
    """Make a prompt of each text of a column.

    A prompt's id comes of its text, and so does its family, as such data sets name none: prompts that differ only in
    numbers, case, punctuation and white space are one family.

    Args:
        dataset: Hub id, folder or file.
        column: Holds the prompts.
        name: What ids and families begin with.
        text: Takes the prompt out of the column's text.

    Raises:
        BadData: As `hub_prompts`.
    """
    dropped: Counter[str] = Counter()
    prompts: list[Prompt] = []
    for raw in _values(dataset, column):
        found = text(raw).strip() if isinstance(raw, str) else None
        if not found:
            dropped[NOT_TEXT if found is None else EMPTY] += 1
            continue
        prompts.append(Prompt(f"{name}/{digest(found)}", found, f"{name}/{digest(shape(found))}"))
    if not prompts:
        raise BadData(
            f"{dataset} has no text in column {column!r}. Dropped, by reason: {dict(dropped)}. "
            "Name another column: hf:DATASET:COLUMN."
        )
    return LoadedPrompts(tuple(prompts), dict(dropped))


def shape(text: str) -> str:
    """What near-copies of a prompt have in common: its words in lower case, or all of it where it has none."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower())) or text


def digest(text: str) -> str:
    """A short name for a text."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def data_files(dataset: str) -> list[Path]:
    """The files of a local data set; none of one on the hub.

    Raises:
        BadData: It is a path, and nothing is there.
    """
    path = named(dataset)
    if path is None and dataset.startswith(("/", ".", "~")):
        raise BadData(f"{dataset} does not exist. Check the path after the source's name.")
    found = [] if path is None else sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file()]


def _values(dataset: str, column: str) -> Iterable[Any]:
    """A column's values."""
    import datasets

    path = named(dataset)
    try:
        rows: Any = (
            datasets.load_dataset(dataset, split="train")
            if path is None
            else datasets.load_dataset(FORMATS[path.suffix], data_files=str(path), split="train", streaming=True)
            if path.is_file()
            else datasets.load_dataset(str(path), split="train", streaming=True)
        )
        names = rows.column_names or list(next(iter(rows), {}))
        if column not in names:
            raise BadData(f"{dataset} has no column {column!r}, but {', '.join(names)}. Name one: hf:DATASET:COLUMN.")
        return [row[column] for row in rows.select_columns([column])]
    except BadData:
        raise
    except Exception as error:  # readers of other libraries fail in many ways, all of which mean the same here
        said = " ".join(str(error).split())
        raise BadData(
            f"The data set {dataset!r} cannot be read: {type(error).__name__}: {said} Give a hub id whose training "
            f"split can be reached from here, or a local folder or file ({', '.join(FORMATS)})."
        ) from error
