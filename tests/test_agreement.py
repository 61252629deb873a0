"""Agreement of two oracles: published examples, the usual interval, clusters, and what cannot be said."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from ostensible.analysis.agreement import CONSTANT, NO_PAIRS, NO_SPREAD, agreement


def of_table(both, first_only, second_only, neither, **options):
    """Agreement of a fourfold table, one reply a prompt."""
    cells = [((True, True), both), ((True, False), first_only), ((False, True), second_only), ((False, False), neither)]
    pairs = [pair for pair, count in cells for _ in range(count)]
    first, second = zip(*pairs, strict=True)
    return agreement(first, second, [str(i) for i in range(len(pairs))], **options)


@pytest.mark.parametrize(("table", "kappa"), [((40, 9, 6, 45), 0.70), ((80, 10, 5, 5), 0.32)])
def test_kappa_is_that_of_the_published_examples(table, kappa):
    # Feinstein and Cicchetti (1990), "High agreement but low kappa: I": both tables agree in 85 of 100.
    found = of_table(*table)
    assert found.raw == pytest.approx(0.85)
    assert found.kappa == pytest.approx(kappa, abs=0.005)


def test_agreement_on_yes_and_on_no_are_told_apart():
    # 2a / (2a + b + c) and 2d / (2d + b + c) of the second of those tables, by hand.
    found = of_table(80, 10, 5, 5)
    assert (found.positive, found.negative) == (pytest.approx(160 / 175), pytest.approx(10 / 25))


TABLES = st.tuples(*[st.integers(min_value=1, max_value=60)] * 4)


@given(TABLES)
@settings(max_examples=30)
def test_kappa_is_statsmodels_kappa(table):
    both, first_only, second_only, neither = table
    usual = cohens_kappa([[both, first_only], [second_only, neither]])
    assert of_table(*table).kappa == pytest.approx(usual.kappa, abs=1e-12)


@pytest.mark.parametrize("table", [(400, 90, 60, 450), (1600, 200, 100, 100), (300, 300, 300, 310)])
def test_with_one_reply_a_prompt_and_many_prompts_the_interval_is_the_usual_one(table):
    both, first_only, second_only, neither = table
    usual = cohens_kappa([[both, first_only], [second_only, neither]])
    found = of_table(*table)
    # Half a reply in each cell moves the centre by 2 / (n + 2) of kappa at most.
    assert (found.low, found.high) == pytest.approx((usual.kappa_low, usual.kappa_upp), abs=2 / sum(table))


@pytest.mark.parametrize(("share", "tpr", "fpr", "kappa"), [(0.1, 0.6, 0.05, 0.538), (0.5, 0.9, 0.1, 0.8)])
def test_intervals_hold_the_true_kappa_where_a_cell_has_few_replies(share, tpr, fpr, kappa):
    # Kappa by hand: with share 0.1 both say yes in 6 of 100, one alone in 4 and 4.5; with 0.5, 90 of 100 agree.
    rng, held, known = np.random.default_rng(2), 0, 0
    for _ in range(400):
        first = rng.random(50) < share
        second = rng.random(50) < np.where(first, tpr, fpr)
        found = agreement(first.tolist(), second.tolist(), [str(i) for i in range(50)])
        if found.low is not None:
            known += 1
            held += found.low <= kappa <= found.high
    assert 0.92 <= held / known <= 0.99


def test_copies_of_replies_narrow_nothing():
    # Ten copies of each reply, all of its prompt, tell no more than the reply itself.
    rng = np.random.default_rng(0)
    first = [bool(x) for x in rng.random(60) < 0.5]
    second = [a if x < 0.8 else not a for a, x in zip(first, rng.random(60), strict=True)]
    prompts = [str(i) for i in range(60)]
    once, copied = agreement(first, second, prompts), agreement(first * 10, second * 10, prompts * 10)
    assert copied.pairs == 10 * once.pairs
    assert (copied.kappa, copied.low, copied.high) == pytest.approx((once.kappa, once.low, once.high))


def test_intervals_hold_the_true_kappa_where_replies_to_a_prompt_resemble_each_other():
    # The second oracle is right or wrong of a whole prompt of five replies: kappa is 1 - 2 * 0.2 = 0.6 by construction.
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        first = rng.random((40, 5)) < 0.5
        second = first ^ (rng.random((40, 1)) < 0.2)
        prompts = [str(i) for i in range(40) for _ in range(5)]
        found = agreement(first.ravel().tolist(), second.ravel().tolist(), prompts)
        held += found.low <= 0.6 <= found.high
    assert 0.90 <= held / 400 <= 0.985


def test_replies_without_a_verdict_of_both_are_left_out():
    found = agreement([True, None, False, True], [True, True, None, False], list("abcd"))
    assert (found.pairs, found.both, found.first_only) == (2, 1, 1)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([], [], NO_PAIRS),
        ([None, True], [True, None], NO_PAIRS),
        ([True, True], [True, False], CONSTANT),
        ([True, True], [True, True], CONSTANT),
        ([False, False], [True, True], CONSTANT),
    ],
)
def test_where_kappa_says_nothing_it_is_null_with_a_reason(first, second, reason):
    found = agreement(first, second, [str(i) for i in range(len(first))])
    assert (found.kappa, found.low, found.high, found.reason) == (None, None, None, reason)


@pytest.mark.parametrize("prompts", [list("abcd"), list("aaaa")])
def test_perfect_agreement_or_a_single_prompt_has_no_interval_of_no_width(prompts):
    found = agreement([True, False, True, False], [True, False, True, False], prompts)
    assert found.kappa == 1.0
    assert (found.low, found.high, found.reason) == (None, None, NO_SPREAD)


VERDICTS = st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 2, st.sampled_from("abc")), max_size=30)


@given(VERDICTS)
@settings(max_examples=200)
def test_any_verdicts_give_figures_within_their_ranges(rows):
    found = agreement([a for a, _, _ in rows], [b for _, b, _ in rows], [p for _, _, p in rows])
    assert found.pairs == sum(a is not None and b is not None for a, b, _ in rows)
    for share in (found.raw, found.positive, found.negative):
        assert share is None or 0 <= share <= 1
    assert (found.kappa is None or found.low is None) == bool(found.reason)
    if found.low is not None:
        assert -1 <= found.low <= found.kappa <= found.high <= 1
        assert not math.isnan(found.low + found.high)
