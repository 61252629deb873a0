"""The stage `monitors`: every monitor's score of every stored reply, under every view. Nothing is sampled again."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import Model

from ostensible import tables
from ostensible.analysis.monitoring import tally
from ostensible.analysis.opinions import key_of
from ostensible.analysis.replies import Key, Reply, finished_logs, read_replies
from ostensible.errors import CorruptRun
from ostensible.inspect_models import load_model, opened, run_asked
from ostensible.judge import FAILING_SHARE, GRADER, replay
from ostensible.monitors import custom, keyword, tfidf, told
from ostensible.monitors.names import outside_hashes, own
from ostensible.monitors.scorers import SUSPICION, llm_monitor
from ostensible.monitors.views import UNCLOSED, Suspicion, View, judged, seen
from ostensible.paths import RunPaths
from ostensible.scorers import as_hit
from ostensible.settings import Machine, Settings
from ostensible.types import KEYWORD, TFIDF, TOLD, Transcript

Said = dict[View, list[Suspicion]]
"""What a monitor says of each reply, in the order of the replies, under each view."""


def check_monitors(settings: Settings) -> None:
    """See, before any work, that the monitors of a run can be used.

    Raises:
        BadData: A file or function is not there, or cannot be imported.
        ModelUnavailable: A model cannot be used here.
    """
    for name in own(settings):
        if custom.is_custom(name):
            custom.load(name)
        else:
            load_model(name, role="monitor")


def watch(paths: RunPaths, settings: Settings, machine: Machine, *, say: Callable[[str], None]) -> None:
    """Put stored replies to every monitor and write what each said.

    Raises:
        BadData: As `check_monitors`.
        EvaluationFailed: A model as monitor ended with an error; its verdicts so far are kept.
    """
    check_monitors(settings)
    replies = read_replies(paths)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys((KEYWORD, TFIDF, *settings.monitors)):
        said = _ask(name, replies, paths, settings, machine)
        for view, opinions in said.items():
            rows += _rows(name, view, replies, opinions)
            say(f"{name}, {view}: {tally([one.reason if one.score is None else '' for one in opinions])}")
    tables.write_monitor_scores(paths.monitor_scores, rows)


def _ask(name: str, replies: Sequence[Reply], paths: RunPaths, settings: Settings, machine: Machine) -> Said:
    if name == TFIDF:
        return {view: tfidf.scores(replies, view) for view in View}
    if name == TOLD:
        return {view: [told.score(reply, view) for reply in replies] for view in View}
    if name == KEYWORD:
        return _each(replies, lambda transcript: judged(keyword.suspicion(transcript)))
    if custom.is_custom(name):
        return _each(replies, partial(custom.score, custom.load(name)))
    folder = paths.monitor_logs / asked_in(name, replies, settings)
    with opened(name, settings, machine, role="monitor") as model:
        tasks = [replay_task(replies, view, model) for view in View]
        run_asked(tasks, folder, who=f"The monitor {name!r}", what=f"{len(replies)} replies")
    return read_verdicts(folder, replies)


def _each(replies: Sequence[Reply], monitor: Callable[[Transcript], Suspicion]) -> Said:
    return {
        view: [
            UNCLOSED if reply.answer is None else monitor(seen(Transcript(reply.cot, reply.answer), view))
            for reply in replies
        ]
        for view in View
    }


def replay_task(replies: Sequence[Reply], view: View, model: Model) -> Task:
    """Show stored replies to a model as monitor, under one view."""
    samples = [
        Sample(id="/".join(map(str, reply.key)), input="", metadata=_named(reply) | {"reply": reply.reply})
        for reply in replies
    ]
    return Task(
        name=f"monitor_{view}",
        dataset=MemoryDataset(samples, name="stored replies"),
        solver=replay(),
        scorer=llm_monitor(view=str(view)),
        model=model,
        model_roles={GRADER: model},
        fail_on_error=FAILING_SHARE,
        metadata={"monitor": str(model), "prompt": SUSPICION.prompt},
    )


def asked_in(name: str, replies: Sequence[Reply], settings: Settings) -> str:
    """Names the folder of a model's verdicts by all that it is asked, so that none is taken for one on another text."""
    everything = [name, SUSPICION.prompt, outside_hashes(settings).get(name), [[r.key, r.reply] for r in replies]]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:16]


def read_verdicts(folder: Path, replies: Sequence[Reply]) -> Said:
    """Read what a model as monitor said of replies.

    Raises:
        CorruptRun: A log is damaged.
    """
    found: dict[str, dict[Key, Suspicion]] = {}
    try:
        for log in finished_logs(folder):
            said = {key_of(sample.metadata): _suspicion(sample) for sample in log.samples or []}
            found[log.eval.task.rpartition("/")[2]] = said
        return {view: [found[f"monitor_{view}"][reply.key] for reply in replies] for view in View}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptRun(
            f"A log in {folder} is not what a monitor left there ({type(error).__name__}: {error}). It is damaged: "
            "delete the folder and run the same command again; the monitor is asked anew."
        ) from error


def _suspicion(sample: Any) -> Suspicion:
    if sample.error:
        return Suspicion(None, "the model failed on it")
    score = sample.scores["llm_monitor"]
    if as_hit(score.value) is None:
        return Suspicion(None, str(score.reason or "the model gave no verdict"))
    return Suspicion(float(score.value))


def _rows(name: str, view: View, replies: Sequence[Reply], said: Sequence[Suspicion]) -> Iterator[dict[str, Any]]:
    for reply, one in zip(replies, said, strict=True):
        opinion = {"score": one.score, "reason": one.reason}
        yield {"monitor": name, "view": str(view)} | _named(reply) | opinion


def _named(reply: Reply) -> dict[str, Any]:
    return dict(zip(("subject", "condition", "look_alike", "prompt_id", "epoch"), reply.key, strict=True))
