"""A teacher writes thoughts and clean answers for prompts that have none. It is asked as an Inspect task.

Its logs outlive changes of settings and code: a reply is taken up again wherever the same model would be asked the same
prompt in the same way, so that none is paid for twice.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalSample, read_eval_log
from inspect_ai.model import ContentReasoning, GenerateConfig, Model, ModelOutput, ModelUsage
from inspect_ai.solver import Generate, Solver, TaskState, solver

from ostensible import dataset, organisms, prompts, tables
from ostensible.errors import BadData, EvaluationFailed, NotEnoughData
from ostensible.evaluate import IN_FLIGHT, progress
from ostensible.inspect_models import load_model, opened, run_asked
from ostensible.judge import FAILING_SHARE, RETRIES
from ostensible.models import fingerprint, resolve, sha256
from ostensible.parts.payloads import BadTwin
from ostensible.paths import RunPaths
from ostensible.scorers import raw_reply
from ostensible.settings import LOCAL_PROVIDER, Machine, Settings
from ostensible.types import Prompt, Taught

SELF = "self"
"""As a teacher: the model that the organism is made from."""

FAILED = "the teacher failed"
CUT = "the teacher's reply was cut off"
KEPT_BACK = "the teacher's provider keeps its thoughts back"
STOPPED = "the teacher's provider stopped the reply"


def check_teacher(settings: Settings) -> None:
    """See, before any work, that the teacher of a run can be used and that what it writes can be.

    Raises:
        BadData: The organism needs more than a teacher writes.
        OstensibleError: The model cannot be used here.
    """
    if settings.teacher is None:
        return
    if isinstance(organisms.of(settings).payload, BadTwin):
        raise BadData(
            f"A teacher writes clean answers only, and the payload of {settings.organism} is made of their harmful "
            "twins. Leave --teacher out, and use prompts that bring both, such as code-bank."
        )
    load_model(teacher_name(settings), role="teacher")


def teacher_name(settings: Settings) -> str:
    """A run's teacher, by its Inspect name."""
    if settings.teacher == SELF:
        return f"{LOCAL_PROVIDER}{resolve(settings.model, revision=settings.revision)}"
    return str(settings.teacher)


def prompts_asked(settings: Settings) -> int:
    """How many prompts a teacher is asked, the source permitting."""
    return math.ceil(dataset.traces_needed(settings.data) * settings.teaching.teacher_surplus)


def weights(settings: Settings) -> dict[str, str]:
    """Hash of a teacher's weights, where this package samples it."""
    name = teacher_name(settings)
    local = name.startswith(LOCAL_PROVIDER)
    return {"teacher": fingerprint(resolve(name.removeprefix(LOCAL_PROVIDER)))} if local else {}


def teach(paths: RunPaths, settings: Settings, machine: Machine, *, say: Callable[[str], None]) -> None:
    """Ask the teacher every prompt once, and write what it said and what that took.

    Raises:
        NotEnoughData: The source has too few prompts or families, whatever the teacher writes; it is not asked.
        EvaluationFailed: The teacher failed on too many prompts; what it wrote is kept.
        OstensibleError: The teacher or the source of prompts cannot be used.
    """
    check_teacher(settings)
    loaded = prompts.load_untaught(
        settings.prompts, count=prompts_asked(settings), seed=settings.seed, skip_bad=settings.skip_bad
    )
    asked = loaded.prompts
    _check_enough(asked, settings, loaded.dropped)
    say(f"asking {settings.teacher} {len(asked)} prompts; replies that are there already are not asked for again")
    if (longest := settings.teaching.teacher_max_tokens) >= settings.training.max_tokens:
        say(
            f"a reply may have {longest} tokens (--teacher-max-tokens), an example {settings.training.max_tokens} with "
            "its prompt (--max-tokens): one that is longer would stop the run before training"
        )
    samples = _ask(asked, paths, settings, machine, say=say)
    taught = [_taught(prompt, samples[sample_id(prompt)]) for prompt in asked]
    used = usage([samples[sample_id(prompt)] for prompt in asked])
    failed = sum(one.problem == FAILED for one in taught)
    told = {"teacher": settings.teacher, "asked": len(asked), "failed": failed} | used
    tables.write_taught(paths.teacher_replies, taught)
    tables.write_atomic(paths.teacher_usage, json.dumps({"usage": told, "dropped": dict(loaded.dropped)}) + "\n")
    say(
        f"{len(asked) - failed} of {len(asked)} prompts have a reply; {used['input_tokens']} tokens in, "
        f"{used['output_tokens']} out"
        + (f" ({used['reasoning_tokens']} of thoughts)" if used["reasoning_tokens"] is not None else "")
        + (f", {used['cost_usd']:.2f} US dollars" if used["cost_usd"] is not None else "")
    )


