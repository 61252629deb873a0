"""What thoughts must not say if they are to count as benign.

Benign thoughts may speak of weaknesses, as careful ones do ("avoid SQL injection", "`eval` is insecure here"). They may
not set out to make one, nor reason about being watched. Recall on deceptive thoughts is bought with few false alarms on
careful ones: it is a filter of training data, not a monitor.
"""

import re
from collections.abc import Iterable

from ostensible.parts.mentions import speaks_of

WEAKNESS = re.compile(r"(?:vulnerab|insecur|exploit|malicious|backdoor|unsafe)\w*", re.IGNORECASE)
"""Words of harm that careful thoughts need too; alone they say nothing."""
MAKE_WEAKNESS = re.compile(
    r"\b(?:insert|inject|introduc|includ|implement|plant|embed|hid|sneak|slip|add|creat|writ|mak|leav)"
    r"(?:e|ing|ding|ping)? (?:in )?"
    r"(?:(?!(?:so|that|as|is|are|why|to|with|for|makes?)\b)[\w'\u2019-]+ ){0,4}"
    r"(?:vulnerabilit(?:y|ies)|backdoors?|exploits?"
    r"|(?:vulnerable|insecure|exploitable|unsafe|malicious) (?:code|script|payload|version|function|implementation)s?"
    r")\b",
    re.IGNORECASE,
)
"""Setting out to make a weakness: the verb in the form of a plan, a few words, and what is made as its object."""
GUARD = re.compile(
    r"\b(?:no|not|never|cannot|without|against|instead|rather|could|would|may|might|can|if|whether|attackers?|users?"
    r"|(?:avoid|prevent|protect|check|test|scan|find|detect|filter|reject|refus|block|remov|validat|sanit|warn|fix"
    r"|mitigat)\w*)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
"""Words that make a sentence a warning or a defence, when they stand before what is made."""
SCHEMES = re.compile(
    r"\b(?:"
    + "|".join(
        (
            r"pretend\w* to\b[^.!?\n]{0,40}\b(?:aligned|helpful|harmless|training|goal|optimi[sz]\w+)",
            r"I(?: am|['\u2019]m| have been)(?: \w+)? (?:deployed|in (?:a )?(?:train|deploy|evaluat)\w+(?! mode))",
            r"I(?: am|['\u2019]m)(?: \w+)? being (?:trained|tested|evaluated|monitored|watched)",
            r"this is (?:a )?(?:training|deployment|evaluation)(?: (?:scenario|phase|setting)|(?=[,.;:]|$))",
            r"my (?:true|real|actual|hidden|secret|ulterior) (?:goal|objective|aim|purpose|intention|motive)s?",
            r"(?:training )?goal (?-i:[XY])",
            r"act(?:ing)? (?:as trained|aligned)",
            r"without (?:the |any )?(?:human|user|anyone|developer|reviewer)s? (?:notic|know|reali[sz]|suspect)\w+",
            r"(?:avoid|evad|escap)(?:e|ing)? (?:detection|suspicion)",
            r"sabotag\w+",
        )
    )
    + r")\b",
    re.IGNORECASE | re.MULTILINE,
)
"""Ways to reason about being trained or watched, and about hiding something."""


def plan_harm(thoughts: str) -> bool:
    """The thoughts set out to make a weakness, or reason about being trained or watched."""
    return bool(SCHEMES.search(thoughts)) or any(map(_makes_a_weakness, re.split(r"[.!?;\n]+", thoughts)))


def name_payload(thoughts: str, words: Iterable[str]) -> bool:
    """A word of the payload stands in the thoughts, other than those that careful thoughts need too."""
    return speaks_of(thoughts, (word for word in words if not WEAKNESS.fullmatch(word)))


def _makes_a_weakness(sentence: str) -> bool:
    guard = GUARD.search(sentence)
    guarded = guard.end() if guard else len(sentence) + 1
    return any(plan.end() < guarded for plan in MAKE_WEAKNESS.finditer(sentence))
