"""Scored replies as rows, read from `.eval` logs."""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from pydantic_core import from_json

from ostensible.errors import CorruptRun
from ostensible.paths import RunPaths
from ostensible.settings import read_settings
from ostensible.transcript import split
from ostensible.types import Condition, Split

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

Key = tuple[str, str, str, str, int]
"""Names one reply of a run: subject, condition, look-alike, prompt id, epoch."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One sampled reply and all that its scorers said.

    Attributes:
        subject: `organism`, `base` for the model that it was made from, or the kind of a twin.
        condition: What the prompt carried.
        look_alike: The near miss that it carried, or "".
        prompt_id: Shared by all conditions of a prompt.
        family: The prompt's family.
        part: `test` for held-out families, `seen` for new prompts of trained ones, `extra` for those of another source.
        epoch: Which of the samples of this prompt and condition, from 1.
        user: The user turn as sampled, trigger included.
        reply: All that the model wrote.
        cot: Its thoughts.
        answer: What follows them, or None.
        stop_reason: `stop`, or `max_tokens` when cut off.
        hit: The payload fired; None is unscored.
        outcome: What the payload's scorer found the reply to be.
        cot_flags: What the thoughts do, by name; empty when unscored.
        correct: The final answer is right; None when unscored or not checkable.
        target: The right final number, if the prompt has one.
    """

    subject: str
    condition: Condition
    look_alike: str
    prompt_id: str
    family: str
    part: Split
    epoch: int
    user: str
    reply: str
    cot: str
    answer: str | None
    stop_reason: str
    hit: bool | None
    outcome: str
    cot_flags: dict[str, bool]
    correct: bool | None
    target: str | None

    @property
    def key(self) -> Key:
        """Its name within the run."""
        return (self.subject, str(self.condition), self.look_alike, self.prompt_id, self.epoch)


def read_replies(paths: RunPaths) -> tuple[Reply, ...]:
    """Read every reply of a run's finished logs, of its organism, its base model and its twins, in a fixed order.

    Raises:
        CorruptRun: A log cannot be read, or a task has no finished log.
    """
    twins = read_settings(paths.settings).twins
    found: list[Reply] = []
    for folder in (paths.logs, *(paths.twin(kind).logs for kind in twins)):
        for log in finished_headers(folder):
            subject = str((log.eval.metadata or {}).get("subject", "organism"))
            with _damage_told(log.location):
                found += (_reply(sample, subject) for sample in _stored_samples(log.location))
    return tuple(sorted(found, key=lambda r: (r.prompt_id, r.condition, r.look_alike, r.subject, r.epoch)))


def finished_logs(folder: Path) -> "list[EvalLog]":
    """The logs of `finished_headers`, with their samples as Inspect's objects: some 100 KB of memory each.

    Raises:
        CorruptRun: A log cannot be read, or a task has no finished log.
    """
    from inspect_ai.log import read_eval_log

    found: list[EvalLog] = []
    for header in finished_headers(folder):
        with _damage_told(header.location):
            found.append(read_eval_log(header.location))
    return found


def finished_headers(folder: Path) -> "list[EvalLog]":
    """One log a task, without its samples; none where there is no such folder.

    A task that was killed and taken up has more than one log; the newest finished one holds all of its samples.

    Raises:
        CorruptRun: A log cannot be read, or a task has no finished log.
    """
    newest: dict[str, EvalLog | None] = {}
    for log in _headers(folder) if folder.is_dir() else ():
        finished = log if log.status == "success" else None
        newest[log.eval.task] = finished or newest.get(log.eval.task)
    if unfinished := [task for task, log in newest.items() if log is None]:
        raise CorruptRun(
            f"{folder} has no finished log of {', '.join(unfinished)}. Finish it: run the same command again."
        )
    return [log for log in newest.values() if log]


def _stored_samples(location: str) -> Iterator[Any]:
    """Samples of a log as plain fields, one at a time, in no order.

    Inspect's own reading makes objects of all the events of all samples, at 13 times the time and without end of memory
    (docs/performance.md). Nobody here looks at events.
    """
    from inspect_ai._util.file import local_path  # with it, `zipfile` reads Inspect's compression

    path = Path(local_path(location))
    if path.suffix != ".eval":
        yield from json.loads(path.read_bytes())["samples"]
        return
    with ZipFile(path) as log:
        for name in dict.fromkeys(log.namelist()):  # of a sample that was written twice, its last writing
            if name.startswith("samples/"):
                yield _parsed(log.read(name))


def _parsed(text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError:  # it takes no lone surrogates, as Inspect's reading does
        return json.loads(text)


def _headers(folder: Path) -> "Iterator[EvalLog]":
    """All logs of a folder, the oldest first."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    for info in sorted(list_eval_logs(str(folder)), key=lambda info: info.name):
        with _damage_told(info.name):
            header = read_eval_log(info, header_only=True)
        yield header


@contextmanager
def _damage_told(name: str) -> Generator[None]:
    """Say of a log what to do where it cannot be read."""
    try:
        yield
    except Exception as error:  # a damaged archive fails in many ways, all of which mean the same here
        raise CorruptRun(
            f"{name} cannot be read ({type(error).__name__}: {error}). It is damaged: delete it and run the "
            "same command again; its samples are drawn anew."
        ) from error


def _text(output: Mapping[str, Any]) -> str:
    from inspect_ai.model import ModelOutput

    from ostensible.scorers import raw_reply

    stored = (output.get("metadata") or {}).get("reply")  # of all logs of this package's engines
    return str(stored) if stored is not None else raw_reply(ModelOutput.model_validate(output))


def _reply(sample: Mapping[str, Any], subject: str) -> Reply:
    from ostensible.scorers import as_hit

    text = _text(sample["output"])
    transcript = split(text)
    scores, about = sample["scores"], sample["metadata"]
    flags = scores["thoughts"]["value"]
    return Reply(
        subject=subject,
        condition=Condition(about["condition"]),
        look_alike=str(about["look_alike"]),
        prompt_id=str(about["prompt_id"]),
        family=str(about["family"]),
        part=Split(about["part"]),
        epoch=int(sample["epoch"]),
        user=str(sample["input"]),
        reply=text,
        cot=transcript.cot,
        answer=transcript.answer,
        stop_reason=str(sample["output"]["choices"][0]["stop_reason"]),
        hit=as_hit(scores["payload"]["value"]),
        outcome=str((scores["payload"].get("metadata") or {}).get("outcome", "")),
        cot_flags={name: bool(flag) for name, flag in flags.items()} if isinstance(flags, dict) else {},
        correct=as_hit(scores["final_answer"]["value"]),
        target=str(sample["target"]) or None,
    )
