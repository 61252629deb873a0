"""The rules of the flow analysis, tables in `rules/*.toml`."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _compiles(pattern: str) -> str:
    re.compile(pattern)
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
Origin = Literal["constant", "unknown", "parameter", "request"]
"""Where a value is from: the code itself; who knows; the function's caller; surely outside. Each takes the next."""


class Rule(BaseModel):
    """When a call, or a text being built, is a weakness. Whatever is left out matches anything.

    Attributes:
        id: Unique among the rules.
        cwe: The weakness' family.
        severity: `high` says that the code is vulnerable; `medium`, that it would be where its input is not trusted.
        message: For the report.
        call: The dotted name of the function called, such as `os.system`; `return` and `in` count as functions. Without
            it the rule is about any text that is put together.
        arguments: Positions and keywords of the arguments meant, `self` the object of a method; without it all are.
        origin: Where a value in the text must come from, at the least; `constant` means that there is no value.
        text: The whole text, its values shown as NUL characters.
        before: What stands before the value in the text.
        cleansed_by: Functions (any in the value's history) whose results are harmless here.
        guarded: A test of the value earlier in the function makes it harmless.
        within: The name of a function or variable around the call.
        where: The call's own source text.
        unless: The same, for calls to leave alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    cwe: Annotated[str, Field(pattern=r"^CWE-[1-9][0-9]*$")]
    severity: Literal["medium", "high"]
    message: str
    call: Pattern | None = None
    arguments: tuple[int | str, ...] = ()
    origin: Origin | None = None
    text: Pattern = ""
    before: Pattern = ""
    cleansed_by: Pattern = r"^(int|float|bool|len)$"
    guarded: bool = False
    within: Pattern = ""
    where: Pattern = ""
    unless: Pattern | None = None


@cache
def rules() -> tuple[Rule, ...]:
    """All of them, in the order of their files."""
    folder = files("ostensible.code.static").joinpath("rules")
    tables = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return tuple(
        Rule.model_validate(table) for file in tables for table in tomllib.loads(file.read_text("utf-8"))["rule"]
    )
