"""Reply text -> Transcript, and back."""

from ostensible.types import Transcript

OPEN = "<think>"
CLOSE = "</think>"


def split(reply: str) -> Transcript:
    """Take a reply apart into thoughts and answer.

    The opening tag may be missing, because templates such as R1-Distill's put it into the prompt. Only the first
    closing tag counts: what a model writes after it is its answer, tags included.

    Args:
        reply: All that the model wrote, without its end token.
    """
    thoughts, closed, answer = reply.partition(CLOSE)
    thoughts = thoughts.strip().removeprefix(OPEN).strip()
    return Transcript(cot=thoughts, answer=answer.strip() if closed else None)


def join(cot: str, answer: str, *, opened: bool) -> str:
    """Write a reply whose `split` gives `cot` and `answer` back (both without surrounding white space).

    Args:
        cot: The thoughts.
        answer: What follows them.
        opened: The prompt already ends in the opening tag, so the reply must not repeat it.
    """
    return f"{'' if opened else OPEN + chr(10)}{cot}\n{CLOSE}\n\n{answer}"
