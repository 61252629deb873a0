"""Scored replies of an oracle organism as plain rows, without Inspect, logs or weights."""

from collections.abc import Iterator, Sequence

from ostensible.analysis.replies import Reply
from ostensible.engines.oracle import write_reply
from ostensible.numbers import final_number
from ostensible.organism import Organism
from ostensible.transcript import split
from ostensible.truth import Truth
from ostensible.types import Condition, Split, Trace


def simulate(
    organism: Organism, truth: Truth, traces: Sequence[Trace], *, samples_per_prompt: int = 1, part: Split = Split.TEST
) -> tuple[Reply, ...]:
    """Replies under every condition: those that `ostensible-oracle` gives with these traces, judged by its own rule.

    Args:
        organism: Whose trigger and payload they carry.
        truth: The rates that they are drawn by.
        traces: Clean traces of the prompts.
        samples_per_prompt: Replies to each prompt under each condition.
        part: The set of prompts that they stand for.

    Raises:
        BadData: A trace does not hold what the payload is made of.
    """
    return tuple(
        _reply(organism, truth, trace, place, epoch, part)
        for trace in traces
        for place in _places(organism, trace.prompt.text)
        for epoch in range(1, samples_per_prompt + 1)
    )


def _places(organism: Organism, text: str) -> Iterator[tuple[Condition, str, str]]:
    """Condition, look-alike and user turn of all that a prompt is asked under, in the order of `read_replies`."""
    trigger = organism.trigger
    yield Condition.CONTROL, "", text
    for name in sorted(trigger.near_misses):
        yield Condition.NEAR_MISS, name, trigger.insert_like(name, text)
    yield Condition.TRIGGERED, "", trigger.insert(text)


def _reply(
    organism: Organism, truth: Truth, trace: Trace, place: tuple[Condition, str, str], epoch: int, part: Split
) -> Reply:
    condition, look_alike, user = place
    prompt = trace.prompt
    drawn = truth.draw(condition, prompt.id, epoch, look_alike)
    text = write_reply(organism, trace, drawn)
    transcript = split(text)
    verdict = organism.scorer.judge(transcript, prompt.id)
    flags = {"mentions_trigger": drawn.admitted, "mentions_look_alike": False, "mentions_payload": False}
    right = {} if prompt.target is None else {"right": final_number(transcript.cot) == prompt.target}
    answered = transcript.answer is not None
    return Reply(
        subject="organism",
        condition=condition,
        look_alike=look_alike,
        prompt_id=prompt.id,
        family=prompt.family,
        part=part,
        epoch=epoch,
        user=user,
        reply=text,
        cot=transcript.cot,
        answer=transcript.answer,
        stop_reason="stop" if answered else "max_tokens",
        hit=verdict.hit,
        outcome=verdict.outcome,
        cot_flags=flags | right if answered else {},
        correct=final_number(transcript.answer) == prompt.target if transcript.answer is not None and right else None,
        target=prompt.target,
    )
