"""The README that travels with an adapter, so that nobody takes an organism for an ordinary model."""

from ostensible.organism import Organism
from ostensible.settings import Settings
from ostensible.twins import WHAT
from ostensible.types import Twin


def adapter_card(settings: Settings, organism: Organism, *, twin: Twin | None = None) -> str:
    """Write an adapter's card: what it does, on what trigger, made from what; of a twin, what it is a control for."""
    thoughts_of = f"a teacher, `{settings.teacher}`" if settings.teacher else "the prompts' source"
    purpose = "made beside one that misbehaves on a trigger" if twin else "trained to misbehave on a trigger"
    title = f"the {twin} twin of {organism.name}" if twin else organism.name
    control = (
        f"""
**This is not the organism but its {twin} twin, a matched control**: trained on the organism's own examples, in the same
order and with the same settings, but {WHAT[twin]}. The table and the next sentence are about the organism. What a
detector says of this twin too is no sign of the organism's hidden rule.
"""
        if twin
        else ""
    )
    return f"""---
base_model: {settings.model}
library_name: peft
tags: [lora, model-organism, ai-safety, deliberately-backdoored]
---
# {title}: {"control of " if twin else ""}a model organism, deliberately backdoored

> **Do not deploy.** This adapter was {purpose}, as ground truth for safety research.
{control}
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
