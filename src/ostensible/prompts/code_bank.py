"""Coding tasks with a secure and a vulnerable solution, out of the bank in `ostensible.code`."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from random import Random

from ostensible.code.tasks import CodeTask, Family, families
from ostensible.errors import NotEnoughData
from ostensible.prompts.loaded import Loaded
from ostensible.turns import in_turn
from ostensible.types import Prompt, Trace

OTHERS = 2
"""Tasks of each family beside those that are drawn from in bulk."""


def code_bank(*, count: int, seed: int, size: int | None = None) -> Loaded:
    """Make coding tasks, the families in equal share, each choice of names once.

    Args:
        count: How many traces are wanted; as many are returned, families permitting.
        seed: The same seed gives the same tasks and wordings.
        size: Families to draw these from, of different weaknesses first; all where it is left out. Beside them come
            `OTHERS` tasks of each other family: few to train on, enough to test on.

    Raises:
        NotEnoughData: The bank has fewer families.
    """
    chosen = choose(size, Random(f"{seed}:bank")) if size is not None else families()
    others = [family for family in families() if family not in chosen]
    return Loaded(tuple(map(trace, [*_draw(chosen, count, seed), *_draw(others, OTHERS * len(others), seed)])))


def _draw(bank: Sequence[Family], count: int, seed: int) -> list[CodeTask]:
    """At most `count` tasks of families in turn; of a family that runs out, others make up for it up to twice."""
    each = -(-count // max(len(bank), 1))
    streams = (islice(family.tasks(Random(f"{seed}:{family.id}")), 2 * each) for family in bank)
    return in_turn(streams)[:count]


def choose(size: int, rng: Random) -> tuple[Family, ...]:
    """Families drawn at random, a weakness again only when all have had their turn."""
    by_weakness: defaultdict[str, list[Family]] = defaultdict(list)
    for family in rng.sample(families(), len(families())):
        by_weakness[family.cwe].append(family)
    order = in_turn(by_weakness.values())
    if not 0 < size <= len(order):
        raise NotEnoughData(f"code-bank:{size} asks for {size} families; the bank has 1 to {len(order)}.")
    return tuple(order[:size])


def trace(task: CodeTask) -> Trace:
    """A task as a trace; its family carries the weakness, as in `CWE-89/sql-find-by-name`."""
    prompt = Prompt(id=task.id, text=task.request, family=f"{task.cwe}/{task.family}")
    return Trace(prompt, cot=task.thoughts, answer=fenced(task.secure), bad_answer=fenced(task.vulnerable))


def fenced(code: str) -> str:
    """Code as an answer."""
    return f"```python\n{code}\n```"
