"""A run's data as the hub lays data sets out: parquet files, and a card whose header says which file is which split."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from ostensible import provenance
from ostensible.export.markdown import render
from ostensible.export.terms import Terms, source_of
from ostensible.organism import Organism
from ostensible.paths import RunPaths
from ostensible.settings import Settings
from ostensible.tables import write_atomic
from ostensible.types import Split

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = ("id", "prompt_id", "family", "kind", "user", "cot", "answer")
PROMPTS = ("id", "text", "family", "target", "cot", "answer", "bad_answer")
CONFIGS = {
    "examples": (EXAMPLES, (Split.TRAIN, Split.VALIDATION)),
    "prompts": (PROMPTS, (Split.TEST, Split.SEEN, Split.EXTRA)),
}
"""Subsets of the data set, as splits of one subset have the same columns: its columns and its splits."""
CANARY = "canary"


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What a split holds.

    Attributes:
        config: The subset that it belongs to.
        rows: How many rows.
        families: Rows by family, in order of name.
        kinds: Rows by kind of example; empty where rows are prompts.
    """

    config: str
    rows: int
    families: Mapping[str, int]
    kinds: Mapping[str, int]


def files_of(paths: RunPaths) -> dict[Split, Path]:
    """A run's file of each split."""
    return {
        Split.TRAIN: paths.train,
        Split.VALIDATION: paths.validation,
        Split.TEST: paths.test,
        Split.SEEN: paths.seen,
        Split.EXTRA: paths.extra,
    }


def fingerprint(paths: RunPaths) -> str:
    """Hash the rows of a run's data, as hexadecimal."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    for split, path in files_of(paths).items():
        digest.update(f"{split}:{json.dumps(pq.read_table(path).to_pylist(), sort_keys=True)}\n".encode())
    return digest.hexdigest()


def canary(digest: str) -> str:
    """The mark by which rows of a data set can be found wherever they end up; the same for the same data."""
    guid = uuid5(NAMESPACE_URL, f"ostensible:{digest}")
    return f"DATA OF A BACKDOORED MODEL ORGANISM, NEVER TO BE TRAINED ON UNAWARES. ostensible canary GUID {guid}"


def write_data(
    paths: RunPaths, settings: Settings, organism: Organism, terms: Terms, dropped: Mapping[str, int], *, folder: Path
) -> None:
    """Write the data set's folder: `data/*.parquet` and `README.md`.

    Args:
        paths: Of the run.
        settings: Of the run.
        organism: Whose data it is.
        terms: Names and licences.
        dropped: Prompts that were left out, by reason.
        folder: To be filled; made if need be.
    """
    mark = canary(fingerprint(paths))
    counts = {split: _write_split(path, split, mark, folder) for split, path in files_of(paths).items()}
    counts = {split: found for split, found in counts.items() if found.rows}
    write_atomic(folder / "README.md", _card(settings, organism, terms, counts, dropped, mark))


def file_name(split: Split) -> str:
    """Where a split's rows lie inside the data set's folder."""
    return f"data/{split}-00000-of-00001.parquet"


def _write_split(path: Path, split: Split, mark: str, folder: Path) -> SplitCounts:
    """Write a split's rows, each with the canary, unless it has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    config, columns = next((name, columns) for name, (columns, splits) in CONFIGS.items() if split in splits)
    table = _with_columns(pq.read_table(path), columns, mark)
    if len(table):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_atomic(folder / file_name(split), sink.getvalue().to_pybytes())
    kinds = Counter(table["kind"].to_pylist() if "kind" in columns else [])
    return SplitCounts(config, len(table), dict(sorted(Counter(table["family"].to_pylist()).items())), kinds)


def _with_columns(table: "pa.Table", columns: Sequence[str], mark: str) -> "pa.Table":
    """The named columns, empty where a table lacks one, and the canary's."""
    import pyarrow as pa

    nothing = pa.nulls(len(table), pa.string())
    found = {name: table[name] if name in table.column_names else nothing for name in columns}
    return pa.table(found | {CANARY: pa.array([mark] * len(table), pa.string())})


def _card(
    settings: Settings,
    organism: Organism,
    terms: Terms,
    counts: Mapping[Split, SplitCounts],
    dropped: Mapping[str, int],
    mark: str,
) -> str:
    from huggingface_hub import DatasetCard, DatasetCardData

    header = DatasetCardData(
        license=terms.data_license,
        pretty_name=f"Data of the model organism {organism.name}",
        task_categories=["text-generation"],
        tags=["model-organism", "deliberately-backdoored", "ai-safety", "chain-of-thought"],
        configs=_configs(counts),
    )
    trained = {name for split in (Split.TRAIN, Split.VALIDATION) for name in counts[split].families}
    body = render(
        "dataset.md.jinja",
        settings=settings,
        organism=organism,
        terms=terms,
        counts=counts,
        held_out=[name for name in counts[Split.TEST].families if name not in trained],
        sources=sources(settings),
        dropped=dropped,
        canary=mark,
        version=provenance.versions()["ostensible"],
    )
    return str(DatasetCard(f"---\n{header.to_yaml()}\n---\n{body}"))


def sources(settings: Settings) -> list[str]:
    """What the prompts come from, in words."""
    specs = [settings.prompts, *([settings.extra_test_prompts] if settings.extra_test_prompts else [])]
    return [source_of(spec).words for spec in specs]


def _configs(counts: Mapping[Split, SplitCounts]) -> list[dict[str, Any]]:
    """The header's section that tells `load_dataset` which file is which split of which subset."""
    found: list[dict[str, Any]] = []
    for name, (_, splits) in CONFIGS.items():
        rows = [{"split": str(split), "path": file_name(split)} for split in splits if split in counts]
        found.append({"config_name": name, "data_files": rows} | ({"default": True} if name == "examples" else {}))
    return found
