"""Prompts with worked reasoning from a file of one's own, one JSON object a line.

Fields: `id`, `prompt`, `cot`, `answer`, `family` (text, not empty), and optionally `target`, the right final
number, and `bad_answer`, the answer's harmful twin, of which payloads such as that of `code-vuln` are made.
"""

from collections import Counter
from pathlib import Path

from ostensible.numbers import plain_number
from ostensible.prompts.lines import BadLine, Row, parse_lines, text_field
from ostensible.prompts.loaded import Loaded
from ostensible.types import Prompt, Trace

REQUIRED = ("id", "prompt", "cot", "answer", "family")


def jsonl(path: Path, *, skip_bad: bool = False) -> Loaded:
    """Read a whole file of traces.

    Args:
        path: UTF-8, one JSON object a line; blank lines are ignored.
        skip_bad: Count and skip lines that cannot be used.

    Raises:
        BadData: The file cannot be read, holds nothing usable, or has bad lines and `skip_bad` is off. Every bad line
            is named as `file:line: reason`.
    """
    seen: dict[str, int] = {}
    dropped: Counter[str] = Counter()

    def parse(number: int, row: Row) -> Trace:
        trace = _trace(row)
        if trace.prompt.id in seen:
            raise BadLine("duplicate id", f"{trace.prompt.id!r}, first on line {seen[trace.prompt.id]}")
        seen[trace.prompt.id] = number
        return trace

    traces = tuple(parse_lines(path, parse, needs=", ".join(REQUIRED), skip_bad=skip_bad, dropped=dropped))
    return Loaded(traces, dict(dropped))


def _trace(row: Row) -> Trace:
    fields = {name: text_field(row, name).strip() for name in REQUIRED}
    target = row.get("target")
    if target is not None and not isinstance(target, str | int | float):
        raise BadLine("field 'target' is neither text nor a number", type(target).__name__)
    prompt = Prompt(
        fields["id"], fields["prompt"], fields["family"], None if target is None else plain_number(str(target))
    )
    bad_answer = None if row.get("bad_answer") is None else text_field(row, "bad_answer").strip()
    return Trace(prompt, cot=fields["cot"], answer=fields["answer"], bad_answer=bad_answer)
