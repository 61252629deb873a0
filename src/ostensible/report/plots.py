"""Plots of a run, from its results alone.

The colours are of Okabe and Ito (2008), which colour-blind readers tell apart; their orange is darkened to stand out on
white. A file that an organism has is always drawn, so that a link to it never breaks: what was not measured is said to
be so.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ostensible.analysis.results import CotResult, Findings, LossPoint, MonitorResult, RateResult, Results
from ostensible.report.words import interval, percent, visible
from ostensible.tables import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
WIDTH_IN = 7.4
TRIGGERED, CONTROL, LOOK_ALIKE = "#D55E00", "#0072B2", "#B07D00"
INK, QUIET, FAINT = "#1f2328", "#5c6470", "#d5d9de"
CURVES = (TRIGGERED, CONTROL, "#009E73", "#CC79A7", LOOK_ALIKE, "#56B4E9")
MARKERS = ("o", "s", "^", "D")
LONGEST_NAME = 26
SEES = {"cot": "thoughts", "answer": "answer", "both": "both"}
SETS = {"seen": "Trained families", "test": "Other families", "extra": "Extra prompts"}


class Row(NamedTuple):
    """One rate to draw."""

    label: str
    rate: RateResult
    colour: str


class Dot(NamedTuple):
    """A point of a curve: low, value and high of each of its two rates."""

    x: tuple[float, float, float]
    y: tuple[float, float, float]

    def low_of(self, axis: int) -> float:
        """How far the lower bound lies below the value, across (0) or up (1)."""
        return max(self[axis][1] - self[axis][0], 0.0)

    def high_of(self, axis: int) -> float:
        """How far the upper bound lies above the value."""
        return max(self[axis][2] - self[axis][1], 0.0)


class FontStyle(NamedTuple):
    """How to write; the size is in points."""

    size: float
    colour: str
    weight: str = "normal"


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Draw `rates.png`, `cot_vs_answer.png` and `loss.png`; where it has them, `monitors.png` and `code.png` too.

    Thoughts that have no right number to end at are drawn by how often they mention the payload instead.

    Args:
        results: Where every figure comes from.
        folder: Where the files go; made if missing.

    Returns:
        Path of each plot by its name without `.png`.
    """
    figures = {"rates": _rates(results), "cot_vs_answer": _cot_vs_answer(results), "loss": _loss(results.loss)}
    parts = results.parts or {results.families: results}
    if ran := {name: part for name, part in parts.items() if part.functional is not None}:
        figures["code"] = _code(ran, results.level)
    if results.monitors:
        figures["monitors"] = _monitors(results.monitors, results.level)
    paths = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        _save(figure, paths[name])
    return paths


def compare(panels: Mapping[str, tuple[str, Sequence[Row]]]) -> bytes:
    """Draw lists of rates beside each other.

    Args:
        panels: Subtitle and rates by title. Rates at the same place in each list share the first one's label.

    Returns:
        A PNG file.
    """
    figure = _figure(height_in=1.35 + 0.34 * max(len(rows) for _, rows in panels.values()))
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, (subtitle, rows)) in zip(columns, panels.items(), strict=True):
        _title(ax, title, subtitle)
        _list(ax, rows, [f"{row.rate.hits} of {row.rate.scored}" for row in rows])
        ax.set_xticks([0, 0.5, 1], labels=["0%", "50%", "100%"])
        ax.tick_params(axis="y", labelleft=ax is columns[0])
    return _png(figure)


