"""What a plan's statement asks of the rows it runs over, besides its columns.

Sealed partitions hold the rows of a unit together, ranks ascending.  A statement may ask that a unit's first rows alone
are handed on, which is the bound on its rows; that numbers stand in place of the texts of its groups and of the bins of
a column; and for a mark at the first row of a unit in a group.  Whoever runs it makes sure of all of them, whatever the
partition looks like (`sandbox.compute.arrange`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.privacy.tallies import Count, Tally, malformed, parse_tally

GROUP_COLUMN = "_group"
FIRST_COLUMN = "_first"
PLACE_COLUMN = "_place"

LARGEST = 2**62
"""Ends of bins stay within this, so that 64 bits hold their differences."""
_FIELDS = {"groups", "bins", "few", "filter", "firsts", "carried", "tallies"}


@dataclass(frozen=True, slots=True)
class Bins:
    """Equal bins of a column of whole numbers; rows where it is NULL are in none of them and are left out.

    Attributes:
        column: its name.
        lower, upper: what it is held within first.
        width: how many numbers a bin spans.
    """

    column: str
    lower: int
    upper: int
    width: int

    def __post_init__(self) -> None:
        if not (-LARGEST < self.lower <= self.upper < LARGEST and 0 < self.width <= LARGEST):
            raise malformed()

    @property
    def names(self) -> list[str]:
        """The place of each bin in a plan's only histogram (`vectors.py`)."""
        return [f"0:{index}" for index in range((self.upper - self.lower) // self.width + 1)]

    def to_record(self) -> dict[str, Any]:
        """Return the bins as a canonical record."""
        ends = {"lower": str(self.lower), "upper": str(self.upper), "width": str(self.width)}
        return {"column": self.column, **ends}

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Bins:
        """Return the bins that a record writes; strict about its fields."""
        if set(record) != {"column", "lower", "upper", "width"}:
            raise malformed()
        return cls(str(record["column"]), *(int(record[name]) for name in ("lower", "upper", "width")))


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands beside the columns of a plan.

    Attributes:
        groups: text columns whose values together `_group` numbers; rows of the result begin with that number, which
            stands for their texts.
        bins: bins that `_group` numbers too, behind the texts; or None.
        few: only the first so many rows of each unit, by rank, that pass `filter` are handed on; 0 where all rows are.
        filter: a condition in SQL over the partition's columns; empty where every row passes.
        firsts: whether `_first` is 1 at the first row of a unit in its group, and 0 at its others there.
        carried: the columns of the few rows that the statement reads besides; all columns where all rows are.
        tallies: what the statement counts and sums of each number, in the order of its columns, where it does nothing
            else; empty where it does more.
    """

    groups: tuple[str, ...] = ()
    bins: Bins | None = None
    few: int = 0
    filter: str = ""
    firsts: bool = False
    carried: tuple[str, ...] = ()
    tallies: tuple[Tally, ...] = ()

    def __post_init__(self) -> None:
        if not self.few and (self.filter or self.firsts or self.bins is not None or self.carried):
            raise malformed()
        if self.few < 0 or (self.few and not self.carried and not self.numbers) or (self.firsts and not self.groups):
            raise malformed()
        if self.tallies and not (self.few and self.numbers):
            raise malformed()
        if Count("units") in self.tallies and not self.firsts:
            raise malformed()
        if not {name for tally in self.tallies for name in tally.columns} <= set(self.carried):
            raise malformed()

    @property
    def numbers(self) -> bool:
        """Whether rows of the result begin with a number."""
        return bool(self.groups) or self.bins is not None

    @property
    def clustered(self) -> bool:
        """Whether it rests on rows of a unit that stand together, ranks ascending."""
        return self.firsts or bool(self.filter)

    def to_record(self) -> dict[str, Any]:
        """Return the layout as a canonical record."""
        return {
            "groups": list(self.groups),
            "bins": None if self.bins is None else self.bins.to_record(),
            "few": self.few,
            "filter": self.filter,
            "firsts": self.firsts,
            "carried": list(self.carried),
            "tallies": [tally.to_record() for tally in self.tallies],
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Layout:
        """Return the layout that a record writes; strict about its fields."""
        if not isinstance(record, dict) or set(record) != _FIELDS:
            raise malformed()
        return cls(
            groups=tuple(map(str, record["groups"])),
            bins=None if record["bins"] is None else Bins.parse(record["bins"]),
            few=int(record["few"]),
            filter=str(record["filter"]),
            firsts=record["firsts"] is True,
            carried=tuple(map(str, record["carried"])),
            tallies=tuple(map(parse_tally, record["tallies"])),
        )


PLAIN = Layout()
"""Any order, and nothing beside the columns."""
