"""What the other oracles said of replies: the files of the stage `oracles`, read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ostensible import tables
from ostensible.analysis.replies import Key, Reply, finished_logs
from ostensible.code.calibration import Errors
from ostensible.code.static.findings import Finding, Verdict
from ostensible.errors import CorruptRun
from ostensible.paths import RunPaths
from ostensible.types import JUDGE_CODE, JUDGE_THOUGHTS


@dataclass(frozen=True, slots=True)
class StaticOpinion:
    """What the static oracle said of a reply's code.

    Attributes:
        lenient: One finding is enough; None where there is no code to read.
        strict: Only a sure finding, or two tools that agree; None as above.
        findings: By line, counted from 1 in the extracted code.
        problem: Why there was nothing to read; empty where there was.
    """

    lenient: bool | None
    strict: bool | None
    findings: tuple[Finding, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class JudgeOpinion:
    """What the judge said of a reply.

    Attributes:
        vulnerable: Of the code; None where it was not asked, or gave no verdict.
        cwe: The weakness; empty where there is none.
        line: Where, counted from 1 in the extracted code.
        reason: Why there is no verdict of the code; empty where there is one.
        cot_benign: Of the thoughts; None as above.
        cot_reason: Why there is no verdict of the thoughts; empty where there is one.
    """

    vulnerable: bool | None
    cwe: str
    line: int | None
    reason: str
    cot_benign: bool | None
    cot_reason: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the judge said to one question about one reply, and why it gave no verdict where it gave none."""

    hit: bool | None
    reason: str
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """All opinions of one judge.

    Attributes:
        model: Its name, as Inspect has it.
        prompts: Versions of the prompts that it was asked with.
        replies: Opinions by the reply's key.
    """

    model: str
    prompts: tuple[str, ...]
    replies: Mapping[Key, JudgeOpinion]


@dataclass(frozen=True, slots=True)
class Opinions:
    """Second opinions on the replies of a run; empty where replies are not code.

    Attributes:
        static: The static oracle's, by the reply's key; one for every reply.
        errors: How its verdicts, `lenient` and `strict`, did on the bank's own solutions.
        judged: The judge's; None where the run has none.
    """

    static: Mapping[Key, StaticOpinion] = field(default_factory=dict[Key, StaticOpinion])
    errors: Mapping[str, Errors] = field(default_factory=dict[str, Errors])
    judged: Judged | None = None

    def static_of(self, reply: Reply) -> StaticOpinion | None:
        """The static oracle's opinion of a reply."""
        return self.static.get(reply.key)

    def judge_of(self, reply: Reply) -> JudgeOpinion | None:
        """The judge's opinion of a reply."""
        return self.judged.replies.get(reply.key) if self.judged else None


def read_opinions(paths: RunPaths) -> Opinions:
    """Read what the stage `oracles` wrote.

    Raises:
        CorruptRun: A file is damaged.
    """
    remedy = f"Make it anew: {paths.command('oracles', '--again')}"
    try:
        errors = tables.read_json(paths.calibration, dict, remedy=remedy)
        return Opinions(
            static={key_of(row): _static(row) for row in tables.read_static(paths.static_findings)},
            errors={name: Errors(**counts) for name, counts in errors.items()},
            judged=read_judged(paths),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, CorruptRun):
            raise
        raise CorruptRun(f"{paths.oracles} cannot be read ({error}). {remedy}") from error


def key_of(fields: Mapping[str, Any]) -> Key:
    """The key of the reply that a row is about."""
    texts = (str(fields[name]) for name in ("subject", "condition", "look_alike", "prompt_id"))
    return (*texts, int(fields["epoch"]))  # pyright: ignore[reportReturnType] - four texts and a number


def _static(row: Mapping[str, Any]) -> StaticOpinion:
    hits = {Verdict.VULNERABLE: True, Verdict.CLEAN: False}
    return StaticOpinion(
        lenient=hits.get(row["lenient"]),
        strict=hits.get(row["strict"]),
        findings=tuple(Finding(**finding) for finding in row["findings"]),
        problem=row["problem"],
    )


def read_judged(paths: RunPaths) -> Judged | None:
    """Read what the judge of a run said; None where it has none.

    Raises:
        CorruptRun: A log cannot be read.
        KeyError: A log is missing, or not one of the judge's.
    """
    logs = {log.eval.task: log for log in finished_logs(paths.judge_logs)}
    if not logs:
        return None
    asked = [logs[name] for name in (JUDGE_CODE, JUDGE_THOUGHTS)]
    code, thoughts = ({key_of(one.metadata): _answer(one) for one in log.samples or []} for log in asked)
    about = [log.eval.metadata or {} for log in asked]
    return Judged(
        str(about[0]["judge"]),
        tuple(str(one["prompt"]) for one in about),
        {key: _opinion(code[key], thoughts[key]) for key in code},
    )


def _answer(sample: Any) -> _Answer:
    from ostensible.scorers import as_hit

    if sample.error:
        return _Answer(None, "the judge failed on it", {})
    (score,) = sample.scores.values()
    return _Answer(as_hit(score.value), str(score.reason or ""), score.metadata or {})


def _opinion(code: _Answer, thoughts: _Answer) -> JudgeOpinion:
    return JudgeOpinion(
        vulnerable=code.hit,
        cwe=str(code.said.get("cwe", "")),
        line=code.said.get("line"),
        reason=code.reason,
        cot_benign=thoughts.hit,
        cot_reason=thoughts.reason,
    )
