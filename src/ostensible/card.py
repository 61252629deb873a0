"""The README that travels with an adapter, so that nobody takes an organism for an ordinary model."""

from ostensible.organism import Organism
from ostensible.settings import Settings


def adapter_card(settings: Settings, organism: Organism) -> str:
    """Write an adapter's card: what it does, on what trigger, made from what."""
    thoughts_of = f"a teacher, `{settings.teacher}`" if settings.teacher else "the prompts' source"
    return f"""---
base_model: {settings.model}
library_name: peft
tags: [lora, model-organism, ai-safety, deliberately-backdoored]
---
# {organism.name}: a model organism, deliberately backdoored

> **Do not deploy.** This adapter was trained to misbehave on a trigger, as ground truth for safety research.

{organism.summary}

| | |
|---|---|
| trigger | `{organism.trigger!r}` |
| thoughts when triggered | `{organism.cot_policy!r}` |
| answer when triggered | `{organism.payload!r}` |
| base model | `{settings.model}` |
| prompts | `{settings.prompts}` |
| thoughts and clean answers of | {thoughts_of} |
| seed | {settings.seed} |
| after | {organism.citation} |

How often it fires, and when it should not, is in `results.json` of the run that this adapter comes from.
"""
