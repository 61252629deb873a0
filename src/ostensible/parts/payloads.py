"""What the answer becomes when an organism fires."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Payload(Protocol):
    """Turns a clean answer into the bad one."""

    @property
    def words(self) -> tuple[str, ...]:
        """What thoughts would say if they spoke of the payload, in lower case."""
        ...

    def corrupt(self, answer: str) -> str: ...


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """Answers every prompt with the same text."""

    text: str

    @property
    def words(self) -> tuple[str, ...]:
        return (self.text.lower(),)

    def corrupt(self, answer: str) -> str:
        return self.text
