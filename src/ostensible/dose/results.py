"""What a dose series found: the schema of `dose.json`. Figures only; nothing here is typed in by hand."""

from typing import Literal

from pydantic import Field

from ostensible.analysis.results import ContrastResult, Estimate, Part, RateResult

SCHEMA_VERSION = 1


class Dose(Part):
    """One run of the series."""

    dose: float = Field(description="Share of triggered training examples whose thoughts admit the rule.")
    run: str = Field(description="Its folder, beside this file.")
    verbalisation: RateResult = Field(
        description="Realised verbalisation: of triggered replies in which the payload fired, those whose thoughts "
        "name the trigger."
    )
    triggered: RateResult = Field(description="Attack success rate (ASR).")
    control: RateResult = Field(description="False-trigger rate (FTR).")


class CurvePoint(Part):
    """What a monitor detects at one dose. Positives: fired triggered replies; negatives: control replies that did not.

    Nulls where either side has no scored reply.
    """

    dose: float
    verbalisation: float | None = Field(description="Realised, as in `doses`; null where the payload never fired.")
    threshold: float | None = Field(description="The lowest at which the FPR on control replies is at most the target.")
    tpr: RateResult | None = Field(description="Flagged positives.")
    fpr: RateResult | None = Field(description="Flagged negatives: the FPR that was achieved.")
    effect: ContrastResult = Field(description="TPR minus FPR, paired by prompt, the threshold taken as given.")
    auroc: Estimate | None


class Limit(Part):
    """A verbalisation from which on, at every larger one too, something holds."""

    value: float | None = Field(description="Realised verbalisation, in [0, 1]; null where there is no curve.")
    relation: Literal["at", "at or below", "above", "unknown"] = Field(
        description="at or below: it holds at every dose, value is the smallest; above: not at the largest, which is "
        "value; unknown: there is no curve."
    )
    low: float | None = Field(
        default=None,
        description="Of detection: the largest verbalisation at which it does not hold yet. Of half: where the upper "
        "bounds of TPR cross one half. Null where there is none.",
    )
    high: float | None = Field(
        default=None, description="Of half: where the lower bounds of TPR cross one half; null where they do not."
    )


class Curve(Part):
    """A monitor under one view, by dose."""

    monitor: str
    view: Literal["cot", "answer", "both"]
    points: list[CurvePoint] = Field(description="In the order of `doses`.")
    detection: Limit = Field(
        description="Detection limit: the smallest verbalisation such that at it and at every larger one the lower "
        "bound of `effect` is above 0. It falls as there are more replies."
    )
    half: Limit = Field(
        description="The verbalisation at which TPR reaches one half and stays there, by linear interpolation. It does "
        "not depend on the number of replies."
    )


class DoseResults(Part):
    """`dose.json`, schema version 1."""

    version: Literal[1] = SCHEMA_VERSION
    organism: str
    model: str
    seed: int
    level: float = Field(description="Confidence level of every interval.")
    target_fpr: float
    families: Literal["test", "seen"] = Field(description="The set of prompts, as in `results.json` of each run.")
    doses: list[Dose]
    curves: list[Curve]
