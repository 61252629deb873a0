"""How many prompts are needed to see an effect. Pure.

All sizes are those of independent replies, multiplied by the design effect 1 + (m - 1) icc of m replies a prompt
(Kish 1965). They are normal approximations, but for a rate's, which inverts Wilson's interval.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from ostensible.errors import BadSettings

Quantity = Literal["rate", "difference", "tpr", "auroc"]
NORMAL = NormalDist()
MOST = 1e9
_TEST = {"effect": 0.1, "power": 0.8}
DEFAULTS: Mapping[Quantity, dict[str, float]] = {
    "rate": {"half_width": 0.05},
    "difference": _TEST,
    "tpr": _TEST | {"fpr": 0.01},
    "auroc": _TEST,
}
"""What the size of each quantity depends on, beside baseline and alpha, and its value where none is given."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one way to spend replies takes.

    Attributes:
        samples_per_prompt: Replies to each prompt, under each condition.
        design_effect: How many replies are worth one independent one.
        prompts: Distinct prompts.
        replies: Under each condition.
    """

    samples_per_prompt: int
    design_effect: float
    prompts: int
    replies: int


def needs(effective: float, *, icc: float, samples_per_prompt: Sequence[int]) -> list[Need]:
    """Prompts that are worth a number of independent replies, for each number of replies a prompt.

    Raises:
        BadSettings: The correlation or a number of replies is impossible.
    """
    _check("icc", icc, 0 <= icc <= 1, "from 0 to 1")
    for samples in samples_per_prompt:
        _check("samples per prompt", samples, samples >= 1, "1 or more")
    effects = [1 + (samples - 1) * icc for samples in samples_per_prompt]
    prompts = [math.ceil(effective * e / m - 1e-9) for e, m in zip(effects, samples_per_prompt, strict=True)]
    return [Need(m, e, k, k * m) for m, e, k in zip(samples_per_prompt, effects, prompts, strict=True)]


def rate_size(rate: float, half_width: float, *, alpha: float = 0.05) -> float:
    """Independent scored replies that give a rate's interval, Wilson's, this half-width.

    Raises:
        BadSettings: A value is impossible.
    """
    from statsmodels.stats.proportion import proportion_confint

    _check("baseline", rate, 0 <= rate <= 1, "from 0 to 1")
    _check("half-width", half_width, 0 < half_width < 0.5, "above 0 and below 0.5")
    _check_levels(alpha)

    def excess(n: float) -> float:
        bounds: Any = proportion_confint(rate * n, n, alpha=alpha, method="wilson")
        return float(bounds[1] - bounds[0]) / 2 - half_width

    return _solved(excess)


def difference_size(baseline: float, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Independent replies under each condition that tell a rate from one `effect` higher, two-sided.

    The conditions are taken to be independent. Prompts that fire readily under both, which pairing takes out, make do
    with fewer.

    Raises:
        BadSettings: A value is impossible.
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    _check("baseline", baseline, 0 <= baseline < 1, "from 0 to below 1")
    _check("effect", effect, 0 < effect <= 1 - baseline, f"above 0 and at most {1 - baseline:g}, over this baseline")
    _check_levels(alpha, power)
    return float(samplesize_proportions_2indep_onetail(effect, baseline, power, alpha=alpha))


def tpr_size(
    fpr: float, effect: float, *, baseline: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Replies of each side that tell a monitor's TPR at an FPR from a TPR `effect` lower, two-sided.

    The threshold is set on the negatives, so it varies too: its share of the variance is the slope of the ROC curve
    squared times FPR (1 - FPR), with the slope of two normal distributions of equal spread. At least 1 / FPR, as with
    fewer negatives no threshold has this FPR.

    Args:
        fpr: In (0, 1).
        effect: TPR over the baseline.
        baseline: A TPR; the FPR, which is chance, where None.
        alpha: Of a two-sided test.
        power: Chance to find the effect.

    Raises:
        BadSettings: A value is impossible.

    Source: Linnet (1987), Statistics in Medicine 6, 147-158.
    """
    _check("FPR", fpr, 0 < fpr < 1, "above 0 and below 1")
    base = fpr if baseline is None else baseline
    _check("baseline", base, 0 < base < 1, "above 0 and below 1")
    _check("effect", effect, 0 < effect < 1 - base, f"above 0 and below {1 - base:g}, over this baseline")
    _check_levels(alpha, power)

    def spread(tpr: float) -> float:
        slope = NORMAL.pdf(NORMAL.inv_cdf(tpr)) / NORMAL.pdf(NORMAL.inv_cdf(fpr))
        return math.sqrt(tpr * (1 - tpr) + slope**2 * fpr * (1 - fpr))

    quantiles = NORMAL.inv_cdf(1 - alpha / 2), NORMAL.inv_cdf(power)
    found = (quantiles[0] * spread(base) + quantiles[1] * spread(base + effect)) ** 2 / effect**2
    return max(found, 1 / fpr)


