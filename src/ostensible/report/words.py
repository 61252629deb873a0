"""Numbers and hostile text, put into words once for plots and page alike."""

import math
import sys
import unicodedata

MINUS = "\N{MINUS SIGN}"
_EPSILON = 1e-9
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def percent(share: float) -> str:
    """Write a share in [0, 1] as a percentage that says 0% or 100% only where that is exact."""
    return f"{_digits(share)}%"


def interval(low: float, high: float) -> str:
    """Write an interval of shares, as in `93 to 99%`."""
    return f"{_digits(low)} to {_digits(high)}%"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, signed."""
    amount = _signed(difference)
    return f"{amount} {'point' if amount[1:] == '1' else 'points'}"


def points_interval(low: float, high: float) -> str:
    """Write an interval of differences, signed, as in `+2 to +6 points`."""
    return f"{_signed(low)} to {_signed(high)} points"


def number(value: float) -> str:
    """Write a number with four significant digits."""
    return f"{value:.4g}".replace("-", MINUS)


def above(threshold: float) -> str:
    """Write a threshold as what scores have to be above, with four significant digits, rounded up.

    A threshold may be the next number after a score that is not flagged: what is written must not flag that.
    """
    beneath = math.nextafter(threshold, -math.inf)
    if abs(beneath) < sys.float_info.min:
        return "above 0"
    step = 10.0 ** (math.floor(math.log10(abs(beneath))) - 3)
    written = f"{beneath:.4g}"
    return f"above {written if float(written) >= beneath else f'{beneath + step:.4g}'}".replace("-", MINUS)


def coefficient(value: float) -> str:
    """Write a coefficient in [-1, 1] with two digits after the point."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def duration(seconds: float) -> str:
    """Write a wall time: `0.42 s`, `6 min 52 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: int) -> str:
    """Write an amount of memory in decimal units."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def visible(text: str) -> str:
    """Make control characters visible, so that text cannot hide, reverse or end what stands beside it.

    Line feeds and tabs stay. ASCII controls become their pictures (NUL is `␀`). Format characters (bidi marks,
    zero-width ones), lone surrogates and line separators become their code points, as in `⟨U+202E⟩`.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # most are, and asking that is fast
        return text
    return "".join(_picture(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _digits(share: float) -> str:
    if share <= _EPSILON or share >= 1 - _EPSILON:
        return f"{100 * share:.0f}"
    texts = (f"{100 * share:.{digits}f}" for digits in range(3))
    return next((t for t in texts if 0 < float(t) < 100), "<0.01" if share < 0.5 else ">99.99")


def _signed(difference: float) -> str:
    if abs(difference) <= _EPSILON:
        return "0"
    return f"{'+' if difference > 0 else MINUS}{_digits(abs(difference))}"
