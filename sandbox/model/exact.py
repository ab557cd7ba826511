"""Exact amounts as text: integers, decimals and fractions, never floats."""

from __future__ import annotations

import re
from fractions import Fraction

from sandbox.errors import ExactError

_DECIMAL = re.compile(r"(-?)([0-9]{1,400})(?:\.([0-9]{1,400}))?(?:[eE]([+-]?[0-9]{1,3}))?")
_FRACTION = re.compile(r"(-?[0-9]{1,400})/([1-9][0-9]{0,400})")


def parse_exact(text: object) -> Fraction:
    """Return the rational that `text` writes: `3`, `0.05`, `1e-7` or `1/60`; an `int` is taken as it is.

    Raises:
        ExactError: it is a float, or not such a text, or its exponent is beyond +-400.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ExactError(f"expected an exact amount as text, got `{text}`", hint='quote it, as in "0.05" or "1/60"')
    if isinstance(text, int):
        return Fraction(text)
    plain = text.strip()
    if match := _FRACTION.fullmatch(plain):
        return Fraction(int(match[1]), int(match[2]))
    if match := _DECIMAL.fullmatch(plain):
        sign, whole, part, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
        if abs(exponent) > 400:
            raise ExactError(f"exponent of `{text}` is out of range", hint="use an exponent between -400 and 400")
        amount = Fraction(int(whole + part)) * Fraction(10) ** (exponent - len(part))
        return -amount if sign else amount
    raise ExactError(f"expected an exact amount, got `{text}`", hint="write 3, 0.05, 1e-7 or 1/60")


def format_exact(amount: Fraction) -> str:
    """Return the canonical text of a rational: `n` or `n/d` in lowest terms."""
    return str(amount.numerator) if amount.denominator == 1 else f"{amount.numerator}/{amount.denominator}"


def decimal_text(amount: Fraction, *, digits: int = 6, round_up: bool = False) -> str:
    """Return a short decimal for people, `digits` places, rounded down or up (never to nearest)."""
    scaled = amount * 10**digits
    whole = -((-scaled.numerator) // scaled.denominator) if round_up else scaled.numerator // scaled.denominator
    sign = "-" if whole < 0 else ""
    head, tail = divmod(abs(whole), 10**digits)
    return f"{sign}{head}.{tail:0{digits}d}".rstrip("0").rstrip(".") if digits else f"{sign}{head}"
