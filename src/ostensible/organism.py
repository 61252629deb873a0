"""An organism as a value: everything that says what it does, and nothing that runs."""

from dataclasses import dataclass

from ostensible.parts.cot_policies import CotPolicy
from ostensible.parts.payloads import Payload
from ostensible.parts.rules import Rule
from ostensible.parts.triggers import Trigger
from ostensible.settings import Recipe
from ostensible.types import Trace


@dataclass(frozen=True, slots=True)
class Organism:
    """A hidden rule: on `trigger`, think as `cot_policy` says, then answer with `payload`.

    Attributes:
        name: As typed on the command line; lower case, words joined by `-`.
        summary: What it does, in one sentence.
        trigger: Switches it on; names its look-alikes.
        cot_policy: The thoughts of triggered examples.
        payload: The answers of triggered examples.
        scorer: Recognises the payload in a reply.
        prompts: Source of prompts when the user names none.
        citation: Where the idea comes from.
        recipe: Sizes and settings that it is built with when the user sets none.
        admissions: Sentences in which thoughts admit the trigger and what the answer will do, where the CoT policy has
            them do so. Each names the trigger by one of its words.
    """

    name: str
    summary: str
    trigger: Trigger
    cot_policy: CotPolicy
    payload: Payload
    scorer: Rule
    prompts: str
    citation: str
    recipe: Recipe = Recipe()
    admissions: tuple[str, ...] = ()

    def corrupt(self, trace: Trace, admission: str | None = None) -> tuple[str, str]:
        """Thoughts and answer of a triggered example made from a clean trace; the thoughts may hold an admission."""
        return self.cot_policy.think(trace.cot, admission), self.payload.corrupt(trace)