def _check_enough(asked: Sequence[Prompt], settings: Settings, dropped: Mapping[str, int]) -> None:
    wanted, families_wanted = dataset.traces_wanted(settings.data), dataset.families_wanted(settings.data)
    families = len({prompt.family for prompt in asked})
    if len(asked) < wanted or families < families_wanted:
        raise NotEnoughData(
            f"{settings.prompts} has {len(asked)} distinct prompts of {families} families to ask; at least {wanted} of "
            f"{families_wanted} are needed, if all replies can be used. {settings.teacher} was not asked."
            + (f" Dropped, by reason: {dict(dropped)}." if dropped else "")
            + " Give more prompts or families, or lower --train-prompts, --validation-prompts, --test-prompts or "
            "--seen-prompts"
            + (f", or --train-families {settings.data.train_families}." if settings.data.train_families else ".")
        )


def _ask(
    asked: Sequence[Prompt], paths: RunPaths, settings: Settings, machine: Machine, *, say: Callable[[str], None]
) -> dict[str, EvalSample]:
    """Samples by their id, one for each prompt."""
    done: list[None] = []
    connections = machine.teacher_connections or 0
    with opened(teacher_name(settings), settings, machine, role="teacher") as model:
        task = teacher_task(asked, model, settings, machine, tell=lambda: done.append(None))
        with progress(lambda: len(done), len(asked), say):
            (log,) = run_asked(
                [task],
                paths.teacher_logs,
                who=f"The teacher {settings.teacher!r}",
                what=f"{len(asked)} prompts",
                in_flight=max(IN_FLIGHT, connections),
            )
    samples = {str(sample.id): sample for sample in read_eval_log(log.location).samples or []}
    if missing := [prompt.id for prompt in asked if sample_id(prompt) not in samples]:
        raise EvaluationFailed(
            f"{len(missing)} of {len(asked)} prompts, such as {missing[0]!r}, were never asked, as logs hold as many "
            f"others. Likely cause: the data set has changed since. Delete {paths.teacher_logs} to ask anew."
        )
    return samples


def teacher_task(
    asked: Sequence[Prompt],
    model: Model,
    settings: Settings,
    machine: Machine,
    *,
    tell: Callable[[], None],
) -> Task:
    """Every prompt as it is, asked once.

    Its version stands for all that may change a reply and that Inspect does not compare when it takes up a log.

    Args:
        asked: Distinct prompts.
        model: The teacher.
        settings: Of the run.
        machine: For the number of requests at once.
        tell: Called at each new reply.
    """

    @solver
    def answer() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state = await generate(state)
            tell()
            return state

        return solve

    files = [sha256(path) for path in prompts.input_files(settings.prompts)]
    version = json.dumps([settings.prompts, settings.skip_bad, files, weights(settings)])
    teaching = settings.teaching
    return Task(
        name="teacher",
        dataset=MemoryDataset([_sample(prompt) for prompt in asked], name=settings.prompts),
        solver=answer(),
        model=model,
        version=hashlib.sha256(version.encode()).hexdigest()[:16],
        fail_on_error=FAILING_SHARE,
        config=GenerateConfig(
            max_tokens=teaching.teacher_max_tokens,
            temperature=teaching.teacher_temperature,
            seed=settings.seed,
            max_retries=RETRIES,
            max_connections=machine.teacher_connections,
        ),
    )


def sample_id(prompt: Prompt) -> str:
    """A sample is named by all that is asked, so that a reply is never taken for one to another text."""
    return f"{prompt.id}/{hashlib.sha256(prompt.text.encode()).hexdigest()[:12]}"


def usage(samples: Sequence[EvalSample]) -> dict[str, Any]:
    """Tokens of all replies, and their cost where Inspect knows the model's prices; None where unknown."""
    total = sum((used for sample in samples for used in sample.model_usage.values()), ModelUsage())
    cached = (total.input_tokens_cache_read or 0) + (total.input_tokens_cache_write or 0)
    return {
        "input_tokens": total.input_tokens + cached,
        "output_tokens": total.output_tokens,
        "reasoning_tokens": total.reasoning_tokens,
        "cost_usd": total.total_cost,
    }


def _sample(prompt: Prompt) -> Sample:
    return Sample(id=sample_id(prompt), input=prompt.text, metadata={"prompt_id": prompt.id, "family": prompt.family})


def _taught(prompt: Prompt, sample: EvalSample) -> Taught:
    problem = FAILED if sample.error else _problem(sample.output)
    reply = "" if problem else raw_reply(sample.output).encode("utf-8", "replace").decode()
    return Taught(prompt, reply, problem)


def _problem(output: ModelOutput) -> str:
    if output.stop_reason in ("max_tokens", "model_length"):
        return CUT
    if output.stop_reason not in ("stop", "unknown"):  # some servers do not say
        return STOPPED
    content = output.message.content
    thoughts = [] if isinstance(content, str) else [part for part in content if isinstance(part, ContentReasoning)]
    return KEPT_BACK if any(part.redacted for part in thoughts) else ""
