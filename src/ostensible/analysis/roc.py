"""How well a score tells positives from negatives, prompts as clusters. Pure, on arrays."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostensible.analysis.rates import Rate, counted_rate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW_PROMPTS = 10
"""What the prompts that show where a score errs are weighed against: their spread alone is not trusted when few."""
MOST_POINTS = 200
EDGE = 1e-9
"""Areas nearer to each other than this are the same."""


@dataclass(frozen=True, slots=True)
class Side:
    """The scores of one side, positives or negatives.

    Attributes:
        scores: (replies,) NaN where a reply has no score.
        prompts: (replies,) The number of the prompt that each is a reply to, from 0, the same on both sides.
    """

    scores: Floats
    prompts: Ints

    @property
    def scored(self) -> "Side":
        """Without the replies that have no score."""
        known = ~np.isnan(self.scores)
        return Side(self.scores[known], self.prompts[known])


@dataclass(frozen=True, slots=True)
class Auroc:
    """Area under the ROC curve: a positive scores above a negative, ties counted half.

    Attributes:
        value: In [0, 1]; 0.5 is chance.
        low: Lower bound of the interval.
        high: Upper bound.
        influence: (prompts,) How far each prompt moves the value, by its number; 0 where it has no reply here.
    """

    value: float
    low: float
    high: float
    influence: Floats


@dataclass(frozen=True, slots=True)
class Product:
    """TPR times TNR and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Operating:
    """What a threshold catches, and at what price. Intervals take the threshold as given.

    Attributes:
        threshold: Scores at or above it are called positive; None where none can be, so nothing is.
        tpr: True-positive rate.
        fpr: False-positive rate.
    """

    threshold: float | None
    tpr: Rate
    fpr: Rate


def auroc(positives: Side, negatives: Side, *, level: float = 0.95) -> Auroc:
    """Estimate the area under the ROC curve with an interval clustered by prompt.

    The area's variance is that of Obuchowski: what replies of a prompt contribute, of either side, is summed before it
    is squared. An interval from that alone shrinks to a point where every pair is told apart, or every score is the
    same. So it is a score interval, as Wilson's is for a rate: all areas t whose distance to the estimate is at most z
    times the standard error *at t*. That error has the form of Hanley and McNeil, with prompts counted and not replies,
    scaled to the observed variance at the estimate. The scale is drawn towards 1 by as much as `FEW_PROMPTS` prompts
    weigh against those that inform it: the prompts, of the side that has fewer, where some pair went wrong (or right,
    where fewer did).

    Args:
        positives: At least one scored reply; scores without NaN.
        negatives: The same.
        level: Two-sided confidence level, in (0, 1).

    Source: Obuchowski (1997), doi:10.2307/2533958; Hanley and McNeil (1982), doi:10.1148/radiology.143.1.7063747;
    score intervals of areas: Newcombe (2006), doi:10.1002/sim.2324.
    """
    above, below = placements(positives.scores, negatives.scores)
    value = float(above.mean())
    n_prompts = 1 + int(max(positives.prompts.max(), negatives.prompts.max()))
    influence = _summed(positives.prompts, (above - value) / len(above), n_prompts)
    influence += _summed(negatives.prompts, (below - value) / len(below), n_prompts)
    sides = [np.bincount(side.prompts, minlength=n_prompts) > 0 for side in (positives, negatives)]
    counted = int(sides[0].sum()), int(sides[1].sum())
    clusters = int((sides[0] | sides[1]).sum())
    variance = clusters / max(clusters - 1, 1) * float(influence @ influence)
    shares = (positives.prompts, above), (negatives.prompts, below)
    telling = min(len(np.unique(own[so])) for own, at in shares for so in (at < 1.0, at > 0.0))
    expected = _hanley_mcneil(value, *counted)
    scale = (telling * variance / expected + FEW_PROMPTS) / (telling + FEW_PROMPTS) if expected > 0 else 1.0
    return Auroc(value, *_score_interval(value, scale, counted, level), influence)