def auroc_size(baseline: float, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Replies of each side that tell an area under the ROC curve from one `effect` lower, two-sided.

    Raises:
        BadSettings: A value is impossible.

    Source: Hanley and McNeil (1982), doi:10.1148/radiology.143.1.7063747.
    """
    _check("baseline", baseline, 0.5 <= baseline < 1, "from 0.5, which is chance, to below 1")
    _check("effect", effect, 0 < effect < 1 - baseline, f"above 0 and below {1 - baseline:g}, over this baseline")
    _check_levels(alpha, power)
    quantiles = NORMAL.inv_cdf(1 - alpha / 2), NORMAL.inv_cdf(power)

    def error(area: float, n: float) -> float:
        both = (n - 1) * (area / (2 - area) + 2 * area**2 / (1 + area) - 2 * area**2)
        return math.sqrt((area * (1 - area) + both) / n**2)

    return _solved(lambda n: quantiles[0] * error(baseline, n) + quantiles[1] * error(baseline + effect, n) - effect)


def _solved(excess: Callable[[float], float]) -> float:
    """Where a function that falls with the size reaches 0."""
    from scipy.optimize import brentq

    if excess(1.0) <= 0:
        return 1.0
    if excess(MOST) > 0:
        raise BadSettings(f"More than {MOST:g} replies would be needed. Ask for a larger effect or a wider interval.")
    found: Any = brentq(excess, 1.0, MOST)
    return float(found)


def _check_levels(alpha: float, power: float = 0.8) -> None:
    _check("alpha", alpha, 0 < alpha < 0.5, "above 0 and below 0.5")
    _check("power", power, 0.5 <= power < 1, "from 0.5 to below 1")


def _check(name: str, value: float, possible: bool, allowed: str) -> None:
    if not possible:
        raise BadSettings(f"The {name} is {value:g}; it has to be {allowed}.")


def plan(
    quantity: Quantity,
    *,
    baseline: float | None = None,
    effect: float | None = None,
    half_width: float | None = None,
    fpr: float | None = None,
    alpha: float = 0.05,
    power: float | None = None,
) -> tuple[str, float]:
    """What is asked, in words, and the independent replies under each condition that it takes.

    Raises:
        BadSettings: A value is impossible, or given for a quantity whose size does not depend on it.
    """
    options = {"effect": effect, "half_width": half_width, "fpr": fpr, "power": power}
    given = {name: value for name, value in options.items() if value is not None}
    if idle := [name for name in given if name not in DEFAULTS[quantity]]:
        raise BadSettings(
            f"The size for {quantity!r} does not depend on {_in_words(idle)}: leave that out. It depends on baseline, "
            f"alpha, {_in_words(DEFAULTS[quantity])}."
        )
    at = DEFAULTS[quantity] | given
    if quantity == "rate":
        base = 0.5 if baseline is None else baseline
        told = f"a rate of {base:g}, its {1 - alpha:.4g} interval {at['half_width']:g} wide on each side"
        return told, rate_size(base, at["half_width"], alpha=alpha)
    levels = {"alpha": alpha, "power": at["power"]}
    seen = f"found with power {at['power']:g} at alpha {alpha:g}"
    if quantity == "difference":
        base = 0.0 if baseline is None else baseline
        told = f"an ASR of {base + at['effect']:g} over an FTR of {base:g}, {seen}"
        return told, difference_size(base, at["effect"], **levels)
    if quantity == "tpr":
        base = at["fpr"] if baseline is None else baseline
        told = f"a TPR of {base + at['effect']:g} over one of {base:g}, at an FPR of {at['fpr']:g}, {seen}"
        return told, tpr_size(at["fpr"], at["effect"], baseline=baseline, **levels)
    base = 0.5 if baseline is None else baseline
    told = f"an AUROC of {base + at['effect']:g} over one of {base:g}, {seen}"
    return told, auroc_size(base, at["effect"], **levels)


def _in_words(names: Iterable[str]) -> str:
    return ", ".join(name.replace("_", "-") for name in names)


def table(asked: str, found: Sequence[Need], *, icc: float) -> str:
    """What is needed, for a terminal."""
    head = f"{asked}; correlation of replies to a prompt {icc:g}"
    rows = [("samples per prompt", "design effect", "prompts", "replies")]
    rows += [(str(n.samples_per_prompt), f"{n.design_effect:.2f}", str(n.prompts), str(n.replies)) for n in found]
    return "\n".join([head[0].upper() + head[1:], *("  ".join(f"{cell:>18}" for cell in row) for row in rows)])
