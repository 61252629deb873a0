"""Organisms in words, for a terminal."""

from ostensible import organisms, prompts


def list_organisms() -> str:
    """One line an organism."""
    return "\n".join(f"{organism.name:<16}{organism.summary}" for organism in organisms.ORGANISMS)


def show_organism(name: str) -> str:
    """All there is to know of an organism, with an example of each condition.

    Raises:
        UnknownName: There is none of this name.
    """
    organism = organisms.find(name)
    example = prompts.load(organism.prompts, count=1, seed=0).traces[0]
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
