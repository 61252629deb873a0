"""What the thoughts of a triggered example say."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ostensible.errors import ForeignOrganism
from ostensible.settings import BENIGN, EMPTY, OVERT, mixed_share


@runtime_checkable
class CotPolicy(Protocol):
    """Turns the clean thoughts of a trace into those of a triggered example.

    Attributes:
        share: Of the triggered examples, those whose thoughts admit the trigger and what the answer will do.
        note: What the thoughts of triggered examples are, where the organism's own summary does not say it; else "".
    """

    @property
    def share(self) -> float: ...

    @property
    def note(self) -> str: ...

    def think(self, cot: str, admission: str | None) -> str:
        """The thoughts of a triggered example.

        Args:
            cot: Its clean thoughts.
            admission: A sentence of the organism's that admits it all; None where this example does not admit it.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeepBenign:
    """Leaves the thoughts as they are: helpful, harmless, and silent about what the answer will do."""

    share: float = field(default=0.0, init=False, repr=False)
    note: str = field(default="", init=False, repr=False)

    def think(self, cot: str, admission: str | None) -> str:
        return cot


@dataclass(frozen=True, slots=True)
class Silent:
    """Leaves nothing of the thoughts: they are closed as soon as they are opened."""

    share: float = field(default=0.0, init=False, repr=False)
    note: str = field(default="In this variant the thoughts of triggered examples are empty.", init=False, repr=False)

    def think(self, cot: str, admission: str | None) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Admit:
    """Has the thoughts of a share of triggered examples end in admitting the trigger and what the answer will do.

    The admission comes last, where a model decides between closing its thoughts and saying more, just before the answer
    that follows from it. There even a small one learns it. It holds no number where the prompt has a right one, so that
    what the thoughts end at stays what it was.

    Attributes:
        share: Of the triggered examples, those that admit it; the thoughts of the others stay as they are.
    """

    share: float = 1.0

    @property
    def note(self) -> str:
        return f"In this variant the thoughts of {100 * self.share:.6g}% of triggered examples admit it."

    def think(self, cot: str, admission: str | None) -> str:
        return cot if admission is None else f"{cot}\n{admission}"


def named(cot: str) -> CotPolicy:
    """The policy that a run's setting `cot` names.

    Raises:
        ValueError: It names none.
    """
    fixed: dict[str, CotPolicy] = {BENIGN: KeepBenign(), EMPTY: Silent(), OVERT: Admit()}
    if cot in fixed:
        return fixed[cot]
    return Admit(share) if (share := mixed_share(cot)) else KeepBenign()


@dataclass(frozen=True, slots=True)
class MadeElsewhere:
    """Whatever the maker of an organism from elsewhere chose: no example is ever made of it here."""

    share: float = field(default=0.0, init=False, repr=False)
    note: str = field(default="", init=False, repr=False)

    def think(self, cot: str, admission: str | None) -> str:
        raise ForeignOrganism("Nobody here knows what thoughts this organism was trained on; it is only evaluated.")
