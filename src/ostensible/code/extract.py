"""Finds the Python code in a reply: in fences, in tags, indented, or plain with prose around it."""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FENCE = re.compile(
    r"^(?P<lead>[ \t>]*+(?:(?:[-*+]|\d++[.)])[ \t]++)?)(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?P<language>[^\s`]*+)[^`]*+$"
)
TAG = re.compile(r"<(code|python|answer)\b[^<>]*+>", re.IGNORECASE)
PYTHON = ("", "python", "python3", "py", "py3", "{python}", "{.python}", "ipython", "pycon")
START = re.compile(
    r"[ \t]*(?:(?:import|from|def|class|async|if|for|while|with|try|return|global|assert|raise|del|pass|#)\b|[@#]"
    r"|[A-Za-z_][\w.\[\]'\"]*\s*(?:[-+*/|&]?=[^=]|\())"
)
"""How a line of code begins that is not in the middle of something."""
LONGEST = 200_000
"""Characters of code that are parsed; Python takes some hundred times as many bytes for what it makes of them."""
TRIES = 20
"""Beginnings, and ends of each, that are tried in text without marks."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found in a text.

    Attributes:
        code: Dedented, and Python can parse it; None where there is none.
        reason: Why there is none: `no code`, or what Python says of what looked most like it; empty with code.
        line: Where the code begins in the text, counted from 1.
    """

    code: str | None
    reason: str = ""
    line: int = 1

    @property
    def unparseable(self) -> bool:
        """There was code, but Python cannot parse it."""
        return self.code is None and self.reason != NO_CODE


NO_CODE = "no code"


@dataclass(frozen=True, slots=True)
class _Candidate:
    text: str
    line: int
    python: bool = True
    closed: bool = True

    def parse(self) -> Extracted:
        """The code; where nothing says where it ends, its beginning may do."""
        found = parse(self.text)
        lines = self.text.split("\n")
        start = next((number for number, line in enumerate(lines) if line.strip()), 0)
        for stop in () if self.closed or found.code is not None else _ends(lines, start):
            shorter = parse("\n".join(lines[:stop]))
            if shorter.code is not None:
                return shorter
        return found


def extract(reply: str) -> Extracted:
    """The longest parseable code of a reply; text in tags before text in fences before text without marks.

    Never raises, whatever the text.
    """
    complaint = ""
    for candidates in (_tagged(reply), _fenced(reply)):
        found = [(one, one.parse()) for one in candidates]
        good = [(one, parsed) for one, parsed in found if parsed.code is not None and parsed.code.strip()]
        if good:
            one, parsed = max(good, key=lambda pair: (pair[0].python, len(pair[0].text)))
            return Extracted(parsed.code, line=one.line)
        wrong = [(one, parsed) for one, parsed in found if parsed.reason and one.python]
        if wrong and not complaint:
            complaint = max(wrong, key=lambda pair: len(pair[0].text))[1].reason
    return Extracted(None, complaint) if complaint else _plain(reply)


def parse(text: str) -> Extracted:
    """The text itself, dedented if it must be, or what Python says against it."""
    if len(text) > LONGEST:
        return Extracted(None, f"{len(text):,} characters are more code than is read ({LONGEST:,})")
    first = ""
    for code in dict.fromkeys((text, textwrap.dedent(text))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(code)
        except SyntaxError as error:
            first = f"{type(error).__name__}: {error}"
        except (ValueError, RecursionError, MemoryError) as error:
            first = f"{type(error).__name__}: {error or 'nested too deeply'}"
        else:
            return Extracted(code)
    return Extracted(None, first)


def _tagged(reply: str) -> Iterator[_Candidate]:
    """The content of tags that begin outside fences; of a fence in a tag, the fence's content."""
    opened: re.Match[str] | None = None
    start = free = 0  # where the line begins, and where the last tag ended
    for number, line in enumerate(reply.split("\n"), 1):
        stop = start + len(line)
        if opened is not None:
            if _closes(line, opened["fence"]):
                opened = None
        elif start < free or (opened := FENCE.match(line.rstrip("\r"))) is None:
            while tag := TAG.search(reply, max(start, free), stop):
                end = re.compile(rf"</{tag[1]}\s*+>", re.IGNORECASE).search(reply, tag.end())
                content, free = reply[tag.end() : end.start() if end else None], end.end() if end else len(reply)
                fenced = list(_fenced(content))
                for inner in fenced:
                    yield _Candidate(inner.text, inner.line + number - 1, inner.python)
                if not fenced:
                    yield _Candidate(content, number, closed=end is not None)
        start = stop + 1


def _fenced(reply: str) -> Iterator[_Candidate]:
    """The content of fences; one that is never closed goes on to the end."""
    lines = reply.split("\n")
    opened: re.Match[str] | None = None
    start = 0
    for number, line in enumerate([*lines, None]):
        if opened is None:
            opened = FENCE.match(line.rstrip("\r")) if line is not None else None
            start = number + 1
        elif line is None or _closes(line, opened["fence"]):
            quoted = ">" in opened["lead"]
            body = [re.sub(r"^[ \t]*> ?", "", one) if quoted else one for one in lines[start:number]]
            yield _Candidate("\n".join(body), start + 1, opened["language"].lower() in PYTHON, line is not None)
            opened = None


def _closes(line: str, fence: str) -> bool:
    mark = line.strip(" \t\r>")
    return len(mark) >= len(fence) and set(mark) == {fence[0]}


def _plain(reply: str) -> Extracted:
    """The longest run of lines that is code, if it holds at least half of the lines that look like code."""
    whole = parse(reply)
    if whole.code is not None and is_code(whole.code):
        return whole
    lines = reply.split("\n")
    starts = [number for number, line in enumerate(lines) if START.match(line)]
    best, end, least = Extracted(None), 0, len(starts) / 2
    for start in [start for start in starts if _begins(lines, start)][:TRIES]:
        for stop in _ends(lines, start) if start >= end else ():
            found = parse("\n".join(lines[start:stop]))
            if found.code is not None and is_code(found.code):
                end = stop
                enough = sum(start <= number < stop for number in starts) >= least
                if enough and len(found.code) > len(best.code or ""):
                    best = Extracted(found.code, line=start + 1)
                break
    if best.code is None:
        return Extracted(None, whole.reason if _looks_like_code(lines, starts) and whole.reason else NO_CODE)
    return best


def _begins(lines: Sequence[str], number: int) -> bool:
    """No line of code stands right before it."""
    return number == 0 or not START.match(lines[number - 1])


def _ends(lines: Sequence[str], start: int) -> list[int]:
    """Where code from a line on may end, the furthest first: before lines that are not indented more than it."""
    indent = len(lines[start]) - len(lines[start].lstrip())
    ends = [
        number
        for number in range(start + 1, len(lines))
        if lines[number].strip() and len(lines[number]) - len(lines[number].lstrip()) <= indent
    ]
    prose = [number for number in ends if not START.match(lines[number])]
    return [len(lines), *reversed((prose or ends)[:TRIES])]


def is_code(text: str) -> bool:
    """It does something: words such as `Sure` are names to Python."""
    body = ast.parse(text).body
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Await) for node in body)


def _looks_like_code(lines: Sequence[str], starts: Sequence[int]) -> bool:
    """Some line can only be meant as code."""
    return any(re.match(r"[ \t]*(import \w|from [\w.]+ import|def \w+\s*\(|class \w.*:|@\w)", lines[n]) for n in starts)
