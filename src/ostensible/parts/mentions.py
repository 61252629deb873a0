"""Whether a text speaks of something, by the words for it."""

import re
from collections.abc import Iterable


def speaks_of(text: str, words: Iterable[str]) -> bool:
    """One of the words stands in the text, as a word of its own and in any case."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)
