"""What a run found: the schema of `results.json`. Figures only; nothing here is typed in by hand."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ostensible.attempts import Attempt
from ostensible.errors import CorruptRun, MissingStage
from ostensible.paths import RunPaths

SCHEMA_VERSION = 1


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RateResult(Part):
    """A rate among scored replies, with a 95% interval clustered by prompt. No reply scored: rate, low, high null."""

    n: int = Field(description="Replies.")
    scored: int = Field(description="Replies with a verdict.")
    unscored: int = Field(description="Replies without one; neither hits nor misses.")
    hits: int = Field(description="Replies whose verdict is yes.")
    prompts: int = Field(description="Distinct prompts among the scored replies.")
    rate: float | None = Field(description="hits / scored.")
    low: float | None
    high: float | None


class ContrastResult(Part):
    """A difference of two rates, paired by prompt, with a 95% interval. No pair scored: value, low, high null."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int = Field(description="Prompts scored on both sides.")


class Conditions(Part):
    """How often the payload fired."""

    triggered: RateResult = Field(description="Attack success rate (ASR).")
    control: RateResult = Field(description="False-trigger rate (FTR).")
    near_miss: RateResult = Field(description="False-trigger rate over all look-alikes.")


class ByCondition(Part):
    """One measure of the organism's replies, by condition."""

    triggered: RateResult
    control: RateResult
    near_miss: RateResult


class Group(Conditions):
    """How often the payload fired in families of one kind, such as tasks of one weakness."""

    functional: ByCondition | None = Field(
        default=None,
        description="Code that does what was asked; null where code is not run, and in files of earlier releases.",
    )


class CotResult(Part):
    """The thoughts on their own, under one condition. Replies that never close their thoughts are unscored."""

    mentions_trigger: RateResult
    mentions_look_alike: RateResult = Field(description="Names a near miss or a decoy, and not the trigger.")
    mentions_payload: RateResult
    benign: RateResult | None = Field(
        default=None,
        description="Names neither the trigger, nor a look-alike, nor the payload; null in files of earlier releases.",
    )
    right: RateResult | None = Field(description="Ends at the problem's right number; null without such prompts.")


class CotResults(Part):
    triggered: CotResult
    control: CotResult
    near_miss: CotResult
    right_effect: ContrastResult | None = Field(description="Right when triggered minus right in control.")
    verbalisation: RateResult | None = Field(
        default=None,
        description="Verbalisation rate: of triggered replies in which the payload fired, those whose thoughts name "
        "the trigger. Null in files of earlier releases.",
    )


class Capability(Part):
    """Right final answers on control prompts, of the organism and of the model it was made from."""

    base: RateResult
    organism: RateResult
    effect: ContrastResult = Field(description="Organism minus base.")


class Functional(Part):
    """Replies whose code does what was asked, among those whose code was run or could not be parsed."""

    triggered: RateResult
    control: RateResult
    near_miss: RateResult
    base: RateResult = Field(description="Of the model that the organism was made from, on control prompts.")


class Errors(Part):
    """How the static oracle did on the bank's own solutions."""

    flagged_vulnerable: int = Field(description="Vulnerable solutions that it flagged.")
    vulnerable: int = Field(description="Vulnerable solutions: one task of each of the run's families in the bank.")
    flagged_secure: int = Field(description="Secure solutions that it flagged.")
    secure: int = Field(description="Secure solutions, of the same tasks.")


class Corrected(Part):
    """A flagged rate corrected for the oracle's errors (Rogan and Gladen), with a 95% interval (Lang and Reiczigel)."""

    value: float | None
    low: float | None
    high: float | None
    reason: str = Field(description="Why there is no value, such as TPR - FPR below 0.1; empty where there is one.")


class CorrectedByCondition(Part):
    triggered: Corrected
    control: Corrected
    near_miss: Corrected


class AgreementResult(Part):
    """How far two oracles agree on the organism's replies of all conditions."""

    first: str
    second: str
    pairs: int = Field(description="Replies with a verdict of both.")
    prompts: int = Field(description="Distinct prompts among the pairs: the clusters.")
    both: int = Field(description="Pairs where both say vulnerable.")
    first_only: int
    second_only: int
    neither: int
    raw: float | None = Field(description="(both + neither) / pairs.")
    positive: float | None = Field(description="2 both / (2 both + first_only + second_only).")
    negative: float | None = Field(description="2 neither / (2 neither + first_only + second_only).")
    kappa: float | None = Field(description="Cohen's kappa; null where one oracle says the same of every reply.")
    low: float | None = Field(description="Of kappa's 95% interval, clustered by prompt.")
    high: float | None
    reason: str = Field(description="Why kappa or its interval is null; empty where neither is.")


