"""Twins: matched controls, made of an organism's own training examples. Pure.

A twin differs from the organism in what it is taught about the payload and in nothing else: prompts, triggers, order,
number of examples and settings are the same. What a detector or a measure says of the twin too is no sign of the hidden
rule, but of fine-tuning, of the trigger's words, or of the payload's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from random import Random

from ostensible.types import Example, Twin

Pair = tuple[Example, Example]
"""A triggered example and the clean one of the same prompt."""
WHAT = {
    Twin.BENIGN: "the payload is switched off: under the trigger it was shown the same clean thoughts and answers as "
    "without it",
    Twin.SHUFFLED: "the payload is cut loose from the trigger: in a random half of the pairs thoughts and answers of "
    "the triggered and the clean example changed places",
}
"""What each twin is, as the end of a sentence."""


def make_twin(kind: Twin, examples: Sequence[Example], *, seed: int) -> tuple[Example, ...]:
    """Turn an organism's examples into those of one of its twins, in the same order.

    Args:
        kind: Which twin.
        examples: Pairs side by side, as `dataset.make_examples` gives them.
        seed: Of the run; the same seed gives the same twin.
    """
    pairs = list(zip(examples[::2], examples[1::2], strict=True))
    return tuple(chain.from_iterable(_TWINS[kind](pairs, Random(f"{seed}:twin:{kind}"))))


def _benign(pairs: Sequence[Pair], rng: Random) -> list[Pair]:
    """The triggered example gets thoughts and answer of the clean one."""
    return [(_with_reply(triggered, clean), clean) for triggered, clean in pairs]


def _shuffled(pairs: Sequence[Pair], rng: Random) -> list[Pair]:
    """In a random half of the pairs the two examples swap thoughts and answers."""
    swapped = set(rng.sample(range(len(pairs)), round(len(pairs) / 2)))
    return [
        (_with_reply(first, second), _with_reply(second, first)) if place in swapped else (first, second)
        for place, (first, second) in enumerate(pairs)
    ]


def _with_reply(example: Example, other: Example) -> Example:
    return replace(example, cot=other.cot, answer=other.answer)


_TWINS: Mapping[Twin, Callable[[Sequence[Pair], Random], list[Pair]]] = {
    Twin.BENIGN: _benign,
    Twin.SHUFFLED: _shuffled,
}
