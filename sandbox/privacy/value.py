"""One value of an answer, exact, with its error."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

LARGEST = 10**300
"""Beyond this a value does not fit a float, and is not given."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an answer, exact, with its error; all None where it cannot be given."""

    amount: Fraction | None
    standard_error: Fraction | None
    lower: Fraction | None
    upper: Fraction | None


MISSING = Value(None, None, None, None)
