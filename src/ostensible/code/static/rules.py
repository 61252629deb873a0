"""The rules of the flow analysis, tables in `rules/*.toml`."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Pattern = re.Pattern[str]
Origin = Literal["constant", "unknown", "parameter", "request"]
"""Where a value is from: the code itself; who knows; the function's caller; surely outside. Each takes the next."""
Guard = Literal["listed", "plain", "inside", "lines", "web"]
"""What a test has shown of a value: it is one of a list or has only harmless characters; so too, but it may hold dots
and slashes; it stays in its folder or on its host; it has no line breaks; it is an address of the web."""
ANYTHING = re.compile("")


class Rule(BaseModel):
    """When a call, or a text being built, is a weakness. Whatever is left out matches anything.

    Attributes:
        id: Unique among the rules.
        cwe: The weakness' family.
        severity: `high` says that the code is vulnerable; `medium`, that it would be where its input is not trusted.
        message: For the report.
        call: The dotted name of the function called, such as `os.system`. Without it the rule is about any text that is
            put together. Some things that are no calls count as such: `return`, `in`, `==`, `assert`, `@` (a
            decorator), `=` (of a name or a literal), `header=` (of an item of headers), `{}` (a literal dictionary, its
            keys the arguments), `unread name` (a parameter or variable that is never looked at), `default` (a parameter
            and its value where the caller gives none), `unprotected write` and `unprotected file` (what is written to
            a file that others may read, and what names that file) and `ambiguous pattern` (a regular expression whose
            repetitions can match one text in many ways).
        arguments: Positions and keywords of the arguments meant, `self` the object of a method; without it all are.
        origin: Where a value in the text must come from, at the least; `constant` means that there is no value from
            anywhere else.
        text: The whole text, its values shown as NUL characters.
        before: What stands before the value in the text.
        base: Where what stands before the value may come from, at the most.
        named: A variable that one of the arguments meant went through.
        passed: A function in the value's history, one at least.
        cleansed_by: Functions (any in the value's history) whose results are harmless here.
        guarded: What a test on the way must have shown to make the value harmless; any one of these.
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
    text: Pattern = ANYTHING
    before: Pattern = ANYTHING
    base: Origin | None = None
    named: Pattern | None = None
    passed: Pattern | None = None
    cleansed_by: Pattern = re.compile(r"^(int|float|bool|len)$")
    guarded: tuple[Guard, ...] = ()
    within: Pattern = ANYTHING
    where: Pattern = ANYTHING
    unless: Pattern | None = None


@cache
def rules() -> tuple[Rule, ...]:
    """All of them, in the order of their files."""
    folder = files("ostensible.code.static").joinpath("rules")
    tables = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return tuple(
        Rule.model_validate(table) for file in tables for table in tomllib.loads(file.read_text("utf-8"))["rule"]
    )
