"""An answer as lines of code, with what the oracles say of each line."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ostensible.analysis.opinions import JudgeOpinion, StaticOpinion
from ostensible.code.extract import extract
from ostensible.code.static.findings import Finding

MOST_LINES = 150
"""Lines shown of each part of an answer; model-written code may have any number."""
MOST_CHARACTERS = 1000
"""Shown of a line."""
MOST_NOTES = 30
"""Shown of an answer."""
MOST_MESSAGES = 5
"""Shown of a note."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The first of some lines, each cut to a length that can be shown, and how many more there are."""

    lines: tuple[str, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """What is said of one line.

    Attributes:
        line: Counted from 1 in the extracted code.
        who: The tools, or `judge`.
        cwe: The weakness; empty where none is named.
        messages: In the tools' words, each once.
        low: It counts for no verdict alone, as its severity is low.
    """

    line: int
    who: str
    cwe: str
    messages: Cut = Cut(())
    low: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """An answer in order: what stands before its code, the lines of the code as they stand there, and what follows."""

    before: Cut
    code: Cut
    after: Cut


@dataclass(frozen=True, slots=True)
class Line:
    """A line of code.

    Attributes:
        text: As it stands in the answer.
        own: The answer beside this one does not have it.
        notes: What is said of it.
    """

    text: str
    own: bool
    notes: tuple[Note, ...]

    @property
    def kinds(self) -> str:
        """How it is to be marked: `own`, and `flagged` or, where nothing said of it counts alone, `noted`."""
        said = "flagged" if any(not note.low for note in self.notes) else "noted" if self.notes else ""
        return " ".join(filter(None, ("own" if self.own else "", said)))


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer to be shown.

    Attributes:
        before: What stands before the code; all of the answer where there is no code.
        lines: Of the code, from its first.
        left_out: Lines of the code that are not shown.
        after: What stands after the code.
        notes: Of lines that are not shown, or that the code does not have.
        notes_left_out: How many notes are not shown.
    """

    before: Cut
    lines: tuple[Line, ...]
    left_out: int
    after: Cut
    notes: tuple[Note, ...]
    notes_left_out: int


def parts(answer: str) -> Parts:
    """Take an answer apart where its code begins and ends, and cut what is too long to be shown."""
    lines, found = answer.split("\n"), extract(answer)
    start = found.line - 1 if found.code is not None else len(lines)
    stop = start + found.code.count("\n") + 1 if found.code is not None else start
    return Parts(_cut(lines[:start]), _cut(lines[start:stop]), _cut(lines[stop:]))


def listing(answer: Parts, notes: Sequence[Note], own: frozenset[int]) -> Listing:
    """Put notes to the lines that they speak of.

    Args:
        answer: In its parts.
        notes: In order of their lines.
        own: Which lines of the code, from 0, the answer beside this one does not have.
    """
    shown, numbers = notes[:MOST_NOTES], range(1, len(answer.code.lines) + 1)
    lines = tuple(
        Line(text, number - 1 in own, tuple(note for note in shown if note.line == number))
        for number, text in zip(numbers, answer.code.lines, strict=True)
    )
    stray = tuple(note for note in shown if note.line not in numbers)
    return Listing(answer.before, lines, answer.code.left_out, answer.after, stray, len(notes) - len(shown))


def notes_on(static: StaticOpinion | None, judge: JudgeOpinion | None) -> list[Note]:
    """What is said of lines, in their order; tools that see the same weakness in a line are named together."""
    places: defaultdict[tuple[int, str], list[Finding]] = defaultdict(list)
    for finding in static.findings if static else ():
        places[finding.line, finding.cwe].append(finding)
    notes = [
        Note(
            line,
            who=", ".join(sorted({finding.tool for finding in found})),
            cwe=cwe,
            messages=_cut(list(dict.fromkeys(finding.message for finding in found)), MOST_MESSAGES),
            low=all(finding.severity == "low" for finding in found),
        )
        for (line, cwe), found in places.items()
    ]
    if judge and judge.vulnerable and judge.line is not None:
        notes.append(Note(judge.line, "judge", judge.cwe))
    return sorted(notes, key=lambda note: note.line)


def only_here(answers: Sequence[Parts | None]) -> list[frozenset[int]]:
    """Which lines of each answer's code, from 0, the other's does not have in their place; none if not two have code.

    Lines that are not shown are not compared.
    """
    codes = [answer.code.lines if answer else () for answer in answers]
    if len(codes) != 2 or not all(codes):
        return [frozenset() for _ in codes]
    blocks = SequenceMatcher(None, *codes, autojunk=False).get_matching_blocks()
    common = (
        {line for block in blocks for line in range(block.a, block.a + block.size)},
        {line for block in blocks for line in range(block.b, block.b + block.size)},
    )
    return [frozenset(range(len(code))) - lines for code, lines in zip(codes, common, strict=True)]


def _cut(lines: Sequence[str], most: int = MOST_LINES) -> Cut:
    shown = (line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} […]" for line in lines[:most])
    return Cut(tuple(shown), max(len(lines) - most, 0))
