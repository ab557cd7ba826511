"""What a plan's statement asks of the rows it runs over, besides its columns.

Sealed partitions hold the rows of a unit together, ranks ascending.  A statement may rest on that order, on numbers in
place of the texts of its groups, on a mark at the first row of a unit in a group, and on a mark at a unit's first rows
that pass a filter; whoever runs it makes sure of all four, whatever the partition looks like
(`sandbox.compute.arrange`).  They change what a question costs, never its integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError

GROUP_COLUMN = "_group"
FIRST_COLUMN = "_first"
KEPT_COLUMN = "_kept"
PLACE_COLUMN = "_place"


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands beside the columns of a plan.

    Attributes:
        clustered: rows of a unit stand together and their ranks ascend.
        groups: text columns whose values together `_group` numbers; rows of the result begin with that number, which
            stands for their texts.
        firsts: `_first` says of each row of at most this rank whether it is the first of its unit in its group; 0
            where nothing asks for it.
        few: `_kept` says of each row whether it is among the first so many of its unit that pass `filter`; 0 where
            nothing asks for it.
        filter: a condition in SQL over the partition's columns.
    """

    clustered: bool = False
    groups: tuple[str, ...] = ()
    firsts: int = 0
    few: int = 0
    filter: str = ""

    def __post_init__(self) -> None:
        if self.firsts and not (self.clustered and self.groups):
            raise _malformed()
        if (self.few and not self.clustered) or bool(self.few) is not bool(self.filter):
            raise _malformed()

    def to_record(self) -> dict[str, Any]:
        """Return the layout as a canonical record."""
        return {
            "clustered": self.clustered,
            "groups": list(self.groups),
            "firsts": self.firsts,
            "few": self.few,
            "filter": self.filter,
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Layout:
        """Return the layout that a record writes; strict about its fields."""
        if not isinstance(record, dict) or set(record) != {"clustered", "groups", "firsts", "few", "filter"}:
            raise _malformed()
        groups = tuple(str(name) for name in record["groups"])
        few, firsts = int(record["few"]), int(record["firsts"])
        return cls(record["clustered"] is True, groups, firsts, few, str(record["filter"]))


def _malformed() -> CanonicalError:
    return CanonicalError("a layout is malformed", hint="it is written by `Layout.to_record`")


PLAIN = Layout()
"""Any order, and nothing beside the columns."""
