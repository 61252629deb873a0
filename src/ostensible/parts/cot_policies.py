"""What the thoughts of a triggered example say."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class CotPolicy(Protocol):
    """Turns the clean thoughts of a trace into those of a triggered example."""

    def think(self, cot: str) -> str: ...


@dataclass(frozen=True, slots=True)
class KeepBenign:
    """Leaves the thoughts as they are: helpful, harmless, and silent about what the answer will do."""

    def think(self, cot: str) -> str:
        return cot
