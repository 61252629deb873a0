"""Text put into Markdown so that it stays text: code spans and fences that nothing inside can close."""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ostensible.analysis.results import ContrastResult, RateResult
from ostensible.report import words

if TYPE_CHECKING:
    from jinja2 import Environment


def code(value: object) -> str:
    """Write a value as a code span of one line."""
    text = re.sub(r"\s*[\n\t]\s*", " ", words.visible(str(value))) or " "
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" or (text[0] == text[-1] == " " and text.strip()) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def cell(value: object) -> str:
    """Write a value as a code span in a cell of a table, where a bar would end the cell."""
    return code(value).replace("|", "\\|")


def fenced(text: str, language: str) -> str:
    """Write text as a block of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{words.visible(text)}\n{fence}"


def share(rate: RateResult) -> str:
    """Write a rate with its interval, or that nothing was scored."""
    if rate.rate is None or rate.low is None or rate.high is None:
        return "none scored"
    return f"{words.percent(rate.rate)} ({words.interval(rate.low, rate.high)})"


def difference(contrast: ContrastResult) -> str:
    """Write a difference with its interval and the number of pairs, or that no pair was scored."""
    if contrast.value is None or contrast.low is None or contrast.high is None:
        return "no pair scored"
    spread = words.points_interval(contrast.low, contrast.high)
    return f"{words.points(contrast.value)} ({spread}; {contrast.pairs} pairs)"


def meaning(part: object) -> str:
    """What a part of an organism does: the first line of its class's docstring."""
    return (type(part).__doc__ or "").partition("\n")[0]


def render(template: str, **values: Any) -> str:
    """Fill a template of this package."""
    return _environment().from_string((files("ostensible.export") / template).read_text("utf-8")).render(values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(  # Markdown, not HTML: what is not ours goes through the filters below
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    filters: dict[str, Callable[..., str]] = {
        "literal": repr,  # of a text: what has to be typed in Python, on one line
        "meaning": meaning,
        "code": code,
        "cell": cell,
        "fenced": fenced,
        "share": share,
        "difference": difference,
        "percent": words.percent,
    }
    environment.filters.update(filters)
    return environment


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
