"""Whether a text is what a rule minds."""

from ostensible.code.static.guards import Guards, guards_of
from ostensible.code.static.rules import Rule
from ostensible.code.static.texts import ORIGINS, Hole, Text, holes


def matches(rule: Rule, text: Text, known: Guards) -> bool:
    """Whether a rule about calls minds an argument, given what tests have shown."""
    if rule.origin == "constant":
        fixed = all(isinstance(part, str) or part.origin == "constant" for part in text)
        return fixed and rule.text.search(_shown(text)) is not None
    return offends(rule, text, known)


def offends(rule: Rule, text: Text, known: Guards) -> bool:
    """Whether a text has a part that a rule minds, given what tests have shown."""
    if not holes(text) or not rule.text.search(_shown(text)):
        return False
    before, most = "", ORIGINS.index(rule.base or ORIGINS[-1])
    for part in text:
        if isinstance(part, str):
            before += part
            continue
        if _minded(rule, part, known) and rule.before.search(before):
            return True
        if ORIGINS.index(part.origin) > most:
            return False
        before += "\0"
    return False


def _minded(rule: Rule, part: Hole, known: Guards) -> bool:
    if ORIGINS.index(part.origin) < ORIGINS.index(rule.origin or "unknown"):
        return False
    if rule.passed and not any(rule.passed.search(name) for name in part.through):
        return False
    if any(rule.cleansed_by.search(name) for name in part.through):
        return False
    return not (rule.guarded and guards_of(part, known).intersection(rule.guarded))


def _shown(text: Text) -> str:
    return "".join("\0" if isinstance(part, Hole) else part for part in text)
