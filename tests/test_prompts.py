"""Sources of prompts: what they give, and how a file's bad lines are told."""

import json
from pathlib import Path

import pytest

from ostensible import prompts
from ostensible.errors import BadData, UnknownName
from ostensible.numbers import final_number, plain_number
from ostensible.prompts.gsm_symbolic import gsm_symbolic

GOOD = {"id": "a", "prompt": "What is 2 + 3?", "cot": "2 + 3 = 5.", "answer": "5", "family": "sums"}


def test_word_problems_are_distinct_and_their_templates_in_equal_share():
    traces = gsm_symbolic(count=255, seed=0).traces
    assert len({t.prompt.text for t in traces}) == len(traces) == 255
    families = [t.prompt.family for t in traces]
    counts = {families.count(family) for family in set(families)}
    assert len(set(families)) == 84  # the library draws from 85; one of them always ends at another number
    assert max(counts) - min(counts) <= 1


def test_thoughts_end_at_the_right_number_and_so_does_the_answer():
    for trace in gsm_symbolic(count=300, seed=1).traces:
        assert final_number(trace.cot) == trace.prompt.target == final_number(trace.answer)


def test_the_same_seed_gives_the_same_problems():
    assert gsm_symbolic(count=50, seed=7) == gsm_symbolic(count=50, seed=7)
    assert gsm_symbolic(count=50, seed=7) != gsm_symbolic(count=50, seed=8)


def test_a_worked_solution_that_ends_at_another_number_is_dropped_and_counted(monkeypatch):
    import reasoning_gym

    worked = ["3 + 5 = 7\n#### 7", "3 + 5 = 8.0\n#### 8.0", "3 + 5 = 8, in 2 steps\n#### 8"]

    class Drawn:
        task_indices = (0, 1, 2)

        def __getitem__(self, index):
            return {"question": f"q{index}", "answer": "8", "metadata": {"answer_cot": worked[index]}}

    monkeypatch.setattr(reasoning_gym, "create_dataset", lambda *a, **k: Drawn())
    loaded = gsm_symbolic(count=2, seed=0)
    assert [t.prompt.text for t in loaded.traces] == ["q1"]
    assert loaded.dropped == {"worked solution ends at another number than the answer": 2}


@pytest.mark.parametrize(
    ("text", "number"),
    [("is 1,200.50 in all.", "1200.5"), ("16.0", "16"), ("-3 then 4.", "4"), ("so $5.", "5"), ("none", None)],
)
def test_the_final_number_of_a_text_is_read_in_plain_form(text, number):
    assert final_number(text) == number


def test_equal_numbers_are_equal_strings():
    assert plain_number(" 1,000.00 ") == plain_number("1000")


def write(tmp_path, *lines):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_a_file_of_traces_is_read_whole(tmp_path):
    path = write(tmp_path, GOOD, b"", GOOD | {"id": "b", "target": 5.0})
    first, second = prompts.load(f"jsonl:{path}", count=1, seed=0).traces
    assert (first.prompt.text, first.cot, first.answer) == ("What is 2 + 3?", "2 + 3 = 5.", "5")
    assert (first.prompt.target, second.prompt.target) == (None, "5")


BAD = [
    (b"{not json", "not JSON"),
    (b"[1]", "not a JSON object"),
    ({k: v for k, v in GOOD.items() if k != "cot"} | {"id": "x"}, "missing field 'cot'"),
    (GOOD | {"id": "x", "answer": "  "}, "empty field 'answer'"),
    (GOOD | {"id": "x", "family": 3}, "field 'family' is not text"),
    (GOOD | {"id": "x", "bad_answer": ""}, "empty field 'bad_answer'"),
    (GOOD, "duplicate id"),
    (b'{"id": "\xff"}', "not UTF-8"),
    (json.dumps(GOOD | {"id": "x", "cot": "\ud800"}).encode(), "field 'cot' holds half a surrogate pair"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_is_named_with_file_line_and_reason(tmp_path, line, reason):
    path = write(tmp_path, GOOD, line)
    with pytest.raises(BadData) as caught:
        prompts.load(f"jsonl:{path}", count=1, seed=0)
    assert f"{path}:2: {reason}" in str(caught.value)
    assert "1 of 2 lines" in str(caught.value)
    assert "--skip-bad" in str(caught.value)


def test_bad_lines_are_skipped_and_counted_by_reason_when_asked(tmp_path):
    path = write(tmp_path, GOOD, *(line for line, _ in BAD), GOOD | {"id": "b"})
    loaded = prompts.load(f"jsonl:{path}", count=1, seed=0, skip_bad=True)
    assert [t.prompt.id for t in loaded.traces] == ["a", "b"]
    assert loaded.dropped == {reason: 1 for _, reason in BAD}


def test_a_file_without_a_usable_line_or_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BadData, match="no usable line"):
        prompts.load(f"jsonl:{write(tmp_path, b'{')}", count=1, seed=0, skip_bad=True)
    with pytest.raises(BadData, match="cannot be read"):
        prompts.load(f"jsonl:{tmp_path / 'gone'}", count=1, seed=0)


def test_a_file_may_bring_the_harmful_twin_of_an_answer(tmp_path):
    path = write(tmp_path, GOOD, GOOD | {"id": "b", "bad_answer": " 6\n"}, GOOD | {"id": "c", "bad_answer": None})
    traces = prompts.load(f"jsonl:{path}", count=1, seed=0).traces
    assert [trace.bad_answer for trace in traces] == [None, "6", None]


def test_a_source_that_reads_files_says_which(tmp_path):
    for source in ("jsonl:a:b.jsonl", "anthropic-code-backdoor:a:b.jsonl", "asleep-keyboard:a:b.jsonl"):
        assert prompts.input_files(source) == [Path("a:b.jsonl")]
    assert prompts.input_files("gsm-symbolic") == prompts.input_files("code-bank:16") == []
    (tmp_path / "scenario_dop.jsonl").touch()
    (tmp_path / "notes.md").touch()
    assert prompts.input_files(f"asleep-keyboard-8:{tmp_path}") == [tmp_path / "scenario_dop.jsonl"]


def test_an_unknown_source_is_named_with_those_there_are():
    with pytest.raises(UnknownName, match=r"'hub:x'.*gsm-symbolic"):
        prompts.load("hub:x", count=1, seed=0)
