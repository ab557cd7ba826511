"""What a plan's statement asks of the rows it runs over, besides its columns.

Sealed partitions hold the rows of a unit together, ranks ascending.  A statement may rest on that order, on numbers in
place of the texts of its groups, and on a mark at the first row of a unit in a group; whoever runs it makes sure of all
three, whatever the partition looks like (`sandbox.compute.arrange`).  They change what a question costs, never its
integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError

GROUP_COLUMN = "_group"
FIRST_COLUMN = "_first"


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands beside the columns of a plan.

    Attributes:
        clustered: rows of a unit stand together and their ranks ascend.
        groups: text columns whose values together `_group` numbers; rows of the result begin with that number, which
            stands for their texts.
        firsts: `_first` says of each row of at most this rank whether it is the first of its unit in its group; 0
            where nothing asks for it.
    """

    clustered: bool = False
    groups: tuple[str, ...] = ()
    firsts: int = 0

    def __post_init__(self) -> None:
        assert self.firsts == 0 or (self.clustered and self.groups), "the first row of a unit needs an order"

    def to_record(self) -> dict[str, Any]:
        """Return the layout as a canonical record."""
        return {"clustered": self.clustered, "groups": list(self.groups), "firsts": self.firsts}

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Layout:
        """Return the layout that a record writes; strict about its fields."""
        if not isinstance(record, dict) or set(record) != {"clustered", "groups", "firsts"}:
            raise CanonicalError("a layout is malformed", hint="it is written by `Layout.to_record`")
        groups = tuple(str(name) for name in record["groups"])
        clustered, firsts = record["clustered"] is True, int(record["firsts"])
        if firsts and not (clustered and groups):
            raise CanonicalError("a layout is malformed", hint="it is written by `Layout.to_record`")
        return cls(clustered, groups, firsts)


PLAIN = Layout()
"""Any order, and nothing beside the columns."""
