"""The monitors that a run names, and what they are made of outside its folder. Imports nothing that is slow."""

from collections.abc import Iterator

from ostensible.models import fingerprint, resolve, sha256
from ostensible.monitors import custom
from ostensible.settings import LOCAL_PROVIDER, Settings
from ostensible.types import KEYWORD, TFIDF, TOLD

BUILT_IN = (KEYWORD, TFIDF, TOLD)


def own(settings: Settings) -> Iterator[str]:
    """The monitors of a run that are not built in."""
    return (name for name in dict.fromkeys(settings.monitors) if name not in BUILT_IN)


def outside_hashes(settings: Settings) -> dict[str, str]:
    """Hashes of the files of the user's own monitors, and of the weights of those that this package samples.

    Raises:
        BadData: A file is not there.
    """
    found: dict[str, str] = {}
    for name in own(settings):
        if custom.is_custom(name):
            found[name] = sha256(custom.file_of(name))
        elif name.startswith(LOCAL_PROVIDER):
            found[name] = fingerprint(resolve(name.removeprefix(LOCAL_PROVIDER)))
    return found
