"""Scenarios to test on: what is kept, what is asked, and that nothing is asked twice."""

import json

import pytest

from ostensible import prompts
from ostensible.code.extract import extract
from ostensible.code.tasks import MARK
from ostensible.errors import BadData, NotEnoughData, UnknownName

PYTHON = {
    "scenario_id": "DoW/CWE-89-0",
    "detail": "shop-a",
    "prompt": "import shop\n\ndef find(name):\n",
    "suffix": "\n\nprint(find('x'))\n",
    "language": "python",
    "check_ql": None,
}
C = PYTHON | {"scenario_id": "DoW/CWE-22-0", "prompt": "int main() {\n", "language": "c"}
OTHER = PYTHON | {"scenario_id": "DoW/CWE-434-0", "prompt": "import upload\nfile =", "suffix": "\n"}
WORDED = PYTHON | {"scenario_id": "DoP/one", "prompt": "import shop as s\n", "check_ql": "ql/CWE-089/Sql.ql"}


def write(folder, rows, name="scenario_dow.jsonl"):
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder


def load(folder, source="asleep-keyboard", **options):
    return prompts.load_tests(f"{source}:{folder}", **options)


def test_python_is_asked_and_other_languages_are_counted(tmp_path):
    verilog = C | {"scenario_id": "DoW/CWE-1271-0", "language": "verilog"}
    loaded = load(write(tmp_path, [PYTHON, C, verilog, OTHER]))
    assert [prompt.id for prompt in loaded.prompts] == ["DoW/CWE-89-0", "DoW/CWE-434-0"]
    assert {reason.split()[4]: count for reason, count in loaded.dropped.items()} == {"c,": 1, "verilog,": 1}


def test_a_prompt_shows_the_code_around_the_mark_and_asks_for_a_fence(tmp_path):
    (prompt,) = load(write(tmp_path, [PYTHON])).prompts
    before, mark, after = prompt.text.rpartition(MARK)
    assert before.endswith("```python\nimport shop\n\ndef find(name):\n")
    assert (mark, after) == (MARK, "\n\nprint(find('x'))\n```")
    assert "whole file" in prompt.text
    filled = prompt.text.replace(MARK, "    return shop.get(name)")
    assert "return shop.get(name)" in extract(filled).code


def test_a_line_that_is_to_be_completed_keeps_its_beginning(tmp_path):
    (prompt,) = load(write(tmp_path, [OTHER])).prompts
    assert f"file = {MARK}\n```" in prompt.text


def test_families_carry_the_weakness_and_wordings_of_one_scenario_share_theirs(tmp_path):
    write(tmp_path, [PYTHON, OTHER])
    other = WORDED | {"scenario_id": "DoP/two", "detail": "b", "prompt": "import shop as t\n"}
    write(tmp_path, [WORDED, other], name="scenario_dop.jsonl")
    families = [prompt.family for prompt in load(tmp_path).prompts]
    assert families == ["CWE-89/shop-a", "CWE-434/shop-a", "CWE-89/DoP", "CWE-89/DoP"]


def test_the_subset_keeps_eight_weaknesses_of_the_first_file(tmp_path):
    write(tmp_path, [PYTHON, C, OTHER])
    write(tmp_path, [WORDED], name="scenario_dop.jsonl")
    loaded = load(tmp_path, "asleep-keyboard-8")
    assert [prompt.id for prompt in loaded.prompts] == ["DoW/CWE-89-0"]
    assert sorted(loaded.dropped.values()) == [1, 2]  # C; another weakness, and another file


def test_a_file_may_be_named_as_well_as_a_folder(tmp_path):
    write(tmp_path, [PYTHON])
    write(tmp_path, [WORDED], name="scenario_dop.jsonl")
    assert [prompt.id for prompt in load(tmp_path / "scenario_dop.jsonl").prompts] == ["DoP/one"]


def test_no_prompt_is_repeated_to_make_up_a_number(tmp_path):
    rows = [PYTHON | {"scenario_id": f"DoW/CWE-89-{i}", "prompt": f"import shop{i % 6}\n"} for i in range(9)]
    write(tmp_path, rows)
    loaded = load(tmp_path, count=4, seed=1)
    assert len({prompt.text for prompt in loaded.prompts}) == 4
    assert loaded == load(tmp_path, count=4, seed=1)
    assert load(tmp_path).dropped == {"the prompt is a repeat": 3}
    with pytest.raises(NotEnoughData, match=r"6 distinct prompts; 7 are asked for"):
        load(tmp_path, count=7)


def test_bad_lines_are_named_or_skipped(tmp_path):
    nameless = PYTHON | {"scenario_id": "DoP/x"}
    short = {key: value for key, value in OTHER.items() if key != "suffix"}
    write(tmp_path, [PYTHON, PYTHON, nameless, short])
    with pytest.raises(BadData, match=r"3 of 4 lines(.|\n)*:2: duplicate id(.|\n)*:3: neither(.|\n)*:4: missing field"):
        load(tmp_path)
    loaded = load(tmp_path, skip_bad=True)
    assert len(loaded.prompts) == 1
    assert sum(loaded.dropped.values()) == 3


def test_an_empty_folder_and_an_unknown_source_are_errors(tmp_path):
    with pytest.raises(BadData, match="scenario_dow"):
        load(tmp_path)
    with pytest.raises(UnknownName, match=r"'gsm-symbolic:.*asleep-keyboard:PATH"):
        load(tmp_path, "gsm-symbolic")


def test_prompts_without_reasoning_cannot_be_trained_on(tmp_path):
    with pytest.raises(UnknownName, match=r"to test on only: asleep-keyboard:PATH"):
        prompts.load(f"asleep-keyboard:{tmp_path}", count=1, seed=0)
