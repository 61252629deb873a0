"""The difference between two conditions, asked of the same prompts, and between two such differences."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ostensible.analysis.rates import Rate, clustered_rate
from ostensible.errors import NoScoredSamples

Scored = Sequence[tuple[str, bool | None]]
"""Verdicts with the prompt that each belongs to."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A difference of two rates over the prompts that both have.

    Attributes:
        value: First rate minus second, in [-1, 1]; of two differences, first minus second, in [-2, 2].
        low: Lower bound of the interval.
        high: Upper bound.
        pairs: Prompts scored under both conditions, or under all four.
    """

    value: float
    low: float
    high: float
    pairs: int


def paired_difference(first: Scored, second: Scored, *, level: float = 0.95) -> Contrast:
    """Estimate the difference of two rates, paired by prompt.

    Newcombe's square-and-add interval: the limits of the two rates are combined with the correlation of their prompts.
    Unlike an interval from the spread of the differences, it does not shrink to a point where every prompt says the
    same.

    Args:
        first: Verdicts under the one condition.
        second: Verdicts under the other.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NoScoredSamples: No prompt is scored under both conditions.

    Source: Newcombe (1998), method 10, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C;
    for rates in general: Zou and Donner (2008), doi:10.1002/sim.3095.
    """
    left, right = _by_prompt(first), _by_prompt(second)
    shared = sorted(left.keys() & right.keys())
    if not shared:
        raise NoScoredSamples(
            f"No prompt is scored under both conditions ({len(left)} under one, {len(right)} under the other), so "
            "there is no difference to report. Likely cause: replies cut off before </think>. Raise --max-new-tokens."
        )
    a, b = _rate(left, shared, level), _rate(right, shared, level)
    r = correlation([_mean(left[p]) for p in shared], [_mean(right[p]) for p in shared])
    down = _combine(a.value - a.low, b.high - b.value, r)
    up = _combine(a.high - a.value, b.value - b.low, r)
    value = a.value - b.value
    return Contrast(value, max(value - down, -1.0), min(value + up, 1.0), len(shared))


def difference_of_differences(
    first: tuple[Scored, Scored], second: tuple[Scored, Scored], *, level: float = 0.95
) -> Contrast:
    """Estimate how much larger one paired difference is than another, over the prompts scored on all four sides.

    The limits of the two differences, each that of `paired_difference`, are combined by the same square-and-add rule
    with the correlation of the two over prompts (MOVER for correlated estimates). So it keeps a width where every
    prompt says the same.

    Args:
        first: Verdicts under the two conditions of the one subject, such as triggered and control of an organism.
        second: Those of the other subject, such as its twin.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NoScoredSamples: No prompt is scored on all four sides.

    Source: Zou and Donner (2008), doi:10.1002/sim.3095, for differences of any two parameters; Newcombe (1998) for the
    parts and for the correlation.
    """
    cells = [_by_prompt(side) for side in (*first, *second)]
    shared = sorted(set[str].intersection(*(set(cell) for cell in cells)))
    if not shared:
        raise NoScoredSamples(
            f"No prompt is scored on all four sides (prompts scored: {', '.join(str(len(cell)) for cell in cells)}), "
            "so there is no difference of differences. Likely cause: replies cut off before </think>. Raise "
            "--max-new-tokens."
        )
    kept = [[(prompt, hit) for prompt in shared for hit in cell[prompt]] for cell in cells]
    a, b = paired_difference(kept[0], kept[1], level=level), paired_difference(kept[2], kept[3], level=level)
    means = [[_mean(cell[prompt]) for prompt in shared] for cell in cells]
    r = correlation(*([x - y for x, y in zip(*side, strict=True)] for side in (means[:2], means[2:])))
    down, up = _combine(a.value - a.low, b.high - b.value, r), _combine(a.high - a.value, b.value - b.low, r)
    value = a.value - b.value
    return Contrast(value, max(value - down, -2.0), min(value + up, 2.0), len(shared))


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Correlation of two conditions over prompts, with Newcombe's continuity correction; 0 where one never varies.

    For yes and no this is phi. A positive co-deviation is taken to be half a prompt smaller than it is, at least 0, so
    that few prompts are not credited with more agreement than they show.
    """
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    together = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y)
    if spread <= 0:
        return 0.0
    return (max(together - 0.5, 0.0) if together > 0 else together) / math.sqrt(spread)


def _by_prompt(scored: Scored) -> dict[str, list[bool]]:
    prompts: defaultdict[str, list[bool]] = defaultdict(list)
    for prompt, hit in scored:
        if hit is not None:
            prompts[prompt].append(hit)
    return prompts


def _rate(prompts: dict[str, list[bool]], kept: Sequence[str], level: float) -> Rate:
    rows = [(hit, prompt) for prompt in kept for hit in prompts[prompt]]
    return clustered_rate([hit for hit, _ in rows], [prompt for _, prompt in rows], level=level)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def _combine(x: float, y: float, r: float) -> float:
    return math.sqrt(max(x * x - 2 * r * x * y + y * y, 0.0))
