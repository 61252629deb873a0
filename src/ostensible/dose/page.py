"""The plot and the page of a dose series, as strict as that of a run: escaped, no scripts, no fetch."""

import base64
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from ostensible.dose.results import Curve, DoseResults, Limit
from ostensible.report import plots, words
from ostensible.report.page import environment
from ostensible.tables import write_atomic

VIEWS = {"cot": "Thoughts", "answer": "Answer", "both": "Both"}
"""What a monitor is shown, in the order of the plot."""


def write(results: DoseResults, folder: Path) -> None:
    """Write `dose.png` and `dose.html`; runs are linked to by their folders. The same input gives the same bytes."""
    image = draw(results)
    write_atomic(folder / "dose.png", image)
    write_atomic(folder / "dose.html", render(results, image))


def render(results: DoseResults, image: bytes) -> str:
    """Make the page's HTML; see `write`."""
    template = environment({"limit": limit, "half": half}).from_string(
        (files("ostensible.dose") / "dose.html.jinja").read_text("utf-8")
    )
    return template.render(
        css=Markup((files("ostensible.report") / "page.css").read_text("utf-8")),
        results=results,
        views=VIEWS,
        by_view={view: [curve for curve in results.curves if curve.view == view] for view in VIEWS},
        pairs=lambda curve: list(zip(results.doses, curve.points, strict=True)),
        image=base64.b64encode(image).decode(),
    )


def draw(results: DoseResults) -> bytes:
    """Draw TPR against realised verbalisation, a panel a view and a curve a monitor."""
    subtitle = f"TPR at {results.target_fpr:.0%} FPR"
    return plots.curves(
        {
            title: (subtitle, {c.monitor: _dots(c, results) for c in results.curves if c.view == view})
            for view, title in VIEWS.items()
        },
        ("realised verbalisation", f"detected · bars: {results.level:.0%} intervals"),
    )


def limit(found: Limit) -> str:
    """A limit in words, such as `at 12%` or `above 98%`."""
    if found.value is None:
        return "not measured"
    return f"{found.relation} {words.percent(found.value)}"


def half(found: Limit) -> str:
    """The limit at one half, with its bounds where there are any."""
    low, high = ("–" if bound is None else words.percent(bound) for bound in (found.low, found.high))
    return limit(found) + (f" ({low} to {high})" if (found.low, found.high) != (None, None) else "")


def _dots(curve: Curve, results: DoseResults) -> list[plots.Dot]:
    """The curve's points in order of what was realised; those that were not measured are left out."""
    dots: list[plots.Dot] = []
    for dose, point in zip(results.doses, curve.points, strict=True):
        x, y = dose.verbalisation, point.tpr
        if y is None or None in (found := (x.low, x.rate, x.high, y.low, y.rate, y.high)):
            continue
        values = [float(value or 0.0) for value in found]
        dots.append(plots.Dot((values[0], values[1], values[2]), (values[3], values[4], values[5])))
    return sorted(dots, key=lambda dot: dot.x[1])
