"""Numbers in prose."""

import re

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def final_number(text: str) -> str | None:
    """The last number of a text in plain form (`1,200.0` is `1200`), or None where there is none."""
    found = NUMBER.findall(text)
    return plain_number(found[-1]) if found else None


def plain_number(text: str) -> str:
    """Write a number without separators or trailing zeros, so that equal numbers are equal strings."""
    whole, _, fraction = text.strip().replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
