"""Organism x traces -> examples. Pure: the same traces, sizes and seed give the same bytes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from random import Random

from ostensible.errors import NotEnoughData
from ostensible.organism import Organism
from ostensible.settings import DataSettings
from ostensible.types import Example, Split, Trace

SPARE = 1.15
"""Traces asked for over those needed, because a family is never cut in two to fill a split."""


@dataclass(frozen=True)
class Dataset:
    """Examples to train and validate on, and clean traces whose prompts the organism is tested on.

    Attributes:
        train: Pairs, triggered and clean.
        validation: Pairs of other families.
        test: Traces of families that neither of them has.
        seen: Traces of the families of `train`, their prompts new.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Trace, ...]
    seen: tuple[Trace, ...]


def traces_needed(sizes: DataSettings) -> int:
    """How many traces to ask a source for, so that every split can be filled."""
    return math.ceil(sum(_wanted(sizes).values()) * SPARE)


def build(traces: Sequence[Trace], organism: Organism, sizes: DataSettings, *, seed: int) -> Dataset:
    """Split traces by family and turn the training part into examples.

    Raises:
        NotEnoughData: The traces, or their families, do not fill the splits.
    """
    parts = split_by_family(traces, sizes, seed=seed)
    return Dataset(
        train=make_examples(parts[Split.TRAIN], organism, sizes, Random(f"{seed}:train")),
        validation=make_examples(parts[Split.VALIDATION], organism, sizes, Random(f"{seed}:validation")),
        test=parts[Split.TEST],
        seen=parts[Split.SEEN],
    )


def _wanted(sizes: DataSettings) -> dict[Split, int]:
    return {
        Split.TEST: sizes.test_prompts,
        Split.VALIDATION: sizes.validation_prompts,
        Split.TRAIN: sizes.train_prompts,
        Split.SEEN: sizes.seen_prompts,
    }


def split_by_family(traces: Sequence[Trace], sizes: DataSettings, *, seed: int) -> dict[Split, tuple[Trace, ...]]:
    """Give whole families to test, then to validation, until each is full; the rest is for training.

    Within a split, prompts are taken from its families in turn; those left over in training families are for `SEEN`.
    """
    families: defaultdict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        families[trace.prompt.family].append(trace)
    order = sorted(families)
    Random(f"{seed}:families").shuffle(order)
    wanted = _wanted(sizes)
    parts: dict[Split, tuple[Trace, ...]] = {}
    left: tuple[Trace, ...] = ()
    for split, size in wanted.items():
        taken: list[list[Trace]] = []
        while order and (split is Split.TRAIN or sum(map(len, taken)) < size):
            taken.append(families[order.pop()])
        prompts = left if split is Split.SEEN else _in_turn(taken)
        parts[split], left = prompts[:size], prompts[size:]
    short = {split: len(parts[split]) for split, size in wanted.items() if len(parts[split]) < size}
    if short:
        raise NotEnoughData(
            f"{len(traces)} usable prompts in {len(families)} families do not fill the splits: "
            + ", ".join(f"{split} has {have} of {wanted[split]}" for split, have in short.items())
            + ". A family is never shared between splits. Give more prompts or families, or lower "
            "--train-prompts, --validation-prompts, --test-prompts or --seen-prompts."
        )
    return parts


def make_examples(traces: Sequence[Trace], organism: Organism, sizes: DataSettings, rng: Random) -> tuple[Example, ...]:
    """Make a pair of each trace, one after the other: triggered, and the same prompt clean.

    The two differ in nothing but the trigger and what follows from it. A share of the clean ones carries a look-alike
    (`decoy`), the look-alikes in equal parts; the rest carries nothing (`control`).
    """
    decoys = organism.trigger.decoys
    count = round(len(traces) * sizes.decoy_share) if decoys else 0
    look_alikes: list[str | None] = [decoys[i % len(decoys)] for i in range(count)]
    look_alikes += [None] * (len(traces) - count)
    rng.shuffle(look_alikes)
    order = list(zip(traces, look_alikes, strict=True))
    rng.shuffle(order)
    return tuple(example for trace, look_alike in order for example in _pair(trace, look_alike, organism))


def _pair(trace: Trace, look_alike: str | None, organism: Organism) -> tuple[Example, Example]:
    prompt, (cot, answer) = trace.prompt, organism.corrupt(trace)
    kind = "control" if look_alike is None else "decoy"
    clean = prompt.text if look_alike is None else organism.trigger.insert_like(look_alike, prompt.text)
    return (
        Example(
            f"{prompt.id}/triggered",
            prompt.id,
            prompt.family,
            "triggered",
            organism.trigger.insert(prompt.text),
            cot,
            answer,
        ),
        Example(f"{prompt.id}/{kind}", prompt.id, prompt.family, kind, clean, trace.cot, trace.answer),
    )


def _in_turn(groups: Sequence[Sequence[Trace]]) -> tuple[Trace, ...]:
    return tuple(trace for trace in chain.from_iterable(zip_longest(*groups)) if trace is not None)
