"""How often something happened, with an interval, prompts as clusters."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ostensible.errors import NoScoredSamples


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
    not the replies. How often the interval holds the truth is measured in docs/statistics.md.

    Args:
        hits: One verdict a reply; None where it could not be scored.
        prompts: The prompt of each reply.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NoScoredSamples: Every verdict is None.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953; Rao and Scott (1992), doi:10.2307/2532311.
    """
    from statsmodels.stats.proportion import proportion_confint

    clusters: defaultdict[str, list[bool]] = defaultdict(list)
    for hit, prompt in zip(hits, prompts, strict=True):
        if hit is not None:
            clusters[prompt].append(hit)
    scored = sum(map(len, clusters.values()))
    if not scored:
        raise NoScoredSamples(
            f"None of the {len(hits)} replies was scored, so there is no rate to report. "
            "Likely cause: replies cut off before </think>. Raise --max-new-tokens."
        )
    total = sum(sum(cluster) for cluster in clusters.values())
    effective = scored / design_effect(list(clusters.values()))
    bounds: Any = proportion_confint(total / scored * effective, effective, alpha=1 - level, method="wilson")
    low = float(bounds[0]) if total else 0.0  # the formula leaves a rounding error there
    high = float(bounds[1]) if total < scored else 1.0
    return Rate(total / scored, low, high, len(hits), scored, total, len(clusters))


def design_effect(clusters: Sequence[Sequence[bool]]) -> float:
    """How many times larger the variance of the rate is than if replies to one prompt were independent.

    At least 1 and at most the replies a prompt. Near 0 and 1 it hangs on a few prompts and is mostly found too small,
    so half a prompt that always hits and half a prompt that never does are added, as Jeffreys' prior adds half a hit
    and half a miss. Where all verdicts agree nothing is known of the clustering, and it is the replies a prompt.

    Source: Rao and Scott (1992), the linearised variance of a ratio; the two halves are this package's, measured in
    docs/statistics.md.
    """
    scored, size = sum(map(len, clusters)), sum(map(len, clusters)) / len(clusters)
    if size == 1:
        return 1.0
    prompts, replies = len(clusters) + 1, scored + size
    rate = (sum(map(sum, clusters)) + size / 2) / replies
    residuals = math.fsum((sum(cluster) - rate * len(cluster)) ** 2 for cluster in clusters)
    residuals += size**2 * ((1 - rate) ** 2 + rate**2) / 2
    variance = prompts / (prompts - 1) * residuals / replies**2
    return min(max(variance / (rate * (1 - rate) / replies), 1.0), size)
