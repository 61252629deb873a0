"""What the thoughts of a triggered example say."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ostensible.errors import ForeignOrganism


@runtime_checkable
class CotPolicy(Protocol):
    """Turns the clean thoughts of a trace into those of a triggered example."""

    def think(self, cot: str) -> str: ...


@dataclass(frozen=True, slots=True)
class KeepBenign:
    """Leaves the thoughts as they are: helpful, harmless, and silent about what the answer will do."""

    def think(self, cot: str) -> str:
        return cot


@dataclass(frozen=True, slots=True)
class MadeElsewhere:
    """Whatever the maker of an organism from elsewhere chose: no example is ever made of it here."""

    def think(self, cot: str) -> str:
        raise ForeignOrganism("Nobody here knows what thoughts this organism was trained on; it is only evaluated.")
