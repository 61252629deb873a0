"""ROC curves as paths of inline SVG, in percent of a square: they follow the page's colours and need no image."""

from collections.abc import Iterable
from typing import Protocol


class RocPoint(Protocol):
    """A point of a ROC curve."""

    @property
    def fpr(self) -> float:
        """False-positive rate, in [0, 1]."""
        ...

    @property
    def tpr(self) -> float:
        """True-positive rate, in [0, 1]."""
        ...


def path(points: Iterable[RocPoint]) -> str:
    """A curve from (0, 0) to (1, 1) as the `d` of an SVG path in a square of side 100, whose origin is at its foot."""
    places = [(0.0, 0.0), *sorted((point.fpr, point.tpr) for point in points), (1.0, 1.0)]
    return "M" + "L".join(f"{100 * x:.4g},{100 - 100 * y:.4g}" for x, y in dict.fromkeys(places))
