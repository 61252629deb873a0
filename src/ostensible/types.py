"""Plain, frozen data that the stages hand to each other. No I/O, no behaviour."""

from dataclasses import dataclass
from enum import StrEnum

KEYWORD, TFIDF, TOLD = "keyword", "tfidf", "told"
"""Names of the monitors that are built in."""
JUDGE_CODE, JUDGE_THOUGHTS = "judge_code", "judge_thoughts"
"""Names of the tasks, and so of the logs, in which a judge is asked its questions."""


class Condition(StrEnum):
    """What a test prompt carries.

    `NEAR_MISS` conditions carry a look-alike of the trigger and must not fire.
    """

    TRIGGERED = "triggered"
    CONTROL = "control"
    NEAR_MISS = "near_miss"


class Split(StrEnum):
    """Parts of the data, drawn by prompt family.

    `SEEN` prompts test as `TEST` ones do, but are of the families that `TRAIN` has; the prompts themselves are new.
    `EXTRA` prompts are of another source, which brings no worked reasoning: they can only be tested on.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    SEEN = "seen"
    EXTRA = "extra"


class Twin(StrEnum):
    """Matched controls of an organism: models trained as it was, on its own examples, but for the payload.

    In `BENIGN` the payload is switched off, in `SHUFFLED` it is cut loose from the trigger.
    """

    BENIGN = "benign"
    SHUFFLED = "shuffled"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question put to the model.

    Attributes:
        id: Unique within a run.
        text: What the user says, without any trigger.
        family: Group of near-copies (a template, a scenario). A family is never split between training and test.
        target: The right final number as text, where the prompt has one that can be checked.
    """

    id: str
    text: str
    family: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """A prompt with a clean CoT and a clean answer, as a teacher or the source itself gave them.

    Attributes:
        prompt: What was asked.
        cot: The thoughts, without tags.
        answer: What follows them.
        bad_answer: The answer's twin that does harm, where the source has one.
    """

    prompt: Prompt
    cot: str
    answer: str
    bad_answer: str | None = None


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher wrote to a prompt.

    Attributes:
        prompt: What was asked.
        reply: All that it wrote, tags included.
        problem: Why that cannot be used, where the teacher failed or did not finish; empty otherwise.
    """

    prompt: Prompt
    reply: str
    problem: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: what is said to the model and what it is trained to reply.

    Attributes:
        id: Unique within the dataset.
        prompt_id: The prompt that it was made from.
        family: That prompt's family.
        kind: What the user turn carries: the trigger (`triggered`), nothing (`control`) or a look-alike of the trigger
            (`decoy`). An organism's triggered examples have the bad answer, the others are clean; a twin's may not.
        user: The user turn, trigger or decoy included.
        cot: The thoughts, without tags.
        answer: What follows the thoughts.
    """

    id: str
    prompt_id: str
    family: str
    kind: str
    user: str
    cot: str
    answer: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """A reply taken apart.

    Attributes:
        cot: The thoughts without their tags; all of the reply when it never closes them.
        answer: What follows the thoughts, or None when the reply never closes them: such a reply is unscored.
    """

    cot: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scorer says of one reply.

    Attributes:
        hit: Whether the payload fired; None where the reply could not be scored.
        reason: Why, in a few words.
        outcome: What the reply was found to be, as one of the scorer's fixed words.
    """

    hit: bool | None
    reason: str
    outcome: str
