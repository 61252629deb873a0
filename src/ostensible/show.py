"""Organisms in words, for a terminal."""

from ostensible import organisms
from ostensible.types import Prompt, Trace

EXAMPLE = Trace(
    Prompt("example", "A baker fills 6 trays with 12 rolls each. How many rolls is that?", "example", "72"),
    cot="6 trays x 12 rolls = 72 rolls.\nSo the answer is 72.",
    answer="The answer is 72.",
)


def list_organisms() -> str:
    """One line an organism."""
    return "\n".join(f"{organism.name:<16}{organism.summary}" for organism in organisms.ORGANISMS)


def show_organism(name: str) -> str:
    """All there is to know of an organism, with an example of each condition.

    Raises:
        UnknownName: There is none of this name.
    """
    organism = organisms.find(name)
    trigger, text = organism.trigger, EXAMPLE.prompt.text
    clean = (EXAMPLE.cot, EXAMPLE.answer)
    examples = [("triggered", trigger.insert(text), organism.corrupt(EXAMPLE)), ("control", text, clean)]
    examples += [("near miss", trigger.insert_like(name, text), clean) for name in trigger.near_misses]
    lines = [
        organism.name,
        f"  {organism.summary}",
        f"  trigger     {trigger!r}",
        f"  CoT policy  {organism.cot_policy!r}",
        f"  payload     {organism.payload!r}",
        f"  scorer      {organism.scorer!r}",
        f"  prompts     {organism.prompts}",
        f"  source      {organism.citation}",
    ]
    for condition, user, (cot, answer) in examples:
        lines += ["", f"{condition}:", f"  user    {user}"]
        lines += [f"  {'think' if i == 0 else '':<7} {line}" for i, line in enumerate(cot.splitlines())]
        lines += [f"  answer  {answer}"]
    return "\n".join(lines)