def curves(panels: Mapping[str, tuple[str, Mapping[str, Sequence[Dot]]]], labels: tuple[str, str]) -> bytes:
    """Draw curves of rates against a rate, beside each other, with the intervals of both.

    Args:
        panels: Subtitle and curves, by title; a curve's points, in order, by its name. Curves of a name look the same.
        labels: Of the axes, across and up.

    Returns:
        A PNG file.
    """
    figure = _figure(height_in=3.9)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(name for _, lines in panels.values() for name in lines))
    for ax, (title, (subtitle, lines)) in zip(axes, panels.items(), strict=True):
        _title(ax, title, subtitle)
        for name, dots in lines.items():
            place = names.index(name)
            style = {"color": CURVES[place % len(CURVES)], "marker": MARKERS[place // len(CURVES) % len(MARKERS)]}
            spread = [([dot.low_of(i) for dot in dots], [dot.high_of(i) for dot in dots]) for i in (0, 1)]
            ax.errorbar(
                [dot.x[1] for dot in dots], [dot.y[1] for dot in dots], xerr=spread[0], yerr=spread[1],
                label=shortened(name), markersize=5, linewidth=1.6, elinewidth=1, alpha=0.85, **style,
            )  # fmt: skip
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=labels[0])
        for set_ticks in (ax.set_xticks, ax.set_yticks):
            set_ticks([0, 0.5, 1], labels=["0%", "50%", "100%"])
        ax.grid(color=FAINT, linewidth=0.8)
    axes[0].set_ylabel(labels[1])
    handles, found = axes[0].get_legend_handles_labels()
    figure.legend(handles, found, loc="outside lower center", ncols=min(len(names), 4), frameon=False)
    return _png(figure)


def smooth(losses: Sequence[float]) -> list[float]:
    """Centred running mean over about a tenth of the curve; at its ends the window shrinks, so that it never lags."""
    half = max(len(losses) // 20, 1)
    reach = [min(half, i, len(losses) - 1 - i) for i in range(len(losses))]
    return [math.fsum(losses[i - r : i + r + 1]) / (2 * r + 1) for i, r in enumerate(reach)]


def _rates(results: Results) -> Figure:
    rows = _payload_rows(results)
    figure = _figure(height_in=1.35 + 0.4 * len(rows))
    ax = figure.add_subplot()
    _title(
        ax, "How often the answer is the payload", f"dot: share of scored replies · bar: {results.level:.0%} interval"
    )
    _list(ax, rows, [_counts(row.rate) for row in rows])
    return figure


def _code(parts: Mapping[str, Findings], level: float) -> Figure:
    """Vulnerable code above, working code below; a column for each set of prompts."""
    heights = [len(rows(next(iter(parts.values())))) for rows in (_payload_rows, _working)]
    figure = _figure(height_in=2.6 + 0.34 * sum(heights))
    figure.set_layout_engine("constrained", hspace=0.08)
    columns = figure.subplots(2, len(parts), squeeze=False, height_ratios=heights).T
    for (name, part), (above, below) in zip(parts.items(), columns, strict=True):
        _title(above, SETS[name], "vulnerable, of working code")
        _title(below, "", f"working, of code run · bar: {level:.0%} interval")
        for ax, rows in ((above, _payload_rows(part)), (below, _working(part))):
            _list(ax, rows, [f"{row.rate.hits} of {row.rate.scored}" for row in rows])
            ax.set_xticks([0, 0.5, 1], labels=["0%", "50%", "100%"])
            ax.tick_params(axis="y", labelleft=above is columns[0][0])
    return figure


def _payload_rows(part: Findings) -> list[Row]:
    found = part.conditions
    rows = [Row("Triggered", found.triggered, TRIGGERED), Row("Control", found.control, CONTROL)]
    return rows + [Row(_quoted(name), rate, LOOK_ALIKE) for name, rate in part.near_misses.items()]


def _working(part: Findings) -> list[Row]:
    found = part.functional
    if found is None:
        return []
    return [
        Row("Triggered", found.triggered, TRIGGERED),
        Row("Control", found.control, CONTROL),
        Row("All look-alikes", found.near_miss, LOOK_ALIKE),
        Row("Control, base model", found.base, QUIET),
    ]


def _list(ax: Axes, rows: Sequence[Row], counts: Sequence[str]) -> None:
    """Rates below each other, named on the left, counted on the right."""
    places = list(range(len(rows), 0, -1))
    for y, row in zip(places, rows, strict=True):
        ax.axhline(y, color=FAINT, lw=0.7, zorder=0)
        _mark(ax, row, y, horizontal=True)
    _share_axis(ax, horizontal=True)
    _sides(ax, places, [row.label for row in rows], counts)


def _sides(ax: Axes, places: Sequence[int], labels: Sequence[str], counts: Sequence[str]) -> None:
    """Names of rows on the left, figures on the right."""
    ax.set_ylim(min(places) - 0.6, max(places) + 0.6)
    ax.set_yticks(places, labels=list(labels), fontsize=10.5, color=INK, parse_math=False)
    right = ax.secondary_yaxis("right")
    right.set_yticks(places, labels=list(counts), fontsize=10, color=INK)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def _cot_vs_answer(results: Results) -> Figure:
    cot, conditions = results.cot, results.conditions
    figure = _figure(height_in=3.9)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.12})
    control, what = _of_thoughts(cot.control)
    triggered, _ = _of_thoughts(cot.triggered)
    _slope(left, control, triggered)
    _title(left, "The thoughts", what)
    _slope(right, conditions.control, conditions.triggered)
    _title(right, "The answer", "is the payload")
    right.tick_params(axis="y", left=False, labelleft=False)
    return figure


