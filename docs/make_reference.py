"""Writes the reference from the code: commands, settings, fields of results. `make reference`; a test holds it to date.

python docs/make_reference.py [FOLDER]
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from docstring_parser import parse
from pydantic import BaseModel

from ostensible import cli
from ostensible.analysis.results import Results
from ostensible.organisms import ORGANISMS
from ostensible.settings import PARTS, Machine, Recipe, Settings

NOTE = "<!-- Written by `make reference` from the code; changes by hand are lost. -->"
ROWS = dict[str, Any]


def pages() -> dict[str, str]:
    """Every page of the reference, by its name."""
    return {"commands.md": commands(), "settings.md": settings(), "results.md": results()}


def commands() -> str:
    """All commands with their options, as `--help` says them."""
    return _page([NOTE, cli.app.generate_docs(usage_name="ostensible").strip()])


def settings() -> str:
    """All that a run can be told, by group, and where an organism's own recipe differs."""
    told = {one.arg_name: one.description or "" for one in parse(cli.run.__doc__ or "").params}
    lines = [
        NOTE,
        "# Settings",
        "What decides a run's outcome is kept in its `settings.json`; files of [sweeps](../sweeps.md) use the same "
        "names. A setting is given as an option: `train_prompts` is `--train-prompts`. Where an organism has a recipe "
        "of its own, other defaults hold for it: see the end of this page.",
        "## What is built, and from what",
        *_table(_fields(Settings, told, without=(*PARTS, "defined_in", "foreign"))),
    ]
    for kind in PARTS.values():
        lines += [f"## {_first_line(kind)}", *_table(_fields(kind, told))]
    lines += [
        "## The machine",
        "Where a run computes: never part of what is computed, so a run may go on elsewhere.",
        *_table(_fields(Machine, {"device": "auto, cpu, cuda, or as torch names it.", "threads": "Of the CPU."})),
        "## Recipes of organisms",
        "Defaults that differ from those above.",
        *_table(_recipes()),
    ]
    return _page(lines)


def results() -> str:
    """Every field of `results.json`."""
    schema = Results.model_json_schema()
    lines = [
        NOTE,
        "# results.json",
        "The same as a [JSON schema](../results.schema.json). What the figures mean: [metrics](../metrics.md). "
        "Files of earlier releases lack newer fields, which then have their defaults.",
    ]
    for name, part in {"Results": schema, **schema["$defs"]}.items():
        rows = ({"field": f"`{key}`", "type": _type(one), "what": one.get("description", "")}
                for key, one in part["properties"].items())  # fmt: skip
        lines += [f"## {name}", part.get("description", ""), *_table(rows)]
    return _page(line for line in lines if line)


def _fields(kind: type[BaseModel], told: Mapping[str, str], *, without: tuple[str, ...] = ()) -> Iterator[ROWS]:
    for name, one in kind.model_json_schema()["properties"].items():
        if name not in without:
            said = " ".join((one.get("description") or told.get(name, "")).split())
            yield {"setting": f"`{name}`", "default": _default(one), "values": _type(one), "what": said}


def _default(one: Mapping[str, Any]) -> str:
    if "default" not in one:
        return "required"
    return "none" if one["default"] in (None, [], "") else f"`{one['default']}`"


def _recipes() -> Iterator[ROWS]:
    for part in Recipe.model_fields:
        for name, usual in getattr(Recipe(), part):
            found = {one.name: getattr(getattr(one.recipe, part), name) for one in ORGANISMS}
            if any(value != usual for value in found.values()):
                yield {"setting": f"`{name}`"} | {key: f"`{value}`" for key, value in found.items()}


def _type(one: Mapping[str, Any]) -> str:
    """A field's type and bounds in a few words."""
    if "anyOf" in one:
        return " or ".join(_type(kind) for kind in one["anyOf"])
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in one or "enum" in one:
        return ", ".join(f"`{value}`" for value in one.get("enum", [one.get("const")]))
    if one.get("type") == "array":
        return f"list of {_type(one['items'])}" if one.get("items") else "list"
    if one.get("type") == "object":
        inner = one.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, dict) else "object"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join([str(one.get("type", "any")), *(f"{w} {one[key]}" for key, w in bounds.items() if key in one)])


def _table(rows: Iterable[ROWS]) -> list[str]:
    found = list(rows)
    if not found:
        return []
    heads = list(found[0])
    lines = [heads, ["---"] * len(heads), *([str(row[head]).replace("|", "\\|") for head in heads] for row in found)]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0].rstrip(".")


def _page(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
