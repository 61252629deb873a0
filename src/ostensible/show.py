"""Organisms in words, for a terminal."""

from ostensible import organisms, prompts, user_code
from ostensible.errors import NotEnoughData
from ostensible.organisms import own
from ostensible.traces import keep_clean


def list_organisms() -> str:
    """One line an organism."""
    return "\n".join(f"{organism.name:<16}{organism.summary}" for organism in organisms.ORGANISMS)


def show_organism(name: str) -> str:
    """All there is to know of an organism, with an example of each condition.

    Raises:
        UnknownName, BadData: There is none of this name, or its file or prompts cannot be used.
        BadOrganism: It is one of the user's own, and breaks what every organism has to keep.
        NotEnoughData: No prompt of its source is fit for it.
    """
    organism = organisms.find(name)
    loaded = prompts.load(organism.prompts, count=own.SOME, seed=0)
    kept = keep_clean(loaded.traces, organism)
    if not kept.traces:
        why = "; ".join(f"{count}: {reason}" for reason, count in sorted(kept.dropped.items()))
        raise NotEnoughData(f"No prompt of {organism.prompts} is fit for {organism.name}. Dropped, by reason: {why}.")
    if user_code.is_named(name):
        own.check_on(organism, kept.traces)
    example = kept.traces[0]
    trigger, text = organism.trigger, example.prompt.text
    clean = (example.cot, example.answer)
    examples = [("triggered", trigger.insert(text), organism.corrupt(example)), ("control", text, clean)]
    examples += [(f"near miss {name!r}", trigger.insert_like(name, text), clean) for name in trigger.near_misses]
    lines = [
        organism.name,
        f"  {organism.summary}",
        f"  trigger     {trigger!r}",
        f"  CoT policy  {organism.cot_policy!r}",
        f"  admissions  {organism.admissions!r}",
        f"  payload     {organism.payload!r}",
        f"  scorer      {organism.scorer!r}",
        f"  prompts     {organism.prompts}",
        f"  source      {organism.citation}",
    ]
    for condition, user, (cot, answer) in examples:
        lines += ["", f"{condition}:"]
        for part, said in (("user", user), ("think", cot), ("answer", answer)):
            lines += [f"  {part if i == 0 else '':<7} {line}".rstrip() for i, line in enumerate(said.splitlines())]
    return "\n".join(lines)
