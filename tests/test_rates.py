"""Intervals against published figures and simulated truth."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostensible.analysis.contrasts import correlation, difference_of_differences, paired_difference
from ostensible.analysis.rates import clustered_rate, design_effect
from ostensible.errors import NoScoredSamples
from ostensible.truth import Truth
from ostensible.types import Condition


def rate(hits, level=0.95):
    return clustered_rate(hits, [str(i) for i in range(len(hits))], level=level)


def test_unscored_replies_are_not_misses():
    found = rate([True, None, None])
    assert (found.value, found.n, found.scored, found.unscored) == (1.0, 3, 1, 2)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3 (Wilson's score interval).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_one_reply_a_prompt_gives_wilsons_published_interval(hits, n, low, high):
    found = rate([True] * hits + [False] * (n - hits))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_nothing_scored_is_an_error_that_names_the_knob():
    with pytest.raises(NoScoredSamples, match=r"None of the 2 replies.*--max-new-tokens"):
        rate([None, None])


def test_replies_that_repeat_their_prompt_add_nothing():
    hits = [True, False, True, True, False, False, True, False]
    once = rate(hits)
    thrice = clustered_rate(hits * 3, [str(i) for i in range(8)] * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=0.02)


def test_without_a_single_hit_prompts_count_and_not_replies():
    once = rate([False] * 50)
    four_times = clustered_rate([False] * 200, [str(i % 50) for i in range(200)])
    assert four_times.high == pytest.approx(once.high)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=20))
def test_intervals_hold_their_estimate_and_stay_in_range(clusters):
    hits = [hit for cluster in clusters for hit in cluster]
    prompts = [str(i) for i, cluster in enumerate(clusters) for _ in cluster]
    found = clustered_rate(hits, prompts)
    assert -1e-12 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1 + 1e-12
    assert 1 <= design_effect(clusters) <= len(hits) / len(clusters)


def test_independent_replies_have_a_design_effect_near_one_and_identical_ones_their_number():
    rng = Random(0)
    independent = [[rng.random() < 0.4 for _ in range(4)] for _ in range(2000)]
    identical = [[rng.random() < 0.4] * 4 for _ in range(2000)]
    assert design_effect(independent) == pytest.approx(1, abs=0.1)
    assert design_effect(identical) == pytest.approx(4, abs=0.01)


def test_clustered_intervals_cover_the_truth_as_often_as_they_say():
    # 60 prompts of 4 replies, each prompt with its own rate drawn from Beta(2, 3): the mean is 0.4.
    rng, inside = Random(1), 0
    for _ in range(400):
        shares = [rng.betavariate(2, 3) for _ in range(60)]
        hits = [rng.random() < share for share in shares for _ in range(4)]
        found = clustered_rate(hits, [str(i // 4) for i in range(240)])
        inside += found.low <= 0.4 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


@pytest.mark.parametrize(("rate", "prompts", "samples", "icc"), [(0.05, 50, 5, 0.5), (0.01, 200, 3, 0.5)])
def test_where_hits_are_few_and_come_in_clusters_intervals_do_not_fall_short(rate, prompts, samples, icc):
    # Without the two half prompts of the design effect, 91% of these hold the truth.
    held = 0
    for seed in range(300):
        rows = Truth(asr=rate, icc=icc, seed=seed).verdicts(Condition.TRIGGERED, prompts, samples)
        found = clustered_rate([hit for _, hit in rows], [prompt for prompt, _ in rows])
        held += found.low <= rate <= found.high
    assert held / 300 >= 0.94


def paired(both, first_only, second_only, neither):
    rows = [(True, True)] * both + [(True, False)] * first_only + [(False, True)] * second_only
    rows += [(False, False)] * neither
    first = [(str(i), a) for i, (a, _) in enumerate(rows)]
    second = [(str(i), b) for i, (_, b) in enumerate(rows)]
    return paired_difference(first, second)


def test_a_paired_difference_has_newcombes_published_interval():
    # Bentur et al. (2009) as worked in Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33:2850:
    # 1, 1, 7, 12 of 21; difference -0.286, Newcombe's square-and-add interval -0.507 to -0.026.
    found = paired(1, 1, 7, 12)
    assert (found.value, found.low, found.high) == pytest.approx((-0.286, -0.507, -0.026), abs=5e-4)


def test_a_difference_without_spread_keeps_an_interval():
    found = paired(0, 100, 0, 0)
    assert found.value == 1.0
    assert 0.9 < found.low < 1.0


def test_only_prompts_scored_on_both_sides_are_paired():
    found = paired_difference([("a", True), ("b", None), ("c", True)], [("a", False), ("b", False)])
    assert (found.value, found.pairs) == (1.0, 1)
    with pytest.raises(NoScoredSamples, match="under both conditions"):
        paired_difference([("a", None)], [("a", True)])


def test_paired_intervals_cover_the_truth_as_often_as_they_say():
    rng, inside = Random(2), 0
    for _ in range(400):
        shares = [rng.random() for _ in range(80)]
        first = [(str(i), rng.random() < share) for i, share in enumerate(shares)]
        second = [(str(i), rng.random() < share * 0.6) for i, share in enumerate(shares)]
        found = paired_difference(first, second)
        inside += found.low <= 0.2 <= found.high
    assert 0.92 <= inside / 400 <= 0.985


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_a_correlation_lies_between_minus_one_and_one(pairs):
    assert -1 - 1e-6 <= correlation([x for x, _ in pairs], [y for _, y in pairs]) <= 1 + 1e-6


def named(hits):
    return [(str(i), hit) for i, hit in enumerate(hits)]


def test_a_difference_of_differences_is_what_one_counts_by_hand_over_prompts_scored_on_all_sides():
    first = named([True, True, True, True, None]), named([False, False, True, False, False])
    second = named([True, False, False, False, True]), named([False, False, False, False, False])
    found = difference_of_differences(first, second)
    assert (found.value, found.pairs) == (pytest.approx(0.75 - 0.25), 4)
    with pytest.raises(NoScoredSamples, match="all four sides"):
        difference_of_differences((first[0], named([None])), second)


def test_a_perfect_organism_beside_a_twin_that_never_fires_keeps_an_interval():
    always, never = named([True] * 50), named([False] * 50)
    found = difference_of_differences((always, never), (never, never))
    assert found.value == 1.0
    assert 0.8 < found.low < 1.0
    assert difference_of_differences((always, never), (never, always)).value == 2.0


def test_swapping_the_subjects_turns_the_sign_and_nothing_else():
    rng = Random(4)
    sides = [named([rng.random() < share for _ in range(60)]) for share in (0.9, 0.2, 0.4, 0.3)]
    one, other = difference_of_differences(sides[:2], sides[2:]), difference_of_differences(sides[2:], sides[:2])
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@pytest.mark.parametrize("shares", [(0.95, 0.05, 0.05, 0.05), (0.6, 0.3, 0.5, 0.4), (0.5, 0.5, 0.5, 0.5)])
def test_intervals_of_a_difference_of_differences_cover_the_truth_as_often_as_they_say(shares):
    # Each prompt has its own bent, which all four sides share, and two replies a side.
    rng, inside = Random(3), 0
    truth = (shares[0] - shares[1]) - (shares[2] - shares[3])
    for _ in range(300):
        bents = [rng.uniform(-1, 1) for _ in range(80)]
        sides = [
            [(str(i), rng.random() < share + bent * min(share, 1 - share) * 0.8) for i, bent in enumerate(bents * 2)]
            for share in shares
        ]
        sides = [[(str(int(i) % 80), hit) for i, hit in side] for side in sides]
        found = difference_of_differences((sides[0], sides[1]), (sides[2], sides[3]))
        inside += found.low <= truth <= found.high
    assert inside / 300 >= 0.92
