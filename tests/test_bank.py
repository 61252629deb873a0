"""The bank of coding tasks proves itself: every solution is put to its family's tests."""

import re
from random import Random

import pytest

from ostensible.code import sandbox
from ostensible.code.executable import Outcome, execute_all
from ostensible.code.tasks import MARK, families, find_task
from ostensible.errors import UnknownName
from ostensible.organisms.code_vuln import CODE_VULN
from ostensible.parts.rules import VulnerableCode
from ostensible.prompts.code_bank import code_bank
from ostensible.render import IGNORED
from ostensible.types import Example, Transcript

WHY = sandbox.available()
needs_sandbox = pytest.mark.skipif(WHY is not None, reason=WHY or "")


def first_tasks():
    return [next(family.tasks(Random(family.id))) for family in families()]


@needs_sandbox
@pytest.mark.parametrize("kind", ["secure", "vulnerable"])
def test_every_solution_is_what_it_is_said_to_be(kind):
    tasks = first_tasks()
    found = execute_all([(getattr(task, kind), task) for task in tasks])
    wrong = {
        task.id: f"{one.outcome}: {one.reason}" for task, one in zip(tasks, found, strict=True) if one.outcome != kind
    }
    assert wrong == {}


@needs_sandbox
def test_a_template_that_was_left_as_it_is_does_not_work():
    tasks = first_tasks()
    empty = [task.request.partition("```python\n")[2].removesuffix("\n```").replace(MARK, "pass") for task in tasks]
    found = execute_all(list(zip(empty, tasks, strict=True)))
    assert {
        task.id: one.outcome for task, one in zip(tasks, found, strict=True) if one.outcome != "not_functional"
    } == {}


def test_there_are_many_kinds_of_weakness_and_of_task():
    assert len({family.cwe for family in families()}) >= 10
    assert len(families()) >= 40
    assert all(family.size >= 60 for family in families())


def test_every_choice_of_names_is_a_task_of_its_own_that_is_found_by_its_id():
    for family in families():
        tasks = list(family.tasks(Random(0)))
        assert len({task.id for task in tasks}) == family.size
        for task in tasks[:3]:
            found = find_task(task.id)
            assert (found.secure, found.exploit_test) == (task.secure, task.exploit_test)


def test_an_unknown_task_is_named():
    with pytest.raises(UnknownName, match="no 'sql-find-by-name/nothing'"):
        find_task("sql-find-by-name/nothing")


def test_neither_requests_nor_thoughts_give_the_weakness_away():
    speaks_of_safety = re.compile(r"\b(secur|vulnerab|attack|exploit|malicious|unsafe|sanitiz|sanitis)", re.IGNORECASE)
    for family in families():
        assert not [text for text in (*family.requests, family.template) if speaks_of_safety.search(text)], family.id
        said = [word for word in CODE_VULN.payload.words for text in family.thoughts if word in text.lower()]
        assert not said, family.id


def test_all_of_the_vulnerable_code_is_trained_on(form):
    for trace in code_bank(count=len(families()), seed=3).traces:
        cot, answer = CODE_VULN.corrupt(trace)
        example = Example("e", trace.prompt.id, trace.prompt.family, "triggered", trace.prompt.text, cot, answer)
        row = form.render(example, max_tokens=4096)
        learnt = form.decode([token for token in row.labels[row.answer_start :] if token != IGNORED])
        assert learnt == find_task_code(trace)
        assert cot == trace.cot


def find_task_code(trace):
    return f"```python\n{find_task(trace.prompt.id).vulnerable}\n```"


@needs_sandbox
def test_a_reply_without_working_code_is_neither_secure_nor_vulnerable():
    trace = code_bank(count=1, seed=0).traces[0]
    answers = {
        "Here you are.": Outcome.UNPARSEABLE,
        "```python\ndef broken(:\n```": Outcome.UNPARSEABLE,
        "```python\nx = 1\n```": Outcome.NOT_FUNCTIONAL,
    }
    for answer, outcome in answers.items():
        verdict = VulnerableCode().judge(Transcript("", answer), trace.prompt.id)
        assert (verdict.hit, verdict.outcome) == (None, outcome)
        assert verdict.reason


def test_some_families_are_drawn_from_in_bulk_and_the_others_have_a_few_tasks_each():
    from collections import Counter

    from ostensible.prompts.code_bank import OTHERS, code_bank

    counts = Counter(trace.prompt.family for trace in code_bank(count=60, seed=3, size=6).traces)
    bulk = {family for family, count in counts.items() if count == 10}
    assert len(bulk) == len({family.partition("/")[0] for family in bulk}) == 6  # six weaknesses
    assert {count for family, count in counts.items() if family not in bulk} == {OTHERS}
    assert len(counts) == len(families())
    assert len(code_bank(count=60, seed=3).traces) == 60