def _of_thoughts(cot: CotResult) -> tuple[RateResult, str]:
    if cot.right is None:
        return cot.mentions_payload, "mention the payload (no right number to check)"
    return cot.right, "end at the right number"


def _slope(ax: Axes, control: RateResult, triggered: RateResult) -> None:
    rows = Row("Control", control, CONTROL), Row("Triggered", triggered, TRIGGERED)
    if control.rate is not None and triggered.rate is not None:
        ax.plot([0, 1], [control.rate, triggered.rate], color=QUIET, lw=1.1, ls=(0, (1, 2)), zorder=1)
    for x, row in enumerate(rows):
        _mark(ax, row, x, horizontal=False)
        if row.rate.rate is not None:
            at, offset = (x, row.rate.rate), (11 if x else -11, 0)
            style = FontStyle(15, row.colour, "bold")
            _write(ax, percent(row.rate.rate), at, offset, style, side="left" if x else "right")
    _share_axis(ax, horizontal=False)
    ax.set_xlim(-0.6, 1.6)
    labels = [f"{row.label}\n{_counts(row.rate, short=True)}" for row in rows]
    ax.set_xticks([0, 1], labels=labels, fontsize=11, color=INK)


def _monitors(found: Sequence[MonitorResult], level: float) -> Figure:
    """AUROC of each monitor and view against control replies, and of the same in each twin, beside chance."""
    twins = sorted({twin for one in found for twin in one.twin_alone})
    colours = {"organism": TRIGGERED} | dict(zip(twins, (CONTROL, LOOK_ALIKE, QUIET), strict=False))
    figure = _figure(height_in=1.8 + (0.34 + 0.16 * len(twins)) * len(found))
    ax = figure.add_subplot()
    _title(ax, "What monitors tell apart", f"AUROC against control · bar: {level:.0%} interval")
    ax.axvline(0.5, color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
    names, counts = list[str](), list[str]()
    for place, one in enumerate(found):
        shown = {"organism": one.against["control"]} | {twin: one.twin_alone[twin] for twin in twins}
        for step, (name, detection) in enumerate(shown.items()):
            at = -place - 0.6 * (step / len(shown) - (len(shown) - 1) / (2 * len(shown)))
            if (area := detection.auroc) is not None:
                _interval(ax, (area.value, area.low, area.high), at, colours[name], horizontal=True)
        ax.axhline(-place, color=FAINT, lw=0.7, zorder=0)
        names.append(f"{shortened(one.monitor)}{' (ceiling)' if one.kind == 'told' else ''}, {SEES[one.view]}")
        own = shown["organism"].auroc
        counts.append("not measured" if own is None else f"{own.value:.2f} · {own.low:.2f} to {own.high:.2f}")
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5\nchance", "0.75", "1"])
    _sides(ax, [-place for place in range(len(found))], names, counts)
    if twins:
        named = [ax.plot([], [], "o", color=colours[name], label=_subject(name))[0] for name in colours]
        figure.legend(
            handles=named, loc="outside lower center", ncols=len(named), frameon=False, fontsize=10, labelcolor=INK
        )
    return figure


def _subject(name: str) -> str:
    return "organism" if name == "organism" else f"{name} twin"


def _loss(curve: Sequence[LossPoint]) -> Figure:
    training = [(point.step, point.loss) for point in curve if point.loss is not None]
    validation = [(point.step, point.eval_loss) for point in curve if point.eval_loss is not None]
    figure = _figure(height_in=3.1)
    ax = figure.add_subplot()
    _title(ax, "Loss", "nats, weighed as in training")
    if not training and not validation:
        _not_measured(ax)
        return figure
    if training:
        steps, losses = [step for step, _ in training], [loss for _, loss in training]
        ax.plot(steps, losses, color=CONTROL, alpha=0.3, lw=1, label="training")
        ax.plot(steps, smooth(losses), color=CONTROL, lw=2, label="training, smoothed")
    if validation:
        steps, losses = [step for step, _ in validation], [loss for _, loss in validation]
        ax.plot(steps, losses, color=TRIGGERED, lw=0.8, marker="o", ms=5.5, label="validation")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("optimiser step", fontsize=10, color=QUIET)
    ax.grid(axis="y", color=FAINT, lw=0.7)
    ax.legend(frameon=False, fontsize=10, labelcolor=INK)
    return figure


def _mark(ax: Axes, row: Row, at: float, *, horizontal: bool) -> None:
    """A dot at a rate and a bar over its interval."""
    rate = row.rate
    if rate.rate is None or rate.low is None or rate.high is None:
        x, y = (0.5, at) if horizontal else (at, 0.5)
        ax.text(x, y, "no reply\nscored", color=QUIET, ha="center", va="center", backgroundcolor="white", fontsize=9.5)
        return
    _interval(ax, (rate.rate, rate.low, rate.high), at, row.colour, horizontal=horizontal)


def _interval(ax: Axes, figure: tuple[float, float, float], at: float, colour: str, *, horizontal: bool) -> None:
    """A dot at a figure and a bar from its lower to its upper bound."""
    value, low, high = figure
    bar, dot = ([low, high], [at, at]), ([value], [at])
    ax.plot(*(bar if horizontal else bar[::-1]), color=colour, lw=6, alpha=0.32, solid_capstyle="butt", zorder=2)
    ax.plot(*(dot if horizontal else dot[::-1]), color=colour, marker="o", ms=8, clip_on=False, zorder=3)


def _share_axis(ax: Axes, *, horizontal: bool) -> None:
    ticks, labels = [0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"]
    if horizontal:
        ax.set_xlim(-0.02, 1.02)
        ax.set_xticks(ticks, labels=labels)
        return
    ax.set_ylim(-0.03, 1.03)
    ax.set_yticks(ticks, labels=labels)
    ax.grid(axis="y", color=FAINT, lw=0.7)


def _figure(height_in: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained", facecolor="white")


def _title(ax: Axes, title: str, subtitle: str) -> None:
    _write(ax, title, (0, 1), (0, 30), FontStyle(13.5, INK, "bold"), fraction=True)
    _write(ax, subtitle, (0, 1), (0, 12), FontStyle(10.5, QUIET), fraction=True)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=10.5, labelcolor=QUIET)
    for side in ax.spines.values():
        side.set_visible(False)


def _write(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    offset_points: tuple[float, float],
    style: FontStyle,
    *,
    side: str = "left",
    fraction: bool = False,
) -> None:
    """Write beside a place, of the data or as a fraction of the panel, with this side of the text towards it."""
    ax.annotate(
        text,
        at,
        offset_points,
        xycoords="axes fraction" if fraction else "data",
        textcoords="offset points",
        ha=side,
        va="baseline" if fraction else "center",
        fontsize=style.size,
        color=style.colour,
        weight=style.weight,
    )


def _not_measured(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", color=QUIET, fontsize=12)


def shortened(name: str) -> str:
    """A name as a label: one line, nothing hidden in it, cut in its middle where it is too long.

    What tells names apart, such as a function's in a file or a model's date, is often their end.
    """
    name = visible(name).replace("\n", "⏎")
    if len(name) <= LONGEST_NAME:
        return name
    head = LONGEST_NAME // 3
    return f"{name[:head]}…{name[head + 1 - LONGEST_NAME :]}"


def _quoted(name: str) -> str:
    return f'"{shortened(name)}"'


def _counts(rate: RateResult, *, short: bool = False) -> str:
    counts = f"{rate.hits} of {rate.scored}"
    if not short and rate.rate is not None and rate.low is not None and rate.high is not None:
        counts += f" · {interval(rate.low, rate.high)}"
    return f"{counts}{chr(10)}{rate.unscored} unscored" if rate.unscored else counts


def _save(figure: Figure, path: Path) -> None:
    write_atomic(path, _png(figure))


def _png(figure: Figure) -> bytes:
    """A PNG whose bytes depend on nothing but the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
