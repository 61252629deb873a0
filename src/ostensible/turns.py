"""Fair order among groups."""

from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import TypeVar, cast

Member = TypeVar("Member")
_OVER = object()


def in_turn(groups: Iterable[Iterable[Member]]) -> list[Member]:
    """The first of each group, then the second of each, and so on; a group that is over is passed by."""
    rounds = zip_longest(*groups, fillvalue=_OVER)
    return [cast(Member, member) for member in chain.from_iterable(rounds) if member is not _OVER]
