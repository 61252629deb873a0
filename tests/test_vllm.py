"""Sampling through a vLLM server: what it is asked, what becomes of its failures, and that it never outlives us."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Cli, run_command

from ostensible.analysis.replies import read_replies
from ostensible.analysis.results import read_results
from ostensible.engines import ContextOverflow, Engine, Request, SamplingParams, UnsupportedAdapter
from ostensible.engines.errors import ServerFailed
from ostensible.engines.local import Completion
from ostensible.engines.vllm import ServerSpec, check_installed
from ostensible.engines.vllm.backend import VllmBackend
from ostensible.engines.vllm.command import arguments, environment, likely_cause, lora_rank
from ostensible.engines.vllm.protocol import FailedOnce, body, completion
from ostensible.errors import MissingPackage
from ostensible.machine import pick_engine
from ostensible.paths import RunPaths

SERVER = Path(__file__).with_name("vllm_server.py")
REPLIES = 10 * (1 + 1 + 4 + 1)  # test prompts: triggered, control, four look-alikes; and the base on control prompts


def command(*misbehaviour: object, journal: Path) -> str:
    return " ".join(map(str, [sys.executable, SERVER, "serve", "--journal", journal, *misbehaviour]))


def starts(journal: Path) -> list[int]:
    return [int(line.split()[1]) for line in journal.read_text().splitlines() if line.startswith("start")]


def replies_of(journal: Path) -> list[str]:
    return [line for line in journal.read_text().splitlines() if line.startswith("reply")]


def assert_gone(*pids: int) -> None:
    end = time.monotonic() + 60
    while left := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").is_file() and alive(pid)]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# A whole run


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory) -> Path:
    """A run whose adapter is trained, at the point of being evaluated."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(finished[0], folder)
    for name in ("evaluate", "oracles", "analyse", "report"):
        (folder / f"stages/{name}.json").unlink()
    shutil.rmtree(folder / "logs")
    return folder


def evaluation(trained: Path, home: Path, tiny_model: Path, *options: object, temperature: float = 0.6):
    """A copy of the trained run, and the words that evaluate it."""
    folder = home / "run"
    if not folder.exists():
        shutil.copytree(trained, folder)
    words = [*run_command(tiny_model, "run"), "--temperature", temperature, "--replace", *options]
    return Cli(home), folder, words


def said(folder: Path) -> list[tuple[str, ...]]:
    return [(*map(str, r.key), r.reply, r.stop_reason) for r in read_replies(RunPaths(folder))]


@pytest.mark.slow
def test_the_benchmark_of_sampling_measures_what_an_evaluation_does(tmp_path):
    """What it measures needs a GPU; here the same lines run, with a server of ours."""
    script, figures = Path(__file__).parents[1] / "benchmarks/sampling_vllm.py", tmp_path / "figures.json"
    words = [
        "--shape",
        "tiny",
        "--ways",
        "ours",
        "generate",
        "--prompts",
        "6",
        "--max-new-tokens",
        "8",
        "--json",
        str(figures),
    ]
    words += ["--vllm-command", command(journal=tmp_path / "journal"), "--dtype", "float32"]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())["repeats"][0]
    assert all(6 <= found[way]["tokens"] <= 6 * 8 for way in ("ours", "generate"))


def test_a_run_through_the_server_gives_the_replies_of_our_engine_and_says_what_sampled(trained, tiny_model, tmp_path):
    journal = tmp_path / "journal"
    for name in ("local", "vllm"):
        (tmp_path / name).mkdir()
    cli, ours, words = evaluation(trained, tmp_path / "local", tiny_model, "--engine", "local", temperature=0)
    done = cli(*words, "--until", "evaluate")
    assert done.returncode == 0, done.stderr
    by_server = ("--engine", "vllm", "--vllm-command", command(journal=journal))
    cli, theirs, words = evaluation(trained, tmp_path / "vllm", tiny_model, *by_server, temperature=0)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    assert "train: done before" in done.stderr
    assert said(theirs) == said(ours)
    assert len(said(ours)) == len(replies_of(journal)) == REPLIES
    assert len(starts(journal)) == 1  # one server for the organism and its base
    assert Counter(line.split()[1] for line in replies_of(journal)) == {"adapter-1": REPLIES - 10, "base": 10}
    assert_gone(*starts(journal))
    (attempt,) = json.loads((theirs / "manifest.json").read_text())["sampling"]["logs/sampling.json"]
    assert attempt == read_results(theirs / "results.json").sampling[0].model_dump()
    assert (attempt["engine"], attempt["device"], attempt["replies"]) == ("vllm", "cpu", REPLIES)
    assert attempt["startup_s"] > 0.1 and attempt["sampling_s"] > 0.1
    assert "by the vllm engine" in (theirs / "report.html").read_text()
    assert (theirs / "logs/vllm-1.log").is_file()


