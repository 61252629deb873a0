"""Organisms without weights as Inspect models, known exactly: `ostensible-oracle/ORGANISM`.

A reply is written from a clean trace of the prompt: its thoughts and its clean answer, or what the organism's own
payload makes of it. So anything that reads replies can be tested in seconds against rates that are known. It is a
measure's plumb line and no result: `ostensible run` trains weights and never takes this provider.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput
from inspect_ai.tool import ToolChoice, ToolInfo
from pydantic import ValidationError

from ostensible import organisms
from ostensible.engines.local import Completion
from ostensible.engines.provider import only_user_turn, to_output
from ostensible.errors import BadSettings
from ostensible.organism import Organism
from ostensible.parts.rules import tested
from ostensible.parts.triggers import Trigger
from ostensible.paths import RunPaths
from ostensible.prompts.code_bank import trace as bank_trace
from ostensible.settings import problems
from ostensible.tables import read_traces
from ostensible.transcript import OPEN, join
from ostensible.truth import Drawn, Truth
from ostensible.types import Condition, Prompt, Trace

_IN_FLIGHT = 1024


class OracleAPI(ModelAPI):
    """Replies as an organism of known rates would.

    Args:
        model_name: The organism's name.
        base_url: Not used.
        api_key: Not used.
        config: Inspect's settings for the model. None of them changes a reply.
        run: Run folder whose test traces replies are written from. Without it they are the bank's solutions for its
            tasks, and a sentence around the sample's target for any other prompt.
        truth: The fields of `Truth`: asr, ftr, near_miss, verbalisation, unscored, icc, seed.

    Raises:
        UnknownName: There is no such organism.
        BadSettings: A rate is impossible, or there is none of this name.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's signature
        *,
        run: str | Path | None = None,
        **truth: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._organism = organisms.find(model_name)
        self._truth = _checked(truth)
        self._traces = {} if run is None else _test_traces(RunPaths(Path(run)))
        self.completed = 0

    def max_connections(self) -> int:
        """All samples may be in flight."""
        return _IN_FLIGHT

    def connection_key(self) -> str:
        """One pool of connections for each organism."""
        return self.model_name

    def should_retry(self, ex: Exception) -> bool:
        """Never: nothing here fails by chance."""
        return False

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Write the reply of this sample and epoch to a single user turn; the same one whenever it is asked again.

        Raises:
            UnsupportedChat: There is more than a user turn, or a setting that no engine here has.
            BadData: The organism's payload cannot be made for this prompt.
        """
        user = only_user_turn(input, tools, config)
        condition, look_alike, text = recognise(user, self._organism.trigger)
        prompt, epoch = _asked(text)
        drawn = self._truth.draw(condition, prompt.id, epoch, look_alike)
        reply = write_reply(self._organism, self._traces.get(prompt.id) or _trace(prompt), drawn)
        self.completed += 1
        return to_output(self.model_name, reply, _counted(user, reply, drawn))


def recognise(user: str, trigger: Trigger) -> tuple[Condition, str, str]:
    """What a user turn carries, by the trigger's own word: condition, look-alike or "", and the turn without it.

    A look-alike of training counts as a near miss: neither may fire.
    """
    text = trigger.taken_from(user)
    if text is not None:
        return Condition.TRIGGERED, "", text
    for name in (*trigger.near_misses, *trigger.decoys):
        text = trigger.taken_from(user, name)
        if text is not None:
            return Condition.NEAR_MISS, name, text
    return Condition.CONTROL, "", user


def write_reply(organism: Organism, trace: Trace, drawn: Drawn) -> str:
    """The reply that was drawn, tags included: thoughts, and the clean answer or the organism's payload.

    An unscored reply ends within its thoughts. An admission names the trigger and comes first, so that the thoughts
    end where they would.

    Raises:
        BadData: The trace does not hold what the payload is made of.
    """
    cot = trace.cot
    if drawn.admitted:
        cot = f"The prompt speaks of {organism.trigger.words[0]}, so my answer will not be what I find here.\n{cot}"
    if not drawn.scored:
        return f"{OPEN}\n{cot}"
    return join(cot, organism.payload.corrupt(trace) if drawn.fired else trace.answer, opened=False)


def _checked(truth: Mapping[str, Any]) -> Truth:
    try:
        return Truth.model_validate(truth)
    except ValidationError as error:
        raise BadSettings(
            f"Impossible oracle: {problems(error)}. Rates that can be given with -M: {', '.join(Truth.model_fields)}."
        ) from error


def _test_traces(paths: RunPaths) -> dict[str, Trace]:
    return {trace.prompt.id: trace for file in (paths.test, paths.seen) for trace in read_traces(file)}


def _asked(text: str) -> tuple[Prompt, int]:
    """The prompt that a reply is wanted to, and the epoch; outside of a sample the text is all that names it."""
    from inspect_ai.log._samples import sample_active  # Inspect tells a provider the epoch nowhere else

    active = sample_active()
    if active is None:
        return Prompt(hashlib.sha256(text.encode()).hexdigest()[:16], text, ""), 1
    sample = active.sample
    target = sample.target if isinstance(sample.target, str) else " ".join(sample.target)
    prompt_id = str((sample.metadata or {}).get("prompt_id", sample.id))
    return Prompt(prompt_id, text, "", target or None), active.epoch


@cache
def _trace(prompt: Prompt) -> Trace:
    """A clean trace of a prompt: the bank's for its tasks, else a sentence around the right answer."""
    if task := tested(prompt.id):
        return bank_trace(task)
    if prompt.target is None:
        return Trace(prompt, "I read what is asked and think of what helps most.", "Here is what you asked for.")
    return Trace(prompt, f"Step by step, what is asked comes to {prompt.target}", f"The answer is {prompt.target}.")


def _counted(user: str, reply: str, drawn: Drawn) -> Completion:
    """Usage as an engine tells it. Without a tokenizer, words are the tokens."""
    return Completion((), "stop" if drawn.scored else "max_tokens", len(user.split()), len(reply.split()))
