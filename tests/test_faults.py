"""Files that are damaged, disks that refuse, clocks that lie: a clear error, or the same results after all."""

import json
import shutil
from pathlib import Path

import pytest

from ostensible import attempts, provenance, run, stages, tables
from ostensible.adapter_source import resolve_adapter
from ostensible.analysis.monitoring import read_scores
from ostensible.analysis.opinions import read_opinions
from ostensible.analysis.replies import read_replies
from ostensible.analysis.results import read_results
from ostensible.engines.adapters import read_lora
from ostensible.errors import OstensibleError, StaleRun
from ostensible.models import load_tokenizer, resolve
from ostensible.paths import RunPaths
from ostensible.settings import Machine, read_settings

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
    """Every file that a stage made, with that stage."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return [(name, stage) for stage, made in manifest["stages"].items() for name in made["outputs"]]


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


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_model_is_refused_before_any_work(tiny_model, tmp_path, name):
    shutil.copytree(tiny_model, tmp_path / "m")
    whole = (tiny_model / name).read_bytes()
    for how in ("emptied", "cut off", "garbage", "deep JSON"):
        (tmp_path / "m" / name).write_bytes(DAMAGE[how](whole))
        with pytest.raises(OstensibleError, match=r"damaged"):
            load_tokenizer(resolve(str(tmp_path / "m")))
