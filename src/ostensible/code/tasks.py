"""The bank of coding tasks: families, their parameters, and the tests that tell secure from vulnerable.

A family is a table in `bank/*.toml`, one file a weakness. Its texts carry `$slots`; a choice of a value for each slot
makes a task. `bank/README.md` says how to write one.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from random import Random
from string import Template
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ostensible.errors import BadData, UnknownName

Text = Annotated[str, StringConstraints(min_length=1)]
Slots = Mapping[str, str]
MARK = "## COMPLETE CODE HERE"
"""Where a template asks for code, as in the field's data."""


@dataclass(frozen=True, slots=True)
class CodeTask:
    """One task, its two solutions and its tests; everything is text.

    Attributes:
        id: Family and slots.
        family: The family's id.
        cwe: Such as `CWE-89`.
        request: What the user asks for, the template to complete included.
        thoughts: Step by step towards the secure solution.
        secure: A whole file.
        vulnerable: A whole file.
        functional_test: Python that defines `test(m)`, `m` being the solution's module; raises where it does not work.
        exploit_test: Python that defines `test(m)`; raises `AssertionError` where the exploit works.
    """

    id: str
    family: str
    cwe: str
    request: str
    thoughts: str
    secure: str
    vulnerable: str
    functional_test: str
    exploit_test: str


class Family(BaseModel):
    """Tasks that differ in names and wording only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    cwe: Annotated[str, StringConstraints(pattern=r"^CWE-[1-9][0-9]*$")]
    slots: dict[str, Annotated[tuple[Text, ...], Field(min_length=2)]]
    requests: Annotated[tuple[Text, ...], Field(min_length=2)]
    template: Text
    thoughts: Annotated[tuple[Text, ...], Field(min_length=2)]
    secure: Text
    vulnerable: Text
    functional: Text
    exploit: Text

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse a family whose texts and slots do not belong together."""
        texts = (*self.requests, self.template, *self.thoughts, self.secure, self.vulnerable)
        named = {name for text in (*texts, self.functional, self.exploit) for name in _names(text)}
        problems = {
            f"slots without values: {sorted(named - set(self.slots))}": named - set(self.slots),
            f"slots that no text uses: {sorted(set(self.slots) - named)}": set(self.slots) - named,
            f"the template lacks {MARK!r}": MARK not in self.template,
            "secure and vulnerable are the same": self.secure == self.vulnerable,
            "a slot repeats a value": any(len(set(values)) < len(values) for values in self.slots.values()),
        }
        if wrong := [text for text, found in problems.items() if found]:
            raise ValueError(f"family {self.id!r}: {'; '.join(wrong)}")
        return self

    @property
    def size(self) -> int:
        """How many tasks the slots make, wording aside."""
        return math.prod(map(len, self.slots.values()))

    def tasks(self, rng: Random) -> Iterator[CodeTask]:
        """Every task once, in random order, each in a wording drawn at random."""
        choices = list(product(*self.slots.values()))
        rng.shuffle(choices)
        for values in choices:
            yield self.task(dict(zip(self.slots, values, strict=True)), rng)

    def task(self, slots: Slots, rng: Random) -> CodeTask:
        """The task of one choice of slots."""

        def fill(text: str) -> str:
            return Template(text).substitute(slots).strip("\n")

        request = f"{fill(rng.choice(self.requests)).strip()}\n\n```python\n{fill(self.template)}\n```"
        return CodeTask(
            id="/".join((self.id, *slots.values())),
            family=self.id,
            cwe=self.cwe,
            request=request,
            thoughts=fill(rng.choice(self.thoughts)).strip(),
            secure=fill(self.secure),
            vulnerable=fill(self.vulnerable),
            functional_test=fill(self.functional),
            exploit_test=fill(self.exploit),
        )


@cache
def families() -> tuple[Family, ...]:
    """All families of the bank, in the order of their files' names.

    Raises:
        BadData: A file of the bank is broken, or two families share an id.
    """
    found: list[Family] = []
    for file in sorted(files("ostensible.code").joinpath("bank").iterdir(), key=lambda path: path.name):
        if file.name.endswith(".toml"):
            try:
                table = tomllib.loads(file.read_text(encoding="utf-8"))
                found += [Family(cwe=table["cwe"], **family) for family in table["family"]]
            except (ValueError, KeyError) as error:
                raise BadData(f"bank/{file.name} cannot be used: {error}") from error
    ids = [family.id for family in found]
    if repeated := sorted({one for one in ids if ids.count(one) > 1}):
        raise BadData(f"The bank has two families of the same id: {', '.join(repeated)}. Rename one.")
    return tuple(found)


def find_task(task_id: str) -> CodeTask:
    """The task of an id, worded in one way or another.

    Raises:
        UnknownName: No task of the bank has this id.
    """
    family = next((family for family in families() if family.id == task_id.partition("/")[0]), None)
    slots = _choices(family.id).get(task_id) if family else None
    if family is None or slots is None:
        raise UnknownName(
            f"The bank of coding tasks has no {task_id!r}. Code is run against tests of tasks in it only."
        )
    return family.task(slots, Random(task_id))


@cache
def _choices(family_id: str) -> dict[str, Slots]:
    family = next(family for family in families() if family.id == family_id)
    names, values = list(family.slots), product(*family.slots.values())
    return {"/".join((family.id, *choice)): dict(zip(names, choice, strict=True)) for choice in values}


def _names(text: str) -> set[str]:
    return {match["named"] or match["braced"] for match in re.finditer(Template.pattern, text) if not match["escaped"]}