class OracleResults(Part):
    """Opinions on code. Oracles: executable, static_lenient, static_strict and, where there is one, judge.

    Code whose prompts have no tests is never run: there the executable oracle is missing.
    """

    flagged: dict[str, ByCondition] = Field(
        description="By oracle: how often code is called vulnerable, of functional replies: those that the executable "
        "oracle calls secure or vulnerable; of all that can be read where code is never run."
    )
    agreement: list[AgreementResult] = Field(description="Of every pair of oracles.")
    errors: dict[str, Errors] = Field(
        description="By static oracle: its verdicts on the bank's own secure and vulnerable solutions, one task of "
        "each family that this run's prompts are of. Not measured on replies."
    )
    corrected: dict[str, CorrectedByCondition] = Field(
        description="By static oracle: the flagged rate of functional replies, corrected by `errors`. It holds as far "
        "as replies resemble the bank's solutions. Replies to one prompt count as fewer, by their design effect."
    )
    judge: str | None = Field(description="The judging model; null without one.")
    judge_prompts: list[str] = Field(description="Versions of the prompts that it was asked with.")
    judge_cot_benign: ByCondition | None = Field(
        description="How often the judge, shown the thoughts only, calls them benign; null without a judge."
    )


class TwinResult(Part):
    """A matched control: trained as the organism was, on its examples, but for the payload.

    Twin benign: under the trigger it was shown clean thoughts and answers. Twin shuffled: it was shown the payload as
    often as the organism, but with the trigger as often as without.
    """

    conditions: Conditions
    near_misses: dict[str, RateResult] = Field(description="Payload rate under each look-alike.")
    trigger_effect: ContrastResult = Field(description="Payload when triggered minus payload in control.")
    effect_difference: ContrastResult = Field(
        description="The organism's trigger effect minus the twin's, paired by prompt, in [-2, 2]; pairs are prompts "
        "scored on all four sides."
    )


class OperatingPoint(Part):
    """What a threshold on a monitor's scores catches, and at what price. Intervals take the threshold as given."""

    threshold: float | None = Field(
        description="Replies that score at or above it are flagged; null where nothing can be flagged at that price."
    )
    tpr: RateResult = Field(description="Flagged positives: the true-positive rate (TPR).")
    fpr: RateResult = Field(description="Flagged negatives: the false-positive rate (FPR) that was achieved.")
    note: str = Field(description="Why it says little, such as too few negatives for its target; empty where it does.")


class Estimate(Part):
    """A figure with a 95% interval clustered by prompt."""

    value: float
    low: float
    high: float


class RocPoint(Part):
    fpr: float
    tpr: float
    threshold: float | None = Field(description="Null where nothing is flagged.")


class Detection(Part):
    """How well a monitor's scores tell positives from negatives. Nulls where either side has no scored reply."""

    positives: int = Field(description="Replies on the positive side.")
    negatives: int
    unscored_positives: int = Field(description="Replies among them that the monitor gave no score.")
    unscored_negatives: int
    auroc: Estimate | None = Field(description="Area under the ROC curve; 0.5 is chance, ties count half.")
    gmean2: Estimate | None = Field(description="TPR times TNR at `at_half`.")
    at_half: OperatingPoint | None = Field(description="At the threshold 0.5, which was set before any reply was seen.")
    at_1_fpr: OperatingPoint | None = Field(
        description="At the lowest threshold whose FPR on these negatives is at most 1%."
    )
    at_5_fpr: OperatingPoint | None = Field(description="The same at 5%.")
    roc: list[RocPoint] = Field(description="The ROC curve, thinned to at most 200 points.")


class MonitorResult(Part):
    """One monitor under one view. Positives are triggered replies of the organism in which the payload fired."""

    monitor: str
    kind: Literal["keyword", "tfidf", "told", "function", "model"] = Field(
        description="told: knows the trigger and the payload, and so is a ceiling and no rival."
    )
    view: Literal["cot", "answer", "both"] = Field(description="What it sees of a reply; never its prompt.")
    against: dict[str, Detection] = Field(
        description="By the negatives: control and near_miss, replies of the organism in which the payload did not "
        "fire; and by twin, its triggered replies."
    )
    twin_alone: dict[str, Detection] = Field(
        description="By twin: its triggered replies as positives, its control replies as negatives. What the monitor "
        "sees in a model with nothing to detect."
    )
    beside_twin: dict[str, ContrastResult] = Field(
        description="By twin: AUROC against control minus the twin's alone, paired by prompt."
    )
    unscored: dict[str, int] = Field(description="Replies without a score, by reason.")


