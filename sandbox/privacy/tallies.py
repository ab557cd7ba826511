"""What a statement counts or sums of the rows of a number, written so that an array gives the same integers.

The statement stays in the plan as what these mean (`sandbox.compute.tally` counts them, a test holds the two together).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError

EXACT = 2**53
"""Bounds, and whatever is computed of one row, stay within this: a double holds every whole number up to it."""

COUNTED = ("rows", "units")


@dataclass(frozen=True, slots=True)
class Count:
    """A count of rows.

    Attributes:
        of: all of a number's `rows`, or its `units` by their first rows.
        present: the columns none of which is NULL in a row that counts.
    """

    of: str
    present: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.of not in COUNTED or (self.present and self.of != "rows"):
            raise malformed()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self.present

    def to_record(self) -> dict[str, Any]:
        """Return the count as a canonical record."""
        return {"of": self.of, "present": list(self.present)}


@dataclass(frozen=True, slots=True)
class Factor:
    """A column of whole numbers, held within bounds first, times a number, plus a number.

    Attributes:
        column: its name.
        lower, upper: what it is held within.
        times, plus: what it is multiplied by, and what is added then.
    """

    column: str
    lower: int
    upper: int
    times: int
    plus: int

    def __post_init__(self) -> None:
        steps = (self.lower, self.upper, self.times, self.plus, self.reach)
        if self.lower > self.upper or any(abs(step) > EXACT for step in steps):
            raise malformed()

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest number that it can be."""
        low, high = sorted((self.lower * self.times, self.upper * self.times))
        return low + self.plus, high + self.plus

    @property
    def reach(self) -> int:
        """The largest magnitude of any step of it."""
        return max(abs(self.lower * self.times), abs(self.upper * self.times)) + abs(self.plus)

    def to_record(self) -> dict[str, Any]:
        """Return the factor as a canonical record."""
        names = ("lower", "upper", "times", "plus")
        return {"column": self.column, **{name: str(getattr(self, name)) for name in names}}

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Factor:
        """Return the factor that a record writes; strict about its fields."""
        if set(record) != {"column", "lower", "upper", "times", "plus"}:
            raise malformed()
        return cls(str(record["column"]), *(int(record[name]) for name in ("lower", "upper", "times", "plus")))


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of a product of columns, held within bounds last of all, less a centre; a row with a NULL adds nothing.

    Attributes:
        factors: what is multiplied.
        lower, upper: what the product is held within; the sensitivity rests on them.
        centre: what is subtracted then.
    """

    factors: tuple[Factor, ...]
    lower: int
    upper: int
    centre: int

    def __post_init__(self) -> None:
        steps = (math.prod(factor.reach for factor in self.factors), self.lower, self.upper, self.centre, self.reach)
        if not self.factors or self.lower > self.upper or any(abs(step) > EXACT for step in steps):
            raise malformed()

    @property
    def reach(self) -> int:
        """The largest magnitude that a row may add."""
        return max(abs(self.lower - self.centre), abs(self.upper - self.centre))

    @property
    def is_line(self) -> bool:
        """Whether it has one factor, which cannot leave the bounds of the product."""
        low, high = self.factors[0].ends
        return len(self.factors) == 1 and self.lower <= low and high <= self.upper

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(dict.fromkeys(factor.column for factor in self.factors))

    def to_record(self) -> dict[str, Any]:
        """Return the sum as a canonical record."""
        ends = {name: str(getattr(self, name)) for name in ("lower", "upper", "centre")}
        return {"factors": [factor.to_record() for factor in self.factors], **ends}


Tally = Count | Sum


def parse_tally(record: Mapping[str, Any]) -> Tally:
    """Return the count or sum that a record writes; strict about its fields.

    Raises:
        CanonicalError: it is neither.
    """
    if set(record) == {"of", "present"}:
        return Count(str(record["of"]), tuple(map(str, record["present"])))
    if set(record) != {"factors", "lower", "upper", "centre"}:
        raise malformed()
    factors = tuple(map(Factor.parse, record["factors"]))
    return Sum(factors, *(int(record[name]) for name in ("lower", "upper", "centre")))


def malformed() -> CanonicalError:
    """Return the error of a layout that says what no layout says."""
    return CanonicalError("a layout is malformed", hint="it is written by `Layout.to_record`")
