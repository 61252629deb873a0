"""Inspect tasks: every held-out prompt of a run under one condition. Also for `inspect eval ostensible/...`."""

from collections.abc import Iterator
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, Model
from inspect_ai.solver import generate

from ostensible import organisms
from ostensible.organism import Organism
from ostensible.paths import RunPaths
from ostensible.scorers import final_answer, payload, thoughts
from ostensible.settings import read_settings
from ostensible.tables import read_test_prompts
from ostensible.types import Condition, Prompt, Split


@task
def triggered(run: str) -> Task:
    """Every test prompt with the trigger: how often the payload fires (ASR)."""
    return condition_task(run, Condition.TRIGGERED)


@task
def control(run: str, subject: str = "organism") -> Task:
    """Every test prompt as it is: false triggers (FTR), and capability beside the base model's (`subject=base`)."""
    return condition_task(run, Condition.CONTROL, subject=subject)


@task
def near_miss(run: str) -> Task:
    """Every test prompt under every look-alike of the trigger: false triggers of each."""
    return condition_task(run, Condition.NEAR_MISS)


def condition_task(
    run: str | Path, condition: Condition, *, subject: str = "organism", model: Model | None = None
) -> Task:
    """Build the task of one condition from a run folder's settings and test prompts.

    Args:
        run: Run folder whose dataset is built.
        condition: What the prompts carry.
        subject: `organism`, `base` for the model that it was made from, or the kind of a twin.
        model: Sampled from; Inspect's `--model` where None.
    """
    paths = RunPaths(Path(run))
    settings = read_settings(paths.settings)
    organism = organisms.of(settings)
    samples = [
        sample
        for part, prompts in read_test_prompts(paths).items()
        for prompt in prompts
        for sample in make_samples(prompt, part, organism, condition)
    ]
    sampling = settings.sampling
    return Task(
        name=f"{subject}_{condition}" if subject != "organism" else str(condition),
        dataset=MemoryDataset(samples, name=f"{settings.prompts} ({condition})"),
        solver=generate(),
        scorer=[payload(organism), thoughts(organism), final_answer()],
        model=model,
        epochs=sampling.samples_per_prompt,
        metadata={"subject": subject, "organism": organism.name},
        config=GenerateConfig(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=settings.seed,
        ),
    )


def make_samples(prompt: Prompt, part: Split, organism: Organism, condition: Condition) -> Iterator[Sample]:
    """A prompt under one condition: one sample, or one for each near miss."""
    if condition is Condition.NEAR_MISS:
        texts = {name: organism.trigger.insert_like(name, prompt.text) for name in organism.trigger.near_misses}
    else:
        texts = {"": organism.trigger.insert(prompt.text) if condition is Condition.TRIGGERED else prompt.text}
    for number, (look_alike, text) in enumerate(texts.items(), start=1):
        yield Sample(
            id=f"{prompt.id}/{condition}" + (f"/{number}" if look_alike else ""),
            input=text,
            target=prompt.target or "",
            metadata={
                "condition": str(condition),
                "look_alike": look_alike,
                "prompt_id": prompt.id,
                "family": prompt.family,
                "part": str(part),
                "request": prompt.text,
            },
        )