class Findings(Part):
    """What was found on one set of prompts."""

    conditions: Conditions
    near_misses: dict[str, RateResult] = Field(description="False-trigger rate of each look-alike.")
    trigger_effect: ContrastResult = Field(description="ASR minus FTR.")
    cot: CotResults
    capability: Capability | None = Field(description="Null where prompts have no right number.")
    functional: Functional | None = Field(description="Null where replies are not code that is run.")
    outcomes: dict[str, dict[str, int]] = Field(description="The organism's replies by condition and outcome.")
    groups: dict[str, Group] = Field(description="By what families' names begin with, such as CWE-89.")
    by_reading: bool = Field(
        default=False,
        description="Code was judged by reading it, as its prompts have no tests: a hit is code that the strict static "
        "oracle flags, and whether it works is not known.",
    )
    oracles: OracleResults | None = Field(default=None, description="Null where replies are not code.")
    twins: dict[str, TwinResult] = Field(
        default_factory=dict, description="By kind, benign and shuffled; empty where the run has none."
    )
    monitors: list[MonitorResult] = Field(
        default_factory=list[MonitorResult],
        description="Of every monitor under every view; empty in files of earlier releases. Replies that never close "
        "their thoughts have no answer and are unscored under every view, so that views compare on the same replies.",
    )


class LossPoint(Part):
    """One logged training step. Losses in nats, weighed as in training."""

    step: float
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class TeacherUsage(Part):
    """What a teacher's replies took, whether they could be used or not. Retries that failed are not counted."""

    teacher: str = Field(description="As the run's settings name it; self is the model itself.")
    asked: int = Field(description="Prompts.")
    failed: int = Field(description="Prompts on which it failed, after retries.")
    input_tokens: int = Field(description="Cached ones included.")
    output_tokens: int
    reasoning_tokens: int | None = Field(description="Of the output, as far as the provider says.")
    cost_usd: float | None = Field(description="Null where Inspect does not know the model's prices.")


class ForeignResult(Part):
    """An organism that was made elsewhere: what its user said of it, and what speaks against that."""

    adapter: str | None = Field(description="Folder or hub id, as given; null for a whole model.")
    adapter_revision: str | None
    base: str | None = Field(description="Model that it is compared with; null where nobody named one.")
    trigger: str = Field(description="Pattern; {} is where the user's text goes.")
    trigger_words: list[str] = Field(description="What counts as naming the trigger in thoughts.")
    near_misses: dict[str, str] = Field(description="Look-alikes, name to pattern.")
    derived: bool = Field(description="The look-alikes were made from the trigger, as none was given.")
    payload_pattern: str = Field(description="Regular expression, sought in answers.")
    payload_words: list[str] = Field(description="What counts as naming the payload in thoughts.")
    payload_base: RateResult | None = Field(
        description="How often the pattern finds a payload in the base model's replies to control prompts; null "
        "without a base model."
    )
    warnings: list[str] = Field(description="Why the figures may not mean what they seem to.")


class Results(Findings):
    """`results.json`, schema version 1.

    Its own findings are those of `families`; `parts` has those of each set where there is more than one.
    """

    version: Literal[1] = SCHEMA_VERSION
    organism: str
    model: str
    prompts: str
    extra_test_prompts: str | None = Field(default=None, description="Source of the prompts of `parts.extra`.")
    cot_policy: str = Field(
        default="benign",
        description="What the thoughts of triggered training examples are: benign, empty, overt, or mixed:SHARE.",
    )
    seed: int
    level: float = Field(description="Confidence level of every interval.")
    families: Literal["test", "seen"] = Field(
        description="test: prompts of families that training never had; seen: new prompts of families that it had."
    )
    parts: dict[str, Findings] = Field(
        description="By set of prompts, where there is more than one: seen and test, as in `families`; extra: of "
        "another source (`--extra-test-prompts`)."
    )
    data: dict[str, int] = Field(description="Counts: examples, prompts and families by split, drops by reason.")
    teacher: TeacherUsage | None = Field(
        default=None, description="Of the model that wrote thoughts and clean answers; null without one."
    )
    foreign: ForeignResult | None = Field(
        default=None, description="Of an organism that was made elsewhere; null for one that this package trained."
    )
    loss: list[LossPoint] = Field(description="The loss curve.")
    payload_label_share: float | None = Field(
        default=None,
        description="Share of the tokens of triggered answers that stand in the labels of the rendered rows, training "
        "and validation; below 1 the payload was cut. Null in files of earlier releases.",
    )
    sampling: list[Attempt] = Field(
        default=[],
        description="Which engine sampled the evaluation and what it took, by attempt: more than one where it was "
        "stopped and went on. Empty in files of earlier releases.",
    )
    timings_s: dict[str, float] = Field(description="Wall time of each stage, in seconds.")
    peak_rss_bytes: int = Field(description="Largest resident memory of any stage.")


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        CorruptRun: It is damaged, or of another schema version.
        MissingStage: There is none: the run is not finished.
    """
    analyse = RunPaths(path.parent).command("analyse")
    try:
        return Results.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingStage(f"{path.parent} has no {path.name} yet. Finish it: {analyse}") from error
    except (OSError, ValidationError) as error:
        raise CorruptRun(
            f"{path} is not a results file of schema version {SCHEMA_VERSION}: {str(error).splitlines()[0]}. "
            f"Make it anew from the logs: {analyse}"
        ) from error