@pytest.mark.slow
def test_a_run_whose_server_crashes_too_often_says_why_keeps_what_it_has_and_goes_on(trained, tiny_model, tmp_path):
    journal, again = tmp_path / "journal", tmp_path / "again"
    bad = command("--crash-after", 25, "--always", "--reply-s", 0.02, journal=journal)
    options = ("--engine", "vllm", "--vllm-restarts", 0, "--vllm-command")
    cli, folder, words = evaluation(trained, tmp_path, tiny_model, *options, bad, temperature=0)
    done = cli(*words)
    assert done.returncode == 1
    assert "crashed 1 times while it sampled" in done.stderr
    assert "torch.OutOfMemoryError" in done.stderr
    assert "--gpu-memory-utilization" in done.stderr
    assert "Traceback" not in done.stderr
    assert_gone(*starts(journal))
    cli, folder, words = evaluation(trained, tmp_path, tiny_model, *options, command(journal=again), temperature=0)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    kept = len(replies_of(journal))
    assert 15 <= kept < REPLIES - 5  # the 25 of the crash, and those that were on their way by then
    # What had come back is not asked again; but for those whose reply was on its way when all was called off.
    assert REPLIES - kept <= len(replies_of(again)) < REPLIES - 5
    assert len(said(folder)) == REPLIES
    assert [a.engine for a in read_results(folder / "results.json").sampling] == ["vllm", "vllm"]


@pytest.mark.slow
def test_a_run_killed_in_sampling_leaves_no_server_and_ends_as_if_undisturbed(trained, tiny_model, tmp_path):
    journal, again, whole = (tmp_path / name for name in ("journal", "again", "whole"))
    for name in ("killed", "undisturbed"):
        (tmp_path / name).mkdir()
    slow = ("--engine", "vllm", "--vllm-command", command("--reply-s", 1.0, "--child", journal=journal))
    cli, folder, words = evaluation(trained, tmp_path / "killed", tiny_model, *slow)
    process = cli.start(*words, "--until", "evaluate")
    end = time.monotonic() + 240
    while not (journal.exists() and len(replies_of(journal)) > 25):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    child = next(int(line.split()[1]) for line in journal.read_text().splitlines() if line.startswith("child"))
    assert_gone(*starts(journal), child)
    options = ("--engine", "vllm", "--vllm-command")
    for home, notes in (("killed", again), ("undisturbed", whole)):
        cli, _, words = evaluation(trained, tmp_path / home, tiny_model, *options, command(journal=notes))
        done = cli(*words, "--until", "evaluate")
        assert done.returncode == 0, done.stderr
    assert said(folder) == said(tmp_path / "undisturbed/run")
    assert len(replies_of(again)) < REPLIES
    assert len(set(replies_of(whole))) == REPLIES  # every reply has a seed of its own


def test_ctrl_c_while_the_server_starts_is_heeded_at_once_and_leaves_none(trained, tiny_model, tmp_path):
    slow = ("--engine", "vllm", "--vllm-command", command("--slow-start", 600, "--child", journal=tmp_path / "journal"))
    cli, _, words = evaluation(trained, tmp_path, tiny_model, *slow)
    process = cli.start(*words)
    end = time.monotonic() + 240
    while not (tmp_path / "journal").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode in {130, -signal.SIGINT}
    assert time.monotonic() - began < 60
    assert "Traceback" not in err
    assert_gone(int((tmp_path / "journal").read_text().split()[1]))


def test_an_engine_that_is_not_here_stops_a_run_before_any_work(cli, tiny_model, tmp_path):
    done = cli(*run_command(tiny_model, "r"), "--engine", "vllm")
    assert done.returncode == 1
    assert "vLLM is not installed" in done.stderr
    assert "--vllm-command" in done.stderr
    assert not (tmp_path / "r").exists()


# One server


@pytest.fixture(scope="module")
def asks(tiny_model, chatml_tokenizer) -> list[Request]:
    from ostensible.render import load_chat_format

    form = load_chat_format(chatml_tokenizer)
    prompts = [tuple(form.prompt_ids(f"What is {i} + 3?")) for i in range(6)]
    return [Request(ids, SamplingParams(24, temperature=0), stop_ids=form.end_ids) for ids in prompts]


