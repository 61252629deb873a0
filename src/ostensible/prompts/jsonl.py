"""Prompts from a file of one's own, one JSON object a line, with worked reasoning or for a teacher to write it.

Fields: `id`, `prompt`, `cot`, `answer`, `family` (text, not empty), and optionally `target`, the right final
number, and `bad_answer`, the answer's harmful twin, of which payloads such as that of `code-vuln` are made. Where a
teacher writes thoughts and answers, `id`, `prompt` and `family` are enough; `target` is read too, and nothing else.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ostensible.numbers import plain_number
from ostensible.prompts.lines import BadLine, Parsed, Row, name_field, parse_lines, text_field
from ostensible.prompts.loaded import Loaded, LoadedPrompts
from ostensible.types import Prompt, Trace

PROMPT = ("id", "prompt", "family")
REPLY = ("cot", "answer")


def jsonl(path: Path, *, skip_bad: bool = False) -> Loaded:
    """Read a whole file of traces.

    Args:
        path: UTF-8, one JSON object a line; blank lines are ignored.
        skip_bad: Count and skip lines that cannot be used.

    Raises:
        BadData: The file cannot be read, holds nothing usable, or has bad lines and `skip_bad` is off. Every bad line
            is named as `file:line: reason`.
    """
    dropped: Counter[str] = Counter()
    traces = parse_lines(path, _once(_trace), needs=", ".join([*PROMPT, *REPLY]), skip_bad=skip_bad, dropped=dropped)
    return Loaded(tuple(traces), dict(dropped))


def jsonl_prompts(path: Path, *, skip_bad: bool = False) -> LoadedPrompts:
    """Read a whole file of prompts, as `jsonl` does of traces. Thoughts and answers that it may have are not used."""
    dropped: Counter[str] = Counter()
    prompts = parse_lines(path, _once(_prompt), needs=", ".join(PROMPT), skip_bad=skip_bad, dropped=dropped)
    return LoadedPrompts(tuple(prompts), dict(dropped))


def _once(make: Callable[[Row], Parsed]) -> Callable[[int, Row], Parsed]:
    """Make something of a line whose id no line before it has."""
    seen: dict[str, int] = {}

    def parse(number: int, row: Row) -> Parsed:
        made, name = make(row), str(row["id"]).strip()
        if name in seen:
            raise BadLine("duplicate id", f"{name!r}, first on line {seen[name]}")
        seen[name] = number
        return made

    return parse


def _prompt(row: Row) -> Prompt:
    name, text, family = name_field(row, "id"), text_field(row, "prompt").strip(), name_field(row, "family")
    target = row.get("target")
    if target is not None and not isinstance(target, str | int | float):
        raise BadLine("field 'target' is neither text nor a number", type(target).__name__)
    return Prompt(name, text, family, None if target is None else plain_number(str(target)))


def _trace(row: Row) -> Trace:
    prompt = _prompt(row)
    if missing := [field for field in REPLY if field not in row]:
        raise BadLine(f"missing field {missing[0]!r}", "a teacher can write it: --teacher")
    cot, answer = (text_field(row, field).strip() for field in REPLY)
    bad_answer = None if row.get("bad_answer") is None else text_field(row, "bad_answer").strip()
    return Trace(prompt, cot=cot, answer=answer, bad_answer=bad_answer)
