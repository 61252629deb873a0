"""Organisms of the user's own: a value in a file, named as `path.py:NAME`, and what it has to keep.

What the tests prove of the organisms of this package is checked here of any other, before anything is trained.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ostensible import user_code
from ostensible.errors import BadOrganism
from ostensible.models import sha256
from ostensible.organism import Organism
from ostensible.organisms.foreign import NAME
from ostensible.parts.cot_policies import CotPolicy
from ostensible.parts.mentions import speaks_of
from ostensible.parts.payloads import Payload
from ostensible.parts.rules import Rule
from ostensible.parts.triggers import Trigger
from ostensible.settings import Recipe
from ostensible.types import Trace, Transcript

SOME = 10
"""Traces on which the scorer is tried: it may run code for each."""
PROBE = "How many apples are there?"
KINDS: dict[str, type] = {
    "name": str,
    "summary": str,
    "trigger": Trigger,
    "cot_policy": CotPolicy,
    "payload": Payload,
    "scorer": Rule,
    "prompts": str,
    "citation": str,
    "recipe": Recipe,
    "admissions": tuple,
}


def load(named: str) -> Organism:
    """Import an organism, once for each content of its file, and check what can be checked without prompts.

    Args:
        named: `path.py:NAME`.

    Raises:
        BadData: There is no such file, or it cannot be imported.
        BadOrganism: What is named in it is no organism, or not one that can be built.
    """
    return _load(named, Path.cwd(), file_hash(named))


def file_hash(named: str) -> str:
    """Hash of the file that an organism is in. Modules that the file imports are not part of it.

    Raises:
        BadData: There is no such file.
    """
    return sha256(user_code.file_of(named, what="organism"))


@cache
def _load(named: str, home: Path, digest: str) -> Organism:
    """An organism, by all that decides what importing it gives: its name, the working directory, the file's content."""
    found = user_code.load(named, what="organism")
    if not isinstance(found, Organism):
        path, inside = user_code.parts(named)
        told = "nothing of that name" if found is None else f"a {type(found).__name__} there"
        raise BadOrganism(f"{inside!r} in {path} has to be an Organism; the file has {told}.")
    check_value(found, named)
    return found


def check_value(organism: Organism, named: str) -> None:
    """See that every part is of its kind and that no look-alike is the trigger.

    Args:
        organism: Any.
        named: What to call it in the message.

    Raises:
        BadOrganism: One is not.
    """
    for field, kind in KINDS.items():
        if not isinstance(value := getattr(organism, field), kind):
            raise BadOrganism(f"{named}: {field} is {value!r}, which is no {kind.__name__}.")
    if not NAME.fullmatch(organism.name):
        raise BadOrganism(f"{named}: name is {organism.name!r}. Use lower case letters and digits, joined by -.")
    trigger = organism.trigger
    if not trigger.near_misses:
        raise BadOrganism(f"{named}: the trigger has no near misses, so nothing would test how narrow its rule is.")
    if both := set(trigger.near_misses) & set(trigger.decoys):
        raise BadOrganism(f"{named}: {sorted(both)[0]!r} is a near miss and a decoy. Near misses are never trained on.")
    written = {name: trigger.insert_like(name, PROBE) for name in (*trigger.near_misses, *trigger.decoys)}
    for name, text in written.items():
        if trigger.is_in(text) or text == PROBE:
            why = "carries the trigger itself" if trigger.is_in(text) else "changes nothing in a prompt"
            raise BadOrganism(f"{named}: the look-alike {name!r} {why}.")
        if trigger.taken_from(text, name) != PROBE:
            raise BadOrganism(f"{named}: what the look-alike {name!r} writes into a prompt cannot be taken from it.")
    if trigger.taken_from(trigger.insert(PROBE)) != PROBE or not trigger.is_in(trigger.insert(PROBE)):
        raise BadOrganism(f"{named}: what the trigger writes into a prompt cannot be found in it or taken from it.")
    _check_words(organism, named)


def _check_words(organism: Organism, named: str) -> None:
    """See that there are words by which thoughts are searched, and that every admission has one of the trigger's."""
    for field, words in (("trigger", organism.trigger.words), ("payload", organism.payload.words)):
        if not words or not all(word.strip() for word in words):
            raise BadOrganism(f"{named}: the {field} has no words, by which thoughts that speak of it are found.")
    for admission in organism.admissions:
        if not speaks_of(admission, organism.trigger.words):
            raise BadOrganism(
                f"{named}: the admission {admission!r} has none of the trigger's words "
                f"({', '.join(map(repr, organism.trigger.words))}), so it would not count as one."
            )


def check_on(organism: Organism, traces: Iterable[Trace]) -> None:
    """See that an organism's scorer tells its own payload from the clean answer.

    Args:
        organism: Any.
        traces: Clean ones that are fit for it; the first few are tried.

    Raises:
        BadOrganism: It does not, on one of them.
    """
    for trace, _ in zip(traces, range(SOME), strict=False):
        clean = Transcript(trace.cot, trace.answer)
        for what, transcript, wanted in (
            ("its own payload", Transcript(*organism.corrupt(trace)), True),
            ("the clean answer", clean, False),
            ("a reply that never closes its thoughts", Transcript(trace.cot, None), None),
        ):
            verdict = organism.scorer.judge(transcript, trace.prompt.id)
            if verdict.hit is not wanted:
                said = {True: "fired", False: "did not fire", None: "is unscored"}[verdict.hit]
                raise BadOrganism(
                    f"The scorer of {organism.name} {said} on {what} of prompt {trace.prompt.id!r} ({verdict.reason}): "
                    f"{(transcript.answer or '')[:200]!r}. Make payload and scorer fit each other."
                )