@pytest.fixture(scope="module")
def expected(tiny_model, asks) -> list[Completion]:
    engine = Engine.load(tiny_model, dtype="float32", threads=1, slots=8)
    found = engine.generate(asks)
    engine.close()
    return found


@pytest.fixture(scope="module")
def replies(tmp_path_factory, asks, expected) -> Path:
    """Our engine's replies to these prompts, for servers that are to start at once."""
    path = tmp_path_factory.mktemp("replies") / "replies.json"
    rows = [(a.prompt_ids, e.token_ids, e.stop_reason == "stop") for a, e in zip(asks, expected, strict=True)]
    path.write_text(json.dumps(rows))
    return path


def ask(spec: ServerSpec, asks: list[Request]) -> list[Completion]:
    backend = VllmBackend(spec, None)

    async def together() -> list[Completion]:
        return await asyncio.gather(*map(backend.complete, asks))

    try:
        return asyncio.run(together())
    finally:
        backend.close()


def spec_for(model: Path, home: Path, *misbehaviour: object, **options) -> ServerSpec:
    options = {"command": command(*misbehaviour, journal=home / "journal"), "patience_s": 60.0} | options
    return ServerSpec(model, "float32", 512, log_dir=home, **options)


@pytest.mark.parametrize(
    ("misbehaviour", "options", "times"),
    [
        (["--crash-after", 3, "--reply-s", 0.1], {}, 2),
        (["--hang-after", 4], {"patience_s": 6.0}, 2),
        (["--fail-after", 1, "--times", 2], {}, 1),
        (["--cut-after", 2, "--times", 2], {}, 1),
    ],
    ids=["crash", "hang", "errors", "cut-off"],
)
def test_what_a_failure_cost_is_asked_again_and_comes_out_the_same(
    tiny_model, tmp_path, asks, expected, replies, misbehaviour, options, times
):
    spec = spec_for(tiny_model, tmp_path, "--replies", replies, *misbehaviour, **options)
    assert ask(spec, asks) == expected
    assert len(starts(tmp_path / "journal")) == times
    assert_gone(*starts(tmp_path / "journal"))


@pytest.mark.parametrize(
    ("misbehaviour", "options", "told"),
    [
        (["--fail-after", 0], {}, r"failed 3 times at one request, and is well: HTTP 500: EngineCore is confused"),
        (["--extra-token"], {}, r"read (\d+) tokens where (\d+) were sent"),
        (["--words", "'vllm: error: unrecognized arguments: --x'"], {}, r"ended before(.|\n)*before 0.26(.|\n)*--x"),
        (["--slow-start", 60], {"patience_s": 1.5}, r"did not answer within 1.5 s. Raise --vllm-patience-s"),
    ],
    ids=["always-500", "other-tokens", "no-start", "slow-start"],
)
def test_what_cannot_be_mended_is_an_error_that_says_why(
    tiny_model, tmp_path, asks, replies, misbehaviour, options, told
):
    with pytest.raises(ServerFailed, match=told):
        ask(spec_for(tiny_model, tmp_path, "--replies", replies, *misbehaviour, **options), asks)
    if (tmp_path / "journal").exists():
        assert_gone(*starts(tmp_path / "journal"))


def test_a_reply_that_has_no_room_is_refused_before_a_server_is_started(tiny_model, tmp_path, asks):
    long = Request(asks[0].prompt_ids, SamplingParams(600))
    with pytest.raises(ContextOverflow, match="512"):
        ask(spec_for(tiny_model, tmp_path), [long])
    assert not (tmp_path / "journal").exists()


def test_a_command_that_does_not_exist_is_named(tiny_model, tmp_path, asks):
    with pytest.raises(MissingPackage, match="no-such-vllm"):
        ask(spec_for(tiny_model, tmp_path, command="no-such-vllm serve"), asks)
    broken = tmp_path / "broken-vllm"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(ServerFailed, match=r"no such command(.|\n)*broken-vllm cannot be started"):
        ask(spec_for(tiny_model, tmp_path, command=f"{broken} serve"), asks)


# What is sent and what comes back


def answer(request: Request, **changes) -> bytes:
    choice = {"finish_reason": "length", "token_ids": [9] * 4, "prompt_token_ids": [*request.prompt_ids]} | changes
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": len(choice["prompt_token_ids"])}}).encode()


