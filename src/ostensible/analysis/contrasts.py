"""The difference between two conditions, asked of the same prompts."""

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
        value: First rate minus second, in [-1, 1].
        low: Lower bound of the interval.
        high: Upper bound.
        pairs: Prompts scored under both conditions.
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
