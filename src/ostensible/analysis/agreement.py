"""How far two oracles agree on the same replies, prompts as clusters."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Pair = tuple[bool, bool]

NO_PAIRS = "no reply has a verdict of both"
CONSTANT = "one of the two says the same of every reply, so chance explains any agreement"
NO_SPREAD = "no interval: every prompt says the same, or there are fewer than two"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two verdicts on each reply, counted.

    Attributes:
        prompts: Distinct prompts among the pairs: the clusters.
        both: Pairs where both say yes.
        first_only: Pairs where only the first says yes.
        second_only: Pairs where only the second does.
        neither: Pairs where both say no.
        kappa: Cohen's kappa; None where it is not defined.
        low: Lower bound of kappa's interval; None where there is none.
        high: Upper bound.
        reason: Why kappa or its interval is None, in a few words.
    """

    prompts: int
    both: int
    first_only: int
    second_only: int
    neither: int
    kappa: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def pairs(self) -> int:
        """Replies with a verdict of both."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def raw(self) -> float | None:
        """Share of pairs that agree."""
        return _share(self.both + self.neither, self.pairs)

    @property
    def positive(self) -> float | None:
        """Of all that is called yes by either, weighed twice where by both: the share where both do."""
        return _share(2 * self.both, 2 * self.both + self.first_only + self.second_only)

    @property
    def negative(self) -> float | None:
        """As `positive`, for no."""
        return _share(2 * self.neither, 2 * self.neither + self.first_only + self.second_only)


def agreement(
    first: Sequence[bool | None], second: Sequence[bool | None], prompts: Sequence[str], *, level: float = 0.95
) -> Agreement:
    """Count how far two oracles agree, with Cohen's kappa and its interval.

    Kappa's variance is the delta method's, with the residuals of a prompt's replies summed before they are squared, so
    that replies to one prompt may resemble each other in any way. With one reply a prompt it is n / (n - 1) times the
    usual variance of Fleiss, Cohen and Everitt, but that for the interval half a prompt is added in each cell of the
    fourfold table: without, it is too narrow and off centre where a cell has few replies. Quantiles are those of t with
    one less degree of freedom than prompts.

    Args:
        first: Verdicts of the one oracle; None where it has none.
        second: Verdicts of the other, in the same order.
        prompts: The prompt of each reply.
        level: Two-sided confidence level, in (0, 1).

    Source: Cohen (1960), doi:10.1177/001316446002000104; Fleiss, Cohen and Everitt (1969), doi:10.1037/h0028106;
    clusters: Yang and Zhou (2015), Computational Statistics & Data Analysis 82, 1-18; positive and negative agreement:
    Cicchetti and Feinstein (1990), doi:10.1016/0895-4356(90)90159-M. The four halves, as Haldane and Anscombe add them
    for odds, are this package's; what they do is measured in docs/statistics.md.
    """
    clusters: defaultdict[str, list[Pair]] = defaultdict(list)
    for a, b, prompt in zip(first, second, prompts, strict=True):
        if a is not None and b is not None:
            clusters[prompt].append((a, b))
    cells = Counter(pair for cluster in clusters.values() for pair in cluster)
    counts = (len(clusters), cells[True, True], cells[True, False], cells[False, True], cells[False, False])
    if not cells:
        return Agreement(*counts, reason=NO_PAIRS)
    if any(len({pair[side] for pair in cells}) == 1 for side in (0, 1)):
        return Agreement(*counts, reason=CONSTANT)
    kappa, residuals = _kappa(cells)
    sums = [sum(residuals[pair] for pair in cluster) for cluster in clusters.values()]
    if len(sums) < 2 or max(map(abs, sums)) < 1e-12:
        return Agreement(*counts, kappa, reason=NO_SPREAD)
    from scipy.stats import t

    centre, spread = _smoothed(cells, list(clusters.values()))
    half = float(t.ppf(0.5 + level / 2, len(clusters) - 1)) * spread
    return Agreement(*counts, kappa, max(min(centre - half, kappa), -1.0), min(max(centre + half, kappa), 1.0))


def _kappa(cells: Mapping[Pair, float]) -> tuple[float, dict[Pair, float]]:
    """Kappa, and how much a pair of each kind moves it: its influence function."""
    n = math.fsum(cells.values())
    yes = [sum(count for pair, count in cells.items() if pair[side]) / n for side in (0, 1)]
    shares = [{True: share, False: 1 - share} for share in yes]
    observed = math.fsum(count for (a, b), count in cells.items() if a == b) / n
    expected = math.fsum(shares[0][verdict] * shares[1][verdict] for verdict in (True, False))
    apart = (1 - observed) / (1 - expected)
    residuals = {
        (a, b): ((a == b) - observed - apart * (shares[1][a] + shares[0][b] - 2 * expected)) / (1 - expected)
        for a, b in cells
    }
    return 1 - apart, residuals


def _smoothed(cells: Counter[Pair], clusters: Sequence[Sequence[Pair]]) -> tuple[float, float]:
    """Kappa and its standard error with half a prompt of the mean size in each cell."""
    size = cells.total() / len(clusters)
    filled = {(a, b): cells[a, b] + size / 2 for a, b in product((True, False), (True, False))}
    kappa, residuals = _kappa(filled)
    squares = math.fsum(math.fsum(residuals[pair] for pair in cluster) ** 2 for cluster in clusters)
    squares += math.fsum((size * residual) ** 2 / 2 for residual in residuals.values())
    correction = (len(clusters) + 2) / (len(clusters) - 1)
    return kappa, math.sqrt(correction * squares) / math.fsum(filled.values())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