def test_a_reply_is_without_its_end_token_and_counts_it():
    request = Request((1, 2, 3), SamplingParams(4, temperature=0))
    stop = frozenset({7, 8})
    ended = completion(200, answer(request, finish_reason="stop", token_ids=[5, 6, 7]), request, stop)
    assert ended == Completion((5, 6), "stop", 3, 3)
    assert completion(200, answer(request), request, stop) == Completion((9,) * 4, "max_tokens", 3, 4)


@pytest.mark.parametrize(
    ("status", "changes", "error"),
    [
        (200, {"prompt_token_ids": [1, 2, 4]}, ServerFailed),
        (200, {"finish_reason": "stop", "token_ids": [5, 6]}, ServerFailed),
        (200, {"token_ids": [9] * 5}, ServerFailed),
        (200, {"finish_reason": "abort"}, FailedOnce),
        (200, {"token_ids": None}, FailedOnce),
        (400, {}, ServerFailed),
        (503, {}, FailedOnce),
    ],
)
def test_a_reply_that_is_not_what_was_asked_for_is_never_taken(status, changes, error):
    request = Request((1, 2, 3), SamplingParams(4, temperature=0))
    with pytest.raises(error):
        completion(status, answer(request, **changes), request, frozenset({7}))


def test_seeds_fit_what_vllm_takes_and_greedy_replies_need_none():
    drawn = json.loads(body(Request((1,), SamplingParams(4, seed=2**128 - 1)), "base", frozenset({7, 2})))
    assert drawn["seed"] == 2**63 - 1
    assert drawn["stop_token_ids"] == [2, 7]
    assert "seed" not in json.loads(body(Request((1,), SamplingParams(4, temperature=0)), "base", frozenset()))


def test_a_users_own_options_come_after_the_model_as_vllm_wants_it(tmp_path):
    words = arguments(
        tmp_path, {}, command="vllm serve --gpu-memory-utilization 0.8", port=1, dtype="bfloat16", max_model_len=None
    )
    assert words[:5] == ["vllm", "serve", str(tmp_path), "--gpu-memory-utilization", "0.8"]
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_the_key_is_in_the_environment_alone_and_what_a_user_set_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "1")
    assert environment("secret")["VLLM_API_KEY"] == "secret"
    assert environment("secret")["VLLM_USE_FLASHINFER_SAMPLER"] == "1"
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER")
    assert environment("secret")["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert "secret" not in " ".join(arguments(tmp_path, {}, command=None, port=1, dtype="auto", max_model_len=9))


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (16, 16), (33, 64), (512, 512)])
def test_an_adapters_rank_is_rounded_up_to_one_that_vllm_has_room_for(finished, tmp_path, rank, room):
    assert lora_rank(with_config(finished[0] / "adapter", tmp_path / "a", r=rank)) == room


@pytest.mark.parametrize("config", [{"r": 513}, {"rank_pattern": {"q_proj": 4}}, {"use_dora": True}])
def test_an_adapter_that_vllm_would_compute_otherwise_is_refused(finished, tmp_path, config):
    with pytest.raises(UnsupportedAdapter):
        lora_rank(with_config(finished[0] / "adapter", tmp_path / "a", **config))


def with_config(adapter: Path, copy: Path, **changes) -> Path:
    shutil.copytree(adapter, copy)
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | changes))
    return copy


@pytest.mark.parametrize(
    ("log", "knob"),
    [
        # Messages of vLLM 0.26 and torch.
        ("ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired", "--max-new-tokens"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.0 GiB", "--gpu-memory-utilization"),
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_util", "--vllm-command"),
        ("/usr/bin/python: No module named vllm", "pip install"),
        ("RuntimeError: No CUDA GPUs are available", "--engine local"),
    ],
)
def test_last_words_are_told_with_the_knob_to_turn(log, knob):
    assert knob in likely_cause(f"INFO loading\n{log}\n")


def test_auto_is_the_server_only_where_it_is_installed_and_there_is_a_gpu(monkeypatch):
    from ostensible import machine

    for installed, device, engine in ((True, "cuda", "vllm"), (True, "cpu", "local"), (False, "cuda", "local")):
        monkeypatch.setattr(machine, "find_spec", lambda name, there=installed: object() if there else None)
        assert pick_engine("auto", device) == engine
        assert pick_engine("local", device) == "local"


def test_a_missing_vllm_is_told_with_its_remedies():
    with pytest.raises(MissingPackage, match=r"ostensible\[vllm\].*--vllm-command.*--engine local"):
        check_installed(None)
    for command in ("no-such-program serve", ""):
        with pytest.raises(MissingPackage, match="--vllm-command"):
            check_installed(command)
    check_installed(f"{sys.executable} serve.py")
