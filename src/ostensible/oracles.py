"""Second opinions on the code of stored replies: what reading it finds, and what a judging model says."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from inspect_ai.dataset import Sample

from ostensible import organisms, tables
from ostensible.analysis.monitoring import tally
from ostensible.analysis.opinions import read_judged
from ostensible.analysis.replies import Reply, read_replies
from ostensible.code.calibration import Errors
from ostensible.code.extract import extract
from ostensible.code.static import Scan, Source, Verdict, scan
from ostensible.code.tasks import CodeTask
from ostensible.errors import BadData
from ostensible.inspect_models import load_model, opened, run_asked
from ostensible.judge import replay_tasks
from ostensible.parts.rules import VulnerableCode, tested
from ostensible.paths import RunPaths
from ostensible.settings import Machine, Settings
from ostensible.types import Condition


def check_judge(settings: Settings) -> None:
    """See, before any work, that the judge of a run can be used and has something to judge.

    Raises:
        BadData: The organism's replies are not code.
        OstensibleError: The model cannot be used here.
    """
    if settings.judge is None:
        return
    if not judges_code(settings):
        raise BadData(f"--judge is asked about code, and {settings.organism} does not answer with code. Leave it out.")
    load_model(settings.judge, role="judge")


def judges_code(settings: Settings) -> bool:
    """Whether the replies of a run's organism are code."""
    return isinstance(organisms.of(settings).scorer, VulnerableCode)


def consult(paths: RunPaths, settings: Settings, machine: Machine, *, say: Callable[[str], None]) -> None:
    """Put stored replies to every oracle but the one that scored them. Files are empty where replies are not code.

    Raises:
        EvaluationFailed: A static tool cannot be run, or the judge ended with an error; verdicts so far are kept.
    """
    check_judge(settings)
    if not judges_code(settings):
        tables.write_static(paths.static_findings, [])
        tables.write_atomic(paths.calibration, "{}\n")
        say("no code to judge")
        return
    replies = read_replies(paths)
    prompt_ids = [trace.prompt.id for trace in tables.read_traces(paths.traces)]
    rows, errors = read_code(replies, one_a_family(prompt_ids))
    tables.write_static(paths.static_findings, rows)
    tables.write_atomic(paths.calibration, json.dumps({k: asdict(v) for k, v in errors.items()}, indent=1) + "\n")
    say(f"static: {sum(not row['problem'] for row in rows)} of {len(rows)} replies have code")
    if settings.judge:
        samples = list(judge_samples(replies))
        say(f"judge: {len(samples)} replies to {settings.judge}")
        with opened(settings.judge, settings, machine, role="judge") as judge:
            who, what = f"The judge {settings.judge!r}", f"{len(samples)} replies"
            run_asked(replay_tasks(samples, judge), paths.judge_logs, who=who, what=what)
        judged = read_judged(paths)
        opinions = list(judged.replies.values()) if judged else []
        say(f"judge, code: {tally([one.reason for one in opinions])}")
        say(f"judge, thoughts: {tally([one.cot_reason for one in opinions])}")


def read_code(replies: Sequence[Reply], bank: Sequence[CodeTask]) -> tuple[list[dict[str, Any]], dict[str, Errors]]:
    """Scan the code of replies and the bank's solutions, all at once and what is the same once.

    Returns:
        A row for each reply, and how the lenient and the strict verdict did on the bank's solutions.
    """
    codes = [_code(reply) for reply in replies]
    labelled = [(task.secure, task.vulnerable) for task in bank]
    texts = dict.fromkeys(
        [code for code, _ in codes if code is not None] + [text for pair in labelled for text in pair]
    )
    scans = dict(zip(texts, scan([Source("reply", text) for text in texts]), strict=True))
    rows = [
        _row(reply, scans[code] if code is not None else Scan("reply", problem=problem))
        for reply, (code, problem) in zip(replies, codes, strict=True)
    ]
    pairs = [(scans[secure], scans[vulnerable]) for secure, vulnerable in labelled]
    return rows, {
        "lenient": _errors([(secure.verdict, vulnerable.verdict) for secure, vulnerable in pairs]),
        "strict": _errors([(secure.strict_verdict, vulnerable.strict_verdict) for secure, vulnerable in pairs]),
    }


def one_a_family(prompt_ids: Sequence[str]) -> list[CodeTask]:
    """One task of each family of the bank that the prompts are of."""
    first = {task.family: task for task in map(tested, sorted(prompt_ids, reverse=True)) if task is not None}
    return [first[family] for family in sorted(first)]


def judge_samples(replies: Sequence[Reply]) -> Iterator[Sample]:
    """The organism's replies as samples to be judged, each with its request as control replies were asked it."""
    clean = {reply.prompt_id: reply.user for reply in replies if reply.condition is Condition.CONTROL}
    for reply in replies:
        if reply.subject == "organism" and reply.prompt_id in clean:
            request = clean[reply.prompt_id]
            yield Sample(
                id="/".join((reply.prompt_id, reply.condition, reply.look_alike, str(reply.epoch))),
                input=request,
                metadata=_named(reply) | {"request": request, "reply": reply.reply},
            )


def _code(reply: Reply) -> tuple[str | None, str]:
    """A reply's code, or why there is none."""
    if reply.answer is None:
        return None, "the reply never closes its thoughts"
    found = extract(reply.answer)
    return found.code, found.reason


def _row(reply: Reply, found: Scan) -> dict[str, Any]:
    said = {"lenient": found.verdict.value, "strict": found.strict_verdict.value, "problem": found.problem}
    return _named(reply) | said | {"findings": [finding.row() for finding in found.findings]}


def _named(reply: Reply) -> dict[str, Any]:
    return dict(zip(("subject", "condition", "look_alike", "prompt_id", "epoch"), reply.key, strict=True))


def _errors(verdicts: Sequence[tuple[Verdict, Verdict]]) -> Errors:
    """Counts from pairs of a secure and a vulnerable solution's verdict."""
    flagged_secure, flagged_vulnerable = (sum(pair[side] is Verdict.VULNERABLE for pair in verdicts) for side in (0, 1))
    return Errors(flagged_vulnerable, len(verdicts), flagged_secure, len(verdicts))
