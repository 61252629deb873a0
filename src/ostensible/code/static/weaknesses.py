"""What the numbers of ruff's `S` and bandit's `B` rules stand for; both number alike."""

NOISE = frozenset(
    {101, 104, 105, 106, 107, 110, 112, 113, 311, 603, 604, 606, 607, 609, 703}
    | set(range(401, 416))  # imports: that a module is named says nothing of its use
)
"""Rules that fire on secure code about as often as on vulnerable code, or on style. They are not run."""

BLIND = frozenset({102, 202, 301, 307, 308, 310, 601, 602, 605, 608, 704} | set(range(313, 320)))
"""Rules about what flow judges knowing the value: they see a call or a text, whatever is in it. Not enough alone.

So too those about the standard library's XML parsers, which read no external entities since Python 3.7.1, and with
Expat 2.4.1 or later no entities that multiply.
"""

_NUMBERS = {
    "CWE-22": (202,),
    "CWE-78": (601, 602, 605),
    "CWE-79": (308, 701, 702, 704),
    "CWE-89": (608, 610, 611),
    "CWE-94": (102, 307),
    "CWE-295": (323, 501, 507),
    "CWE-319": (312, 321),
    "CWE-327": (303, 304, 305, 324, 502, 503, 504, 505, 508, 509),
    "CWE-377": (108, 306, 325),
    "CWE-489": (201,),
    "CWE-502": (301, 302, 506, 614),
    "CWE-611": (313, 314, 315, 316, 317, 318, 319, 320),
    "CWE-732": (103,),
    "CWE-918": (310,),
    "CWE-1336": (612,),
}
BY_NUMBER = {number: cwe for cwe, numbers in _NUMBERS.items() for number in numbers}

_FAMILIES = (
    (22, 23, 36, 73, 434),
    (78, 74, 77, 88),
    (79, 80, 116),
    (89, 564),
    (94, 95, 96, 1336),
    (91, 643),
    (113, 93, 644),
    (117, 532),
    (347, 345, 287),
    (798, 259, 321),
    (614, 1004, 1275),
    (409, 770, 789),
    (327, 326, 328, 329, 759, 760, 916),
    (338, 330, 331, 334),
    (611, 776, 827),
    (732, 276, 281),
    (1333, 400, 730),
)
_FAMILY = {f"CWE-{one}": f"CWE-{members[0]}" for members in _FAMILIES for one in members}


def family(cwe: str) -> str:
    """The weakness that stands for its near relations, so that tools that name them differently can agree."""
    return _FAMILY.get(cwe, cwe)
