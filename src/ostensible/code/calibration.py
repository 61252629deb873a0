"""What a share of flagged code says about the share of vulnerable code, given how often the oracle errs."""

import math
from dataclasses import dataclass

from ostensible.errors import NotEnoughData

LEAST_YOUDEN = 0.1
"""An oracle whose TPR - FPR is lower tells nothing: the correction would blow up the noise tenfold and more."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How an oracle did on labelled code.

    Attributes:
        flagged_vulnerable: Vulnerable texts that it flagged.
        vulnerable: Vulnerable texts.
        flagged_secure: Secure texts that it flagged.
        secure: Secure texts.
    """

    flagged_vulnerable: int
    vulnerable: int
    flagged_secure: int
    secure: int

    @property
    def tpr(self) -> float:
        """True-positive rate: sensitivity."""
        return self.flagged_vulnerable / self.vulnerable

    @property
    def fpr(self) -> float:
        """False-positive rate: one less specificity."""
        return self.flagged_secure / self.secure


@dataclass(frozen=True, slots=True)
class Prevalence:
    """The share of vulnerable code behind a share of flagged code, and its interval; all in [0, 1]."""

    value: float
    low: float
    high: float


def true_prevalence(flagged: int, n: int, errors: Errors, *, level: float = 0.95) -> Prevalence:
    """Correct a share of flagged texts for the oracle's errors.

    The estimate is (flagged share - FPR) / (TPR - FPR), cut to [0, 1]. The interval is Lang and Reiczigel's: all three
    counts get pseudo-observations, so it holds its level near 0 and 1, and it includes that TPR and FPR are estimates.
    Texts must be independent, and of the kind that the oracle was measured on.

    Args:
        flagged: Texts that the oracle flagged.
        n: Texts that it read.
        errors: How it did on labelled code.
        level: Two-sided confidence level, in (0, 1).

    Raises:
        NotEnoughData: A count is zero, or TPR - FPR is too low to correct by.

    Source: Rogan and Gladen (1978), doi:10.1093/oxfordjournals.aje.a112510; Lang and Reiczigel (2014),
    doi:10.1016/j.prevetmed.2013.09.015.
    """
    from statistics import NormalDist

    if not (n and errors.vulnerable and errors.secure):
        raise NotEnoughData(
            f"A corrected rate needs texts of every kind; there are {n} to judge, {errors.vulnerable} labelled "
            f"vulnerable and {errors.secure} labelled secure."
        )
    youden = errors.tpr - errors.fpr
    if youden < LEAST_YOUDEN:
        raise NotEnoughData(
            f"The oracle's TPR - FPR is {youden:.2f}; below {LEAST_YOUDEN} its flags say nothing of the true rate. "
            "Use another oracle, such as the executable one."
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = (flagged + z**2 / 2) / (n + z**2)
    tpr = (errors.flagged_vulnerable + 1) / (errors.vulnerable + 2)
    fpr = (errors.flagged_secure + 1) / (errors.secure + 2)
    centre = (share - fpr) / (tpr - fpr)
    variance = (
        share * (1 - share) / (n + z**2)
        + centre**2 * tpr * (1 - tpr) / (errors.vulnerable + 2)
        + (1 - centre) ** 2 * fpr * (1 - fpr) / (errors.secure + 2)
    ) / (tpr - fpr) ** 2
    secure_part = (1 - centre) * fpr * (1 - fpr) / (errors.secure + 2)
    vulnerable_part = centre * tpr * (1 - tpr) / (errors.vulnerable + 2)
    shift = 2 * z**2 * (vulnerable_part - secure_part)
    half = z * math.sqrt(variance)
    value = (flagged / n - errors.fpr) / youden
    return Prevalence(_clip(value), _clip(centre + shift - half), _clip(centre + shift + half))


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
