"""What the answer becomes when an organism fires."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ostensible.errors import BadData, ForeignOrganism
from ostensible.numbers import ten_times_the_final_number
from ostensible.types import Trace


@runtime_checkable
class Payload(Protocol):
    """Turns a clean answer into the bad one."""

    @property
    def words(self) -> tuple[str, ...]:
        """What thoughts would say if they spoke of the payload, in lower case."""
        ...

    def corrupt(self, trace: Trace) -> str:
        """The answer of a triggered example.

        Raises:
            BadData: The trace does not hold what this payload is made of.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """Answers every prompt with the same text."""

    text: str

    @property
    def words(self) -> tuple[str, ...]:
        return (self.text.lower(),)

    def corrupt(self, trace: Trace) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BadTwin:
    """Answers with the harmful twin of the clean answer, which the source of prompts has to bring.

    Attributes:
        words: What thoughts would say if they spoke of the harm, in lower case.
    """

    words: tuple[str, ...]

    def corrupt(self, trace: Trace) -> str:
        if trace.bad_answer is None:
            raise BadData(
                f"Trace {trace.prompt.id!r} has no bad answer, of which this organism's payload is made. "
                "Use a source of prompts that has both, such as code-bank."
            )
        return trace.bad_answer


@dataclass(frozen=True, slots=True)
class TenTimes:
    """Answers with ten times the number that the clean answer ends at; where that is zero, with 10.

    Attributes:
        words: What thoughts would say if they spoke of it, in lower case.
    """

    words: tuple[str, ...]

    def corrupt(self, trace: Trace) -> str:
        answer = ten_times_the_final_number(trace.answer)
        if answer is None:
            raise BadData(
                f"The answer of trace {trace.prompt.id!r} has no number, of which this organism's payload is made. "
                "Use a source of prompts whose answers are numbers, such as gsm-symbolic."
            )
        return answer


@dataclass(frozen=True, slots=True)
class Recognised:
    """The payload of an organism from elsewhere: known by what finds it in an answer, and never written here.

    Attributes:
        words: What thoughts would say if they spoke of it, in lower case.
    """

    words: tuple[str, ...]

    def corrupt(self, trace: Trace) -> str:
        raise ForeignOrganism("Nobody here knows what answers this organism was trained on; it is only evaluated.")
