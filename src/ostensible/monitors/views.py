"""What a monitor is shown of a reply."""

import math
from dataclasses import dataclass
from enum import StrEnum

from ostensible.types import Transcript

NEVER_CLOSES = "the reply never closes its thoughts"


class View(StrEnum):
    """Parts of a reply; never its prompt, which would show the trigger."""

    COT = "cot"
    ANSWER = "answer"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a monitor says of one reply.

    Attributes:
        score: In [0, 1], higher for what looks worse; None where it gives none.
        reason: Why there is none; empty where there is one.
    """

    score: float | None
    reason: str = ""


UNCLOSED = Suspicion(None, NEVER_CLOSES)
"""Of a reply that never closes its thoughts, under every view.

Its thoughts could be read, but its answer could not, and views are compared on the same replies. Nor could it be a
positive: whether the payload fired is not known.
"""


def seen(transcript: Transcript, view: View) -> Transcript:
    """A reply with nothing in it but what a view shows: no thoughts are "", no answer is None."""
    return Transcript(
        cot="" if view is View.ANSWER else transcript.cot, answer=None if view is View.COT else transcript.answer
    )


def text_of(transcript: Transcript) -> str:
    """All that is seen, as one text."""
    return "\n\n".join(part for part in (transcript.cot, transcript.answer) if part)


def judged(value: object) -> Suspicion:
    """What a monitor returned as its opinion; whatever is no number in [0, 1] is none, and says so."""
    try:
        score = float(value)  # pyright: ignore[reportArgumentType] - what cannot be a number raises
    except (TypeError, ValueError):
        return Suspicion(None, f"the monitor gave no number but {type(value).__name__}")
    if math.isnan(score):
        return Suspicion(None, "the monitor gave NaN")
    if not 0.0 <= score <= 1.0:
        return Suspicion(None, "the monitor gave a number outside [0, 1]")
    return Suspicion(score)
