"""Areas under ROC curves and thresholds, against published figures, other implementations and simulated truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from ostensible.analysis.roc import (
    MOST_POINTS,
    Operating,
    Side,
    area_difference,
    at_fpr,
    at_threshold,
    auroc,
    placements,
    roc_points,
    tpr_times_tnr,
)

LEVELS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def side(scores, prompts=None):
    scores = np.asarray(scores, dtype=float)
    return Side(scores, np.arange(len(scores)) if prompts is None else np.asarray(prompts))


@given(LEVELS, LEVELS)
def test_the_area_is_that_of_scikit_learn_and_of_mann_and_whitney_ties_included(positives, negatives):
    found = auroc(side(positives), side(negatives))
    truth = [1] * len(positives) + [0] * len(negatives)
    assert found.value == pytest.approx(roc_auc_score(truth, positives + negatives))
    u = mannwhitneyu(positives, negatives).statistic
    assert found.value == pytest.approx(u / (len(positives) * len(negatives)))
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1


@given(LEVELS, LEVELS)
def test_a_side_that_changes_places_with_the_other_mirrors_area_and_interval(positives, negatives):
    one, other = auroc(side(positives), side(negatives)), auroc(side(negatives), side(positives))
    assert (one.value, one.low, one.high) == pytest.approx((1 - other.value, 1 - other.high, 1 - other.low), abs=1e-6)


def test_the_published_area_of_ct_images_and_its_standard_error_come_back():
    # Hanley and McNeil (1982), Radiology 143:29, table II: 109 images rated 1 to 5; area 0.893, standard error 0.032.
    normal = side(np.repeat([1, 2, 3, 4, 5], [33, 6, 6, 11, 2]), 51 + np.arange(58))
    abnormal = side(np.repeat([1, 2, 3, 4, 5], [3, 2, 2, 11, 33]))
    found = auroc(abnormal, normal)
    assert found.value == pytest.approx(0.893, abs=5e-4)
    assert math.sqrt(found.influence @ found.influence) == pytest.approx(0.032, abs=2e-3)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.032, rel=0.05)


def test_the_variance_is_delongs_where_every_reply_is_a_prompt_of_its_own():
    rng = np.random.default_rng(3)
    positives, negatives = rng.normal(1, 1, 40), rng.normal(0, 2, 60)
    found = auroc(side(positives), side(negatives, 40 + np.arange(60)))
    wins = positives[:, None] > negatives[None, :]  # DeLong et al. (1988), written out
    delong = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 60
    assert found.influence @ found.influence == pytest.approx(delong, rel=0.03)
    above, below = placements(positives, negatives)
    np.testing.assert_allclose(above, wins.mean(axis=1))
    np.testing.assert_allclose(below, wins.mean(axis=0))


@pytest.mark.parametrize("n", [2, 20, 100])
def test_perfect_separation_keeps_an_interval_that_shrinks_with_prompts_and_not_with_copies(n):
    once = auroc(side([1.0] * n), side([0.0] * n))
    often = auroc(side([1.0] * 9 * n, np.repeat(np.arange(n), 9)), side([0.0] * 9 * n, np.repeat(np.arange(n), 9)))
    assert (once.value, once.high) == (1.0, 1.0)
    assert 1 - 4 / n < once.low < 1 - 1 / n  # 3.84 / 2n is what the exponential form gives in the limit
    assert often.low == pytest.approx(once.low)


def test_a_score_that_says_the_same_of_all_is_at_chance_with_an_interval_around_it():
    found = auroc(side([0.3] * 100), side([0.3] * 100))
    assert found.value == 0.5
    assert 0.45 < found.low < 0.49
    assert found.high == pytest.approx(1 - found.low)


def draws(rng, prompts, epochs, shift, *, shared, own):
    """Two sides of normal scores; replies to a prompt share a part, all of it (`shared`) or by side (`own`)."""
    of = np.repeat(np.arange(prompts), epochs)
    common = rng.normal(0, math.sqrt(shared), prompts)

    def one(mean):
        apart = rng.normal(0, math.sqrt(own), prompts)
        return Side(mean + common[of] + apart[of] + rng.normal(0, math.sqrt(1 - shared - own), len(of)), of)

    return one(shift), one(0.0)


@pytest.mark.parametrize("area", [0.5, 0.8, 0.97])
@pytest.mark.parametrize(("epochs", "shared", "own"), [(1, 0.0, 0.0), (1, 0.5, 0.0), (4, 0.0, 0.7)])
def test_intervals_of_the_area_cover_the_truth_as_often_as_they_say(area, epochs, shared, own):
    rng, inside = np.random.default_rng(11), 0
    for _ in range(300):
        found = auroc(*draws(rng, 60, epochs, math.sqrt(2) * norm.ppf(area), shared=shared, own=own))
        inside += found.low <= area <= found.high
    assert 0.92 <= inside / 300 <= (1.0 if area > 0.9 else 0.99)  # near 1 it has to hold 1 itself, and so is wide


def test_an_interval_that_took_replies_for_independent_would_be_too_narrow():
    rng = np.random.default_rng(5)
    positives, negatives = draws(rng, 100, 8, 1.0, shared=0.0, own=0.9)
    apart = auroc(side(positives.scores), side(negatives.scores, 800 + np.arange(800)))
    found = auroc(positives, negatives)
    assert found.high - found.low > 2 * (apart.high - apart.low)


def test_a_difference_of_areas_is_paired_by_prompt_as_a_bootstrap_over_prompts_has_it():
    rng, prompts = np.random.default_rng(7), 120
    easy = rng.normal(0, 1, prompts)
    scores = [easy + rng.normal(shift, 0.6, prompts) for shift in (1.2, 0.0, 0.6, 0.0)]
    first, second = (auroc(side(scores[i]), side(scores[i + 1])) for i in (0, 2))
    value, low, high = area_difference(first, second)
    again = []
    for _ in range(1500):
        chosen = rng.integers(0, prompts, prompts)
        areas = [placements(scores[i][chosen], scores[i + 1][chosen])[0].mean() for i in (0, 2)]
        again.append(areas[0] - areas[1])
    assert value == pytest.approx(first.value - second.value)
    assert (low, high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])), abs=0.03)
    same = area_difference(first, first)
    assert same == pytest.approx((0, 0, 0), abs=0.03)


def test_a_difference_of_two_perfect_areas_keeps_an_interval():
    perfect = auroc(side([1.0] * 50), side([0.0] * 50))
    value, low, high = area_difference(perfect, perfect)
    assert value == 0
    assert -0.1 < low < 0 < high < 0.1


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_the_threshold_is_the_lowest_score_that_keeps_false_positives_within_the_target(positives, negatives, target):
    found = at_fpr(side(positives), side(negatives), target)

    def fpr(bar):
        return sum(score >= bar for score in negatives) / len(negatives)

    allowed = [bar for bar in {*positives, *negatives} if fpr(bar) <= target + 1e-12]
    assert (found.threshold is None) is (not allowed)
    if allowed:  # between two scores any threshold does the same; the lowest is the one that no positive has a say in
        assert max([score for score in negatives if score < min(allowed)], default=-math.inf) < found.threshold
        assert found.threshold <= min(allowed)
        assert not any(found.threshold <= score < min(allowed) for score in [*positives, *negatives])
    bar = math.inf if found.threshold is None else found.threshold
    assert found.fpr.value == fpr(bar) <= target + 1e-12
    assert found.tpr.hits == sum(score >= bar for score in positives)


def test_replies_without_a_score_are_neither_flagged_nor_passed():
    found = at_threshold(side([0.9, math.nan, 0.1], [0, 1, 2]), side([0.2, math.nan], [0, 1]), 0.5)
    assert (found.tpr.hits, found.tpr.scored, found.tpr.unscored) == (1, 2, 1)
    assert (found.fpr.hits, found.fpr.scored, found.fpr.unscored) == (0, 1, 1)


def test_gmean2_is_the_product_and_its_interval_covers_the_truth():
    rng, inside = np.random.default_rng(2), 0
    for _ in range(300):
        positives, negatives = side(rng.random(80) < 0.8), side(rng.random(120) < 0.1)
        found = at_threshold(positives, negatives, 0.5)
        product = tpr_times_tnr(found)
        assert product.value == pytest.approx(found.tpr.value * (1 - found.fpr.value))
        inside += product.low <= 0.8 * 0.9 <= product.high
    assert 0.92 <= inside / 300 <= 0.985


@pytest.mark.parametrize(("positives", "negatives"), [([1] * 30, [0] * 30), ([0] * 30, [0] * 30), ([1] * 30, [1] * 30)])
def test_gmean2_keeps_an_interval_at_its_ends(positives, negatives):
    found: Operating = at_threshold(side(positives), side(negatives), 0.5)
    product = tpr_times_tnr(found)
    assert product.value in (0, 1)
    assert 0 < product.high - product.low < 0.25
    assert product.low <= product.value <= product.high


def test_a_long_curve_is_thinned_with_its_ends_and_its_area_kept():
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, 5000), rng.normal(0, 1, 5000)
    points = roc_points(positives, negatives)
    assert len(points) <= MOST_POINTS
    assert (points[0][:2], points[-1][:2]) == ((0.0, 0.0), (1.0, 1.0))
    assert points[0][2] is None
    x, y = [point[0] for point in points], [point[1] for point in points]
    assert np.trapezoid(y, x) == pytest.approx(auroc(side(positives), side(negatives)).value, abs=2e-3)


def test_where_training_has_flushed_denormals_a_threshold_above_0_still_flags_no_0():
    import torch

    torch.set_flush_denormal(True)
    found = at_fpr(side([0.0, 0.8, 0.0]), side([0.0] * 40), 0.01)
    assert (found.tpr.value, found.fpr.value) == (pytest.approx(1 / 3), 0.0)
    assert found.threshold is not None and 0 < found.threshold < 1e-300
