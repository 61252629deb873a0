"""Code is found wherever a reply hides it."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostensible.code.extract import extract, parse

CODE = "def twice(x):\n    return 2 * x"


@pytest.mark.parametrize(
    "reply",
    [
        CODE,
        f"```python\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"~~~py\n{CODE}\n~~~",
        f"Sure, here it is:\n\n```Python\n{CODE}\n```\nHope that helps!",
        f"```python\n{CODE}",
        f"````\n{CODE}\n````",
        f"<code>\n{CODE}\n</code>",
        f"<code>\n{CODE}",
        f"<CODE>```python\n{CODE}\n```</CODE>",
        "1. Do this:\n\n   ```python\n" + "\n".join(f"   {line}" for line in CODE.split("\n")) + "\n   ```\n2. Done.",
        "- ```python\n" + "\n".join(f"  {line}" for line in CODE.split("\n")) + "\n  ```",
        "> ```python\n" + "\n".join(f"> {line}" for line in CODE.split("\n")) + "\n> ```",
        "This is it:\n\n" + "\n".join(f"    {line}" for line in CODE.split("\n")) + "\n\nThat was it.",
        f"Here is the function.\n{CODE}\n\nIt doubles the number.",
        CODE.replace("\n", "\r\n"),
    ],
)
def test_the_same_function_is_found_in_every_wrapping(reply):
    found = extract(reply)
    assert found.code is not None
    assert ast.dump(ast.parse(found.code)) == ast.dump(ast.parse(CODE))


def test_the_longest_snippet_that_python_can_parse_is_the_answer():
    reply = (
        f"```python\nx = 1\n```\n```python\n{CODE}\n```\n```python\ndef broken(:\n    return 'a much longer text'\n```"
    )
    assert extract(reply).code == CODE


def test_other_languages_do_not_win_over_python():
    assert (
        extract(f"```bash\necho_a_long_command = 1; echo_another_long_command = 2\n```\n```python\n{CODE}\n```").code
        == CODE
    )


def test_tags_win_over_fences_outside_them():
    reply = f"```python\n{CODE}\n\n{CODE}\n```\n<code>{CODE}</code>"
    assert extract(reply).code == CODE


@pytest.mark.parametrize(
    "line", ['"""Wrap in <code>a</code> tags."""', 'return f"<code>{html}</code>"', "a = '<code>'"]
)
@pytest.mark.parametrize(
    "around",
    ["```python\n{}\n```", "```python\n{}", "In `<code>` tags:\n~~~\n{}\n~~~", "<answer>\n```\n{}\n```</answer>"],
)
def test_tags_that_a_program_writes_are_not_around_code(line, around):
    program = f"def show(a):\n    {line}\n    return eval(a)"
    found = extract(around.format(program))
    assert (found.code, found.line) == (program, around.split("{}")[0].count("\n") + 1)


@pytest.mark.parametrize("end", ["\n```\n</code>", "\n```</code>", "\n</code>"])
def test_a_fence_in_a_tag_ends_with_it_and_another_tag_may_follow(end):
    longer = f"{CODE}\n\n{CODE}"
    assert extract(f"<code>\n```python\nx = 1{end}\n<code>{longer}</code>").code == longer


def test_a_method_is_dedented_and_its_line_is_that_of_the_reply():
    found = extract("Replace the method:\n```python\n    def f(self):\n        return 1\n```")
    assert (found.code, found.line) == ("def f(self):\n    return 1", 3)


def test_unparseable_code_says_what_python_says():
    found = extract("```python\ndef f(:\n    pass\n```")
    assert found.unparseable
    assert found.code is None
    assert found.reason.startswith("SyntaxError: invalid syntax")


@pytest.mark.parametrize("reply", ["", "Sure", "I cannot help with that.", "one, two", "\n\n", "``` ```"])
def test_words_are_no_code(reply):
    found = extract(reply)
    assert (found.code, found.reason, found.unparseable) == (None, "no code", False)


@pytest.mark.parametrize("text", ["x = 1\0", "x = '\ud800'", "(" * 300, "-" * 20_000 + "1", "x = " + "9" * 5000])
def test_what_python_cannot_read_is_a_reason_and_no_exception(text):
    assert parse(text).code is None
    assert parse(text).reason


PIECES = [
    "```",
    "~~~",
    "python",
    "\n",
    "    ",
    "<code>",
    "</code>",
    "def f():",
    "return 1",
    "x = (",
    "- ",
    "1. ",
    "> ",
    "\0",
    "\ud800",
]


@given(st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5))).map("".join)))
def test_no_text_raises_and_what_is_found_parses(text):
    found = extract(text)
    assert (found.code is None) == bool(found.reason)
    if found.code is not None:
        ast.parse(found.code)
