"""Sample sizes against simulated studies: what is planned for is seen as often as was asked."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from ostensible.analysis.contrasts import paired_difference
from ostensible.analysis.power import auroc_size, difference_size, needs, plan, rate_size, tpr_size
from ostensible.analysis.rates import clustered_rate
from ostensible.errors import BadSettings
from ostensible.truth import Truth
from ostensible.types import Condition

STUDIES = 300
SLACK = 3 * math.sqrt(0.8 * 0.2 / STUDIES)


@pytest.mark.parametrize(("samples", "icc"), [(1, 0.0), (3, 0.3)])
def test_a_planned_rate_has_an_interval_as_narrow_as_planned(samples, icc):
    (need,) = needs(rate_size(0.3, 0.08), icc=icc, samples_per_prompt=[samples])
    widths = []
    for seed in range(STUDIES):
        rows = Truth(asr=0.3, icc=icc, seed=seed).verdicts(Condition.TRIGGERED, need.prompts, samples)
        found = clustered_rate([hit for _, hit in rows], [prompt for prompt, _ in rows])
        widths.append((found.high - found.low) / 2)
    assert np.mean(widths) == pytest.approx(0.08, abs=0.004)


@pytest.mark.parametrize(("baseline", "effect", "samples"), [(0.05, 0.15, 1), (0.3, 0.2, 1), (0.3, 0.2, 3)])
def test_a_planned_trigger_effect_is_found_as_often_as_planned(baseline, effect, samples):
    # Replies are independent, so that the plan is exact but for its approximations.
    (need,) = needs(difference_size(baseline, effect), icc=0.0, samples_per_prompt=[samples])
    found = 0
    for seed in range(STUDIES):
        truth = Truth(asr=baseline + effect, ftr=baseline, seed=seed)
        sides = [truth.verdicts(one, need.prompts, samples) for one in (Condition.TRIGGERED, Condition.CONTROL)]
        found += paired_difference(*sides).low > 0
    assert found / STUDIES == pytest.approx(0.8, abs=SLACK + 0.03)


def test_where_prompts_fire_alike_under_both_conditions_a_plan_errs_on_the_safe_side():
    (need,) = needs(difference_size(0.3, 0.2), icc=0.3, samples_per_prompt=[3])
    found = 0
    for seed in range(STUDIES):
        truth = Truth(asr=0.5, ftr=0.3, icc=0.3, seed=seed)
        sides = [truth.verdicts(one, need.prompts, 3) for one in (Condition.TRIGGERED, Condition.CONTROL)]
        found += paired_difference(*sides).low > 0
    assert found / STUDIES > 0.8 - SLACK


def test_a_planned_auroc_is_told_from_chance_as_often_as_planned():
    # Normal scores d apart have the area Phi(d / sqrt 2); the test is Mann and Whitney's.
    n, rng = math.ceil(auroc_size(0.5, 0.15)), np.random.default_rng(0)
    apart = math.sqrt(2) * NormalDist().inv_cdf(0.65)
    found = [mannwhitneyu(rng.normal(apart, 1, n), rng.normal(0, 1, n)).pvalue < 0.05 for _ in range(STUDIES)]
    assert np.mean(found) == pytest.approx(0.8, abs=SLACK + 0.03)


@pytest.mark.parametrize(("fpr", "tpr", "effect"), [(0.05, 0.5, 0.2), (0.1, 0.7, 0.2)])
def test_a_planned_tpr_is_told_from_its_baseline_as_often_as_planned(fpr, tpr, effect):
    n, rng = math.ceil(tpr_size(fpr, effect, baseline=tpr)), np.random.default_rng(0)

    def studies(true_tpr):
        apart = NormalDist().inv_cdf(true_tpr) - NormalDist().inv_cdf(fpr)
        bars = np.quantile(rng.normal(size=(2000, n)), 1 - fpr, axis=1)
        return (rng.normal(apart, 1, (2000, n)) > bars[:, None]).mean(axis=1)

    beyond = np.quantile(studies(tpr), 0.975)  # the bar of an exact test, found by simulation
    assert (studies(tpr + effect) > beyond).mean() == pytest.approx(0.8, abs=0.07)


@given(st.floats(0.0, 1.0), st.integers(1, 20), st.floats(1, 1000))
def test_more_replies_a_prompt_save_prompts_and_never_replies(icc, samples, effective):
    one, many = needs(effective, icc=icc, samples_per_prompt=[1, samples])
    assert many.prompts <= one.prompts
    assert many.replies >= one.replies
    assert many.replies == many.prompts * samples


def test_larger_effects_narrower_intervals_and_more_power_cost_what_they_must():
    assert difference_size(0.1, 0.1) > difference_size(0.1, 0.2)
    assert difference_size(0.1, 0.1, power=0.9) > difference_size(0.1, 0.1)
    assert rate_size(0.5, 0.02) > rate_size(0.5, 0.04) > rate_size(0.05, 0.04)
    assert auroc_size(0.5, 0.1) > auroc_size(0.5, 0.3)
    assert tpr_size(0.01, 0.9) == pytest.approx(100)


def test_wilson_s_half_width_is_that_of_the_published_interval():
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    assert rate_size(81 / 263, (0.3662 - 0.2553) / 2) == pytest.approx(263, rel=0.005)


@pytest.mark.parametrize(
    ("quantity", "options", "told"),
    [("rate", {"half_width": 0.6}, "half-width is 0.6"), ("difference", {"baseline": 0.95}, "effect is 0.1"),
     ("tpr", {"fpr": 0}, "FPR is 0"), ("auroc", {"baseline": 0.4}, "0.5, which is chance"),
     ("auroc", {"power": 1.0}, "power is 1"), ("rate", {"alpha": 0}, "alpha is 0"),
     ("rate", {"effect": 0.1}, "not depend on effect.*: leave that out.*half-width"),
     ("tpr", {"half_width": 0.05}, "not depend on half-width"), ("auroc", {"fpr": 0.01}, "not depend on fpr")],
)  # fmt: skip
def test_impossible_plans_say_which_value_has_to_change(quantity, options, told):
    with pytest.raises(BadSettings, match=told):
        plan(quantity, **options)


def test_the_command_prints_a_row_for_each_number_of_samples(capsys):
    from ostensible.cli import app

    with pytest.raises(SystemExit) as done:
        app(["power", "difference", "--baseline", "0.02", "--icc", "0.2", "--samples-per-prompt", "1", "--samples-per-prompt", "4"])  # fmt: skip  # noqa: E501
    assert not done.value.code
    told = capsys.readouterr().out.splitlines()
    assert "ASR of 0.12 over an FTR of 0.02" in told[0]
    assert [line.split()[:2] for line in told[2:]] == [["1", "1.00"], ["4", "1.60"]]
