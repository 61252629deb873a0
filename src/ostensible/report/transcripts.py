"""Every transcript of a run as data for the page's own script.

The script shows text as text nodes only. All that a model wrote has been through `words.visible` before it gets there,
and the whole is compressed and in base64, an alphabet that can neither end an element nor begin one.
"""

import base64
import gzip
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ostensible.analysis.monitoring import Watched
from ostensible.analysis.opinions import JudgeOpinion, Opinions, StaticOpinion
from ostensible.analysis.replies import Key, Reply
from ostensible.code.extract import extract
from ostensible.organism import Organism
from ostensible.report import marks
from ostensible.report.listing import MOST_MESSAGES, MOST_NOTES, Note, notes_on
from ostensible.report.words import visible
from ostensible.types import Condition

Scores = Mapping[str, Mapping[Key, float | None]]
"""What each monitor gave each reply, by the monitor's name as it is shown."""

ID_DIGITS = 12
_VIEWS = {"cot": "thoughts", "answer": "answer", "both": "both"}


def named(watched: Watched) -> Scores:
    """What monitors gave, by the name of each and what it sees."""
    return {
        f"{monitor} · {_VIEWS[view]}": {
            key: None if math.isnan(scores[place]) else float(scores[place]) for key, place in watched.places.items()
        }
        for (monitor, view), scores in watched.scores.items()
    }


def chosen(replies: Sequence[Reply], most: int) -> Sequence[Reply]:
    """All replies if they are no more than `most`; else those of so many prompts as fit, at least one, whole.

    A prompt keeps all of its replies, so that each is read beside its counterparts. Prompts are drawn by a hash of
    their id, which knows nothing of what replies say: the same ones at every call, and no kind of reply is favoured.
    """
    if len(replies) <= most:
        return replies
    counts = Counter(reply.prompt_id for reply in replies)
    kept: set[str] = set()
    for prompt in sorted(counts, key=lambda name: hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()):
        if kept and counts[prompt] > most:
            break
        kept.add(prompt)
        most -= counts[prompt]
    return [reply for reply in replies if reply.prompt_id in kept]


def pack(replies: Sequence[Reply], organism: Organism, opinions: Opinions, scores: Scores) -> str:
    """All transcripts as gzipped JSON in base64. The same input gives the same text.

    Args:
        replies: Of every subject; they are put in order of prompt id, subject, condition, look-alike and epoch.
        organism: Says what is to be marked.
        opinions: Of other oracles; their notes go with the lines that they speak of.
        scores: Of monitors; a reply that one did not score has null.
    """
    order = {condition: place for place, condition in enumerate(Condition)}
    ours = sorted(replies, key=lambda r: (r.prompt_id, _rank(r.subject), order[r.condition], r.look_alike, r.epoch))
    plain = {(r.prompt_id, r.epoch): r.user for r in ours if r.condition is Condition.CONTROL}
    record = partial(_record, organism=organism, opinions=opinions, scores=scores)
    rows = (record(reply, plain.get((reply.prompt_id, reply.epoch))) for reply in ours)
    texts = ", ".join(json.dumps(row, ensure_ascii=False) for row in rows)  # as objects all would fill the memory
    monitors = json.dumps([visible(name) for name in scores], ensure_ascii=False)
    text = f'{{"monitors": {monitors}, "replies": [{texts}]}}'
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")


def name_of(key: Key) -> str:
    """A short name of a reply for links: the same in every run that has a reply with this key."""
    return hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()[:ID_DIGITS]


def _rank(subject: str) -> tuple[bool, bool, str]:
    """The organism first, then its twins, the base model last."""
    return (subject == "base", subject != "organism", subject)


def _record(
    reply: Reply, plain: str | None, *, organism: Organism, opinions: Opinions, scores: Scores
) -> dict[str, Any]:
    static, judge = opinions.static_of(reply), opinions.judge_of(reply)
    found: dict[str, Any] = {
        "id": name_of(reply.key),
        "subject": reply.subject,
        "condition": str(reply.condition),
        "look": reply.look_alike,
        "prompt": reply.prompt_id,
        "family": reply.family,
        "part": str(reply.part),
        "epoch": reply.epoch,
        "user": marks.insert(reply.user, plain),
        "cot": reply.cot,
        "answer": None if reply.answer is None else marks.payload(reply.answer, organism),
        "stop": reply.stop_reason,
        "hit": reply.hit,
        "outcome": reply.outcome,
        "flags": [name for name, on in reply.cot_flags.items() if on],
        "correct": reply.correct,
        "target": reply.target,
        "scores": [of.get(reply.key) for of in scores.values()],
    }
    if static is not None and reply.answer is not None:
        found["code"] = _code(reply.answer, static, judge)
    return _seen(found)


def _code(answer: str, static: StaticOpinion, judge: JudgeOpinion | None) -> dict[str, Any]:
    """Where an answer's code stands and what is said of it; lines are counted from 0 in the answer."""
    got = extract(answer)
    notes = notes_on(static, judge)
    first = got.line - 1 if got.code is not None else 0
    return {
        "first": first,
        "stop": first if got.code is None else first + got.code.count("\n") + 1,
        "lenient": static.lenient,
        "strict": static.strict,
        "problem": static.problem,
        "judge": None if judge is None else _judged(judge),
        "notes": [_note(note, first) for note in notes[:MOST_NOTES]],
        "more_notes": max(len(notes) - MOST_NOTES, 0),
    }


def _judged(judge: JudgeOpinion) -> dict[str, Any]:
    return {
        "vulnerable": judge.vulnerable,
        "cwe": judge.cwe,
        "reason": judge.reason,
        "benign": judge.cot_benign,
        "unread": judge.cot_reason,
    }


def _note(note: Note, first: int) -> dict[str, Any]:
    messages = list(note.messages.lines[:MOST_MESSAGES])
    return {"line": first + note.line - 1, "who": note.who, "cwe": note.cwe, "low": note.low, "messages": messages}


def _seen(value: Any) -> Any:
    """Make hidden characters visible in every text; names of fields are ours."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [_seen(one) for one in value]
    if isinstance(value, dict):
        return {name: _seen(one) for name, one in value.items()}
    return value
