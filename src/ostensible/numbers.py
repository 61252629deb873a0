"""Numbers in prose."""

import re

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?", re.ASCII)


def final_number(text: str) -> str | None:
    """The last number of a text in plain form (`1,200.0` is `1200`), or None where there is none."""
    found = NUMBER.findall(text)
    return plain_number(found[-1]) if found else None


def plain_number(text: str) -> str:
    """Write a number without separators or trailing zeros, so that equal numbers are equal strings."""
    whole, _, fraction = text.strip().replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def ten_times_the_final_number(text: str) -> str | None:
    """A text whose last number is ten times what it was, in plain form, or None where there is none.

    A zero, of which ten times is no other number, becomes 10.
    """
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    bad = _ten_times(plain_number(found[-1][0]))
    return text[: found[-1].start()] + bad + text[found[-1].end() :]


def _ten_times(plain: str) -> str:
    """Move the point of a number in plain form by one digit: exact, however many digits there are."""
    sign, whole, _, fraction = "-" * plain.startswith("-"), *plain.removeprefix("-").partition(".")
    if not (whole + fraction).strip("0"):
        return "10"
    digits = (whole + (fraction[:1] or "0")).lstrip("0") or "0"
    return sign + plain_number(f"{digits}.{fraction[1:]}")
