"""One self-contained HTML page for a whole sweep, as strict as that of a run: escaped, no scripts, no fetch."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ostensible.report import plots
from ostensible.report.page import environment
from ostensible.sweep import summary
from ostensible.sweep.plan import Bound, Criteria, Plan, label
from ostensible.sweep.summary import MEASURES, Outcome
from ostensible.tables import write_atomic

RUNS_A_PLOT = 40
COLOURS = {"asr": plots.TRIGGERED, "ftr": plots.CONTROL, "near_miss_ftr": plots.LOOK_ALIKE}
NAMES = {"asr": "ASR", "ftr": "FTR", "near_miss_ftr": "Near-miss FTR"}


def write(plan: Plan, outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the page; runs are linked to by their folders beside it. The same input gives the same bytes.

    Args:
        plan: The sweep.
        outcomes: What came of each of its runs, in its order.
        path: The HTML file.
    """
    write_atomic(path, render(plan, outcomes))


def render(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Make the page's HTML; see `write`."""
    template = environment({"label": label}).get_template("sweep/sweep.html.jinja")
    links = {outcome.run.name: f"{outcome.run.name}/report.html" for outcome in outcomes}
    return template.render(
        plan=plan,
        failed=[outcome for outcome in outcomes if outcome.status == "failed"],
        criteria=[f"{NAMES[name]} {_bound(bound)}" for name, bound in plan.criteria.named().items()],
        **shown(outcomes, plan.criteria, links),
    )


def shown(outcomes: Sequence[Outcome], criteria: Criteria, links: Mapping[str, str]) -> dict[str, Any]:
    """What the parts that pages of several runs share are made from.

    Args:
        outcomes: Of every run.
        criteria: When a run is what was wanted.
        links: From the page to each run's own, by the run's name.
    """
    done = [outcome for outcome in outcomes if outcome.results]
    return {
        "css": Markup((files("ostensible.report") / "page.css").read_text("utf-8")),
        "outcomes": outcomes,
        "done": done,
        "links": links,
        "groups": summary.across_seeds(outcomes, criteria),
        "measures": {name: (title, MEASURES[name]) for name, title in NAMES.items()},
        "rate": summary.rate,
        "level": done[0].results.level if done and done[0].results else 0.95,
        "stages": list(dict.fromkeys(stage for o in done if o.results for stage in o.results.timings_s)),
        "images": [base64.b64encode(image).decode() for image in _plots(done)],
    }


def _plots(done: Sequence[Outcome]) -> Iterator[bytes]:
    """Dot plots of some runs each, so that none grows beyond what a browser shows."""
    for start in range(0, len(done), RUNS_A_PLOT):
        yield plots.compare({NAMES[name]: _panel(done[start : start + RUNS_A_PLOT], name) for name in MEASURES})


def _panel(outcomes: Sequence[Outcome], measure: str) -> tuple[str, list[plots.Row]]:
    rows = [
        plots.Row(plots.shortened(_name(outcome)), summary.rate(outcome.results, measure), COLOURS[measure])
        for outcome in outcomes
        if outcome.results
    ]
    return {"asr": "triggered", "ftr": "not triggered", "near_miss_ftr": "look-alikes"}[measure], rows


def _name(outcome: Outcome) -> str:
    return ", ".join(map(str, outcome.run.varies.values())) or outcome.run.name


def _bound(bound: Bound) -> str:
    given: Mapping[str, float] = bound.model_dump(exclude_defaults=True)
    return " and ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in given.items()) or "known"
