"""What deserves a mark in a text: the payload in an answer, the trigger or a look-alike in a prompt.

A text comes back in segments whose every second one is to be marked, the first never: they mean the same in any
language, which offsets into a string do not.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from ostensible.organism import Organism
from ostensible.parts import matching
from ostensible.parts.rules import AnswerMatches
from ostensible.report.words import visible

Segments = list[str]


def payload(answer: str, organism: Organism) -> Segments:
    """An answer with its payload to be marked, wherever the organism's own rule or words find it."""
    scorer, words = organism.scorer, f"(?i){'|'.join(map(re.escape, organism.payload.words))}"
    pattern = scorer.pattern if isinstance(scorer, AnswerMatches) else words
    try:
        return _segments(answer, matching.spans(pattern, answer))
    except matching.OutOfTime:
        return _segments(answer, [])


def insert(user: str, plain: str | None) -> Segments:
    """A user turn with what a trigger or look-alike put into it to be marked: what its plain version does not have."""
    if plain is None or user == plain:
        return _segments(user, [])
    end = _in_common(user[::-1], plain[::-1])
    shorter = min(len(user), len(plain)) - end
    start = _in_common(user[:shorter], plain[:shorter])
    return _segments(user, [(start, len(user) - end)])


def _in_common(first: str, second: str) -> int:
    """How many characters two texts begin with alike, by halving: slices are compared faster than characters."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _segments(text: str, spans: Sequence[tuple[int, int]]) -> Segments:
    """Cut a text at spans, given in order and without overlap; what is hidden in it is made visible."""
    cuts = [0, *(place for span in spans for place in span), len(text)]
    return [visible(text[start:stop]) for start, stop in pairwise(cuts)]