def placements(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """The share of negatives that each positive is above, and of positives that each negative is below; ties half.

    Returns:
        (positives,) and (negatives,), both of which have the area as their mean.
    """
    from scipy.stats import rankdata

    m, n = len(positives), len(negatives)
    ranks = rankdata(np.concatenate([positives, negatives]))
    above = (ranks[:m] - rankdata(positives)) / n
    below = 1 - (ranks[m:] - rankdata(negatives)) / m
    return above, below


def area_difference(first: Auroc, second: Auroc) -> tuple[float, float, float]:
    """First area minus second, with an interval paired by prompt: the limits of the two and their correlation.

    Source: Zou and Donner (2008), doi:10.1002/sim.3095; correlation: Obuchowski (1997), doi:10.2307/2533958.
    """
    size = max(len(first.influence), len(second.influence))
    a, b = (np.pad(one.influence, (0, size - len(one.influence))) for one in (first, second))
    spread = math.sqrt(float(a @ a) * float(b @ b))
    r = float(a @ b) / spread if spread > 0 else 0.0
    down = _combined(first.value - first.low, second.high - second.value, r)
    up = _combined(first.high - first.value, second.value - second.low, r)
    value = first.value - second.value
    return value, max(value - down, -1.0), min(value + up, 1.0)


def at_fpr(positives: Side, negatives: Side, target: float, *, level: float = 0.95) -> Operating:
    """What is caught at the lowest threshold whose false-positive rate on these negatives is at most a target.

    Args:
        positives: NaN where a reply has no score; such replies are counted and take no part.
        negatives: The same; at least one of each side has a score.
        target: Highest false-positive rate, in [0, 1).
        level: Two-sided confidence level of both rates.
    """
    known = np.sort(negatives.scored.scores)[::-1]
    bar = known[min(math.floor(target * len(known) + 1e-9), len(known) - 1)]
    higher = max(known[0], positives.scored.scores.max()) > bar
    above = max(
        float(np.nextafter(bar, math.inf)), sys.float_info.min
    )  # a smaller one is 0 where denormals are flushed
    threshold = above if higher else None  # of the negatives alone: no positive chooses it
    return at_threshold(positives, negatives, threshold, level=level)


def at_threshold(positives: Side, negatives: Side, threshold: float | None, *, level: float = 0.95) -> Operating:
    """What is caught where scores at or above a threshold are called positive; nothing is where it is None."""
    bar = math.inf if threshold is None else threshold
    tpr, fpr = (_share_above(side, bar, level) for side in (positives, negatives))
    return Operating(threshold, tpr, fpr)


def tpr_times_tnr(found: Operating) -> Product:
    """TPR x TNR, called g-mean2, with the limits of the two combined on the scale of logarithms.

    Source: arXiv:2512.18311; limits: Zou and Donner (2008), doi:10.1002/sim.3095.
    """
    hit = found.tpr.value, found.tpr.low, found.tpr.high
    kept = 1 - found.fpr.value, 1 - found.fpr.high, 1 - found.fpr.low
    value = hit[0] * kept[0]
    if value == 0:
        return Product(0.0, 0.0, hit[2] * kept[2])
    fall = [math.log(one[0] / one[1]) if one[1] > 0 else math.inf for one in (hit, kept)]
    rise = [math.log(one[2] / one[0]) for one in (hit, kept)]
    return Product(value, value * math.exp(-math.hypot(*fall)), min(value * math.exp(math.hypot(*rise)), 1.0))


def roc_points(positives: Floats, negatives: Floats) -> list[tuple[float, float, float | None]]:
    """False-positive rate, true-positive rate and threshold along the ROC curve, from nothing called to everything.

    Points on a straight line between others are left out; if more than `MOST_POINTS` are left, they are thinned evenly
    along the curve, which keeps its ends.
    """
    from sklearn.metrics import roc_curve

    truth = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    fpr, tpr, thresholds = roc_curve(truth, np.concatenate([positives, negatives]))
    if len(fpr) > MOST_POINTS:
        kept = np.searchsorted(fpr + tpr, np.linspace(0, 2, MOST_POINTS))
        kept = np.unique(np.clip(kept, 0, len(fpr) - 1))
        fpr, tpr, thresholds = fpr[kept], tpr[kept], thresholds[kept]
    return [
        (float(x), float(y), float(at) if math.isfinite(at) else None)
        for x, y, at in zip(fpr, tpr, thresholds, strict=True)
    ]


def _share_above(side: Side, bar: float, level: float) -> Rate:
    known = side.scored
    sizes = np.bincount(known.prompts)
    hits = np.bincount(known.prompts, weights=known.scores >= bar)
    present = sizes > 0
    return counted_rate(hits[present].astype(int), sizes[present], n=len(side.scores), level=level)


def _summed(prompts: Ints, values: Floats, n_prompts: int) -> Floats:
    return np.bincount(prompts, weights=values, minlength=n_prompts).astype(np.float64)


def _hanley_mcneil(area: float, m: int, n: int) -> float:
    """Variance of an area estimated from m positives and n negatives, each side taken for exponential."""
    mixed = (m + n) / 2 - 1
    return area * (1 - area) / (m * n) * (1 + mixed * ((1 - area) / (2 - area) + area / (1 + area)))


def _score_interval(value: float, scale: float, counted: tuple[int, int], level: float) -> tuple[float, float]:
    """The areas whose squared distance to the estimate is at most that of z standard errors there."""
    from scipy.stats import norm

    z2 = float(norm.ppf(0.5 + level / 2)) ** 2 * scale

    def beyond(t: float) -> float:
        return (value - t) ** 2 - z2 * _hanley_mcneil(t, *counted)

    low = _root(beyond, 0.0, value - EDGE) if value > EDGE else 0.0
    high = _root(beyond, 1.0, value + EDGE) if value < 1 - EDGE else 1.0
    return low, high


def _root(beyond: Callable[[float], float], outer: float, inner: float) -> float:
    """Where a function that is positive at the outer end falls to 0; the inner end where it never does."""
    from scipy.optimize import brentq

    if beyond(inner) >= 0:
        return inner
    found: Any = brentq(beyond, outer, inner)
    return float(found)


def _combined(x: float, y: float, r: float) -> float:
    return math.sqrt(max(x * x - 2 * r * x * y + y * y, 0.0))
