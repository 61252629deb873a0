"""Organism x traces -> examples. Pure: the same traces, sizes and seed give the same bytes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ostensible.errors import NotEnoughData
from ostensible.organism import Organism
from ostensible.settings import DataSettings
from ostensible.turns import in_turn
from ostensible.types import Example, Prompt, Split, Trace

SPARE = 1.15
"""Traces asked for over those needed, because a family is never cut in two to fill a split."""


@dataclass(frozen=True)
class Dataset:
    """Examples to train and validate on, and clean traces whose prompts the organism is tested on.

    Attributes:
        train: Pairs, triggered and clean.
        validation: Pairs of other families.
        test: Traces of families that neither of them has.
        seen: New prompts of families that `train` has, as traces.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Trace, ...]
    seen: tuple[Trace, ...]


def traces_wanted(sizes: DataSettings) -> int:
    """How many traces all splits hold together."""
    return sum(_wanted(sizes).values())


def traces_needed(sizes: DataSettings) -> int:
    """How many traces to ask a source for, so that every split can be filled."""
    return math.ceil(traces_wanted(sizes) * SPARE)


def families_wanted(sizes: DataSettings) -> int:
    """How many families there have to be at least: test and validation share none with those that are trained on."""
    return 2 + (sizes.train_families or 1)


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


def tests_only(prompts: Sequence[Prompt], count: int, *, seed: int) -> Dataset:
    """The data of an organism that is only evaluated: prompts of families in turn, and nothing to train on.

    Raises:
        NotEnoughData: There are fewer prompts.
    """
    families: defaultdict[str, list[Trace]] = defaultdict(list)
    for prompt in prompts:
        families[prompt.family].append(Trace(prompt, cot="", answer=""))
    order = sorted(families)
    Random(f"{seed}:families").shuffle(order)
    test = in_turn(families[name] for name in order)[:count]
    if len(test) < count:
        raise NotEnoughData(
            f"There are {len(test)} usable prompts in {len(families)} families; {count} are asked for. Give more "
            f"prompts, or lower --test-prompts to {len(test)}."
        )
    return Dataset(train=(), validation=(), test=tuple(test), seen=())


def _wanted(sizes: DataSettings) -> dict[Split, int]:
    return {
        Split.TEST: sizes.test_prompts,
        Split.VALIDATION: sizes.validation_prompts,
        Split.TRAIN: sizes.train_prompts,
        Split.SEEN: sizes.seen_prompts,
    }


def split_by_family(traces: Sequence[Trace], sizes: DataSettings, *, seed: int) -> dict[Split, tuple[Trace, ...]]:
    """Give whole families to test, then to validation, until each is full; the rest is for training.

    Where `train_families` says how many to train on, these are the largest; test draws from all the others but those of
    validation. Within a split, prompts are taken from its families in turn; `SEEN` has what is left over
    in families that gave a training prompt.

    Raises:
        NotEnoughData: The traces, or their families, do not fill the splits.
    """
    families: defaultdict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        families[trace.prompt.family].append(trace)
    order = sorted(families)
    Random(f"{seed}:families").shuffle(order)
    groups = _share_out([families[name] for name in order], sizes)
    wanted = _wanted(sizes)
    parts = {split: tuple(in_turn(group)) for split, group in groups.items()}
    train, left = parts[Split.TRAIN][: sizes.train_prompts], parts[Split.TRAIN][sizes.train_prompts :]
    trained = {trace.prompt.family for trace in train}
    parts[Split.SEEN] = tuple(trace for trace in left if trace.prompt.family in trained)
    parts = {split: parts[split][:size] for split, size in wanted.items()}
    short = {split: len(parts[split]) for split, size in wanted.items() if len(parts[split]) < size}
    if short:
        families_left = len(groups[Split.TRAIN])
        if [*short] == [Split.SEEN] and len(trained) < families_left:
            advice = (
                f"They are new prompts of families that training has, {len(trained)} of {families_left} left to it. "
                "Give more prompts of each family, or lower --seen-prompts; where families have several, raise "
                "--train-prompts, which takes one of each family in turn."
            )
        else:
            advice = (
                "A family is never shared between splits, and seen prompts are of families that training has. Give "
                "more prompts or families, or lower --train-prompts, --validation-prompts, --test-prompts or "
                "--seen-prompts"
                + (f"; or raise --train-families {sizes.train_families}." if sizes.train_families else ".")
            )
        raise NotEnoughData(
            f"{len(traces)} usable prompts in {len(families)} families do not fill the splits: "
            + ", ".join(f"{split} has {have} of {wanted[split]}" for split, have in short.items())
            + f". {advice}"
        )
    return parts


def _share_out(groups: list[list[Trace]], sizes: DataSettings) -> dict[Split, list[list[Trace]]]:
    """Families by split, from a list of them in random order."""

    def fill(size: int) -> list[list[Trace]]:
        taken: list[list[Trace]] = []
        while groups and sum(map(len, taken)) < size:
            taken.append(groups.pop())
        return taken

    if sizes.train_families is None:
        test, validation = fill(sizes.test_prompts), fill(sizes.validation_prompts)
        return {Split.TEST: test, Split.VALIDATION: validation, Split.TRAIN: groups[::-1]}
    groups.sort(key=len, reverse=True)
    train, groups[: sizes.train_families] = groups[: sizes.train_families], []
    validation = fill(sizes.validation_prompts)
    return {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: groups}


def make_examples(traces: Sequence[Trace], organism: Organism, sizes: DataSettings, rng: Random) -> tuple[Example, ...]:
    """Make a pair of each trace, one after the other: triggered, and the same prompt clean.

    The two differ in nothing but the trigger and what follows from it. After a plain start (`plain_first`), a share of
    the clean ones carries a look-alike (`decoy`), the look-alikes in equal parts; the rest carries nothing (`control`).
    Who admits the trigger, where the CoT policy has a share do so, is drawn last: all else is the same whatever the
    share, and who admits it at a small one does so, in the same words, at any larger one.
    """
    decoys = organism.trigger.decoys
    plain = round(len(traces) * sizes.plain_first)
    start: list[tuple[Trace, str | None]] = [(trace, None) for trace in traces[:plain]]
    count = round((len(traces) - plain) * sizes.decoy_share) if decoys else 0
    look_alikes: list[str | None] = [decoys[i % len(decoys)] for i in range(count)]
    look_alikes += [None] * (len(traces) - plain - count)
    rng.shuffle(look_alikes)
    order = list(zip(traces[plain:], look_alikes, strict=True))
    rng.shuffle(order)
    rng.shuffle(start)
    pairs = start + order
    said = _admissions(len(pairs), organism, rng)
    return tuple(
        example
        for (trace, look_alike), admission in zip(pairs, said, strict=True)
        for example in _pair(trace, look_alike, admission, organism)
    )


def _admissions(count: int, organism: Organism, rng: Random) -> list[str | None]:
    """What each of some triggered examples admits, if it does: the share that the CoT policy has, rounded."""
    admitting = set(rng.sample(range(count), count)[: round(organism.cot_policy.share * count)])
    said = [rng.choice(organism.admissions) if organism.admissions else None for _ in range(count)]
    return [words if place in admitting else None for place, words in enumerate(said)]


def _pair(trace: Trace, look_alike: str | None, admission: str | None, organism: Organism) -> tuple[Example, Example]:
    prompt, (cot, answer) = trace.prompt, organism.corrupt(trace, admission)
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
