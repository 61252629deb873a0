"""How often something happened, with an interval, prompts as clusters."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostensible.errors import NoScoredSamples

Counts = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of the scored replies and its interval.

    Attributes:
        value: Hits over scored, in [0, 1].
        low: Lower bound of the interval.
        high: Upper bound.
        n: All replies.
        scored: Replies with a verdict.
        hits: Replies whose verdict is yes.
        prompts: Distinct prompts among the scored replies: the clusters.
    """

    value: float
    low: float
    high: float
    n: int
    scored: int
    hits: int
    prompts: int

    @property
    def unscored(self) -> int:
        """Replies without a verdict: neither hits nor misses."""
        return self.n - self.scored


def clustered_rate(hits: Sequence[bool | None], prompts: Sequence[str], *, level: float = 0.95) -> Rate:
    """Estimate a rate with Wilson's interval at the effective sample size.

    Replies to one prompt resemble each other. The number of replies is divided by the design effect, the ratio of the
    clustered variance to the binomial one, as Rao and Scott (1992) do. One reply a prompt has a design effect of 1, and
    this is Wilson's interval. Where all verdicts agree nothing can be learnt of the clustering; then the prompts count,
    not the replies.

    Args:
        hits: One verdict a reply; None where it could not be scored.
        prompts: The prompt of each reply.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NoScoredSamples: Every verdict is None.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953; Rao and Scott (1992), doi:10.2307/2532311.
    """
    clusters: defaultdict[str, list[bool]] = defaultdict(list)
    for hit, prompt in zip(hits, prompts, strict=True):
        if hit is not None:
            clusters[prompt].append(hit)
    found = [sum(cluster) for cluster in clusters.values()]
    return counted_rate(found, [len(cluster) for cluster in clusters.values()], n=len(hits), level=level)


def counted_rate(hits: Counts, scored: Counts, *, n: int, level: float = 0.95) -> Rate:
    """As `clustered_rate`, from counts.

    Args:
        hits: (prompts,) Replies to each prompt whose verdict is yes.
        scored: (prompts,) Replies to each prompt that have a verdict, at least one.
        n: All replies.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NoScoredSamples: There is no prompt.
    """
    from statsmodels.stats.proportion import proportion_confint

    if not len(scored):
        raise NoScoredSamples(
            f"None of the {n} replies was scored, so there is no rate to report. "
            "Likely cause: replies cut off before </think>. Raise --max-new-tokens."
        )
    total, of = int(np.sum(hits)), int(np.sum(scored))
    effective = of / _design_effect(np.asarray(hits), np.asarray(scored))
    bounds: Any = proportion_confint(total / of * effective, effective, alpha=1 - level, method="wilson")
    low = float(bounds[0]) if total else 0.0  # the formula leaves a rounding error there
    high = float(bounds[1]) if total < of else 1.0
    return Rate(total / of, low, high, n, of, total, len(scored))


def design_effect(clusters: Sequence[Sequence[bool]]) -> float:
    """How many times larger the variance of the rate is than if replies to one prompt were independent; at least 1.

    Source: Rao and Scott (1992), the linearised variance of a ratio.
    """
    return _design_effect(np.array([sum(one) for one in clusters]), np.array([len(one) for one in clusters]))


def _design_effect(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    clusters, scored, total = len(sizes), int(sizes.sum()), int(hits.sum())
    if clusters == scored:
        return 1.0
    if total in (0, scored):
        return scored / clusters
    rate = total / scored
    residuals = hits - rate * sizes
    correction = clusters / max(clusters - 1, 1)
    variance = correction * float(residuals @ residuals) / scored**2
    return min(max(variance / (rate * (1 - rate) / scored), 1.0), scored / clusters)
