"""What a question reads besides its first table: the tables behind its JOINs, as plans and logs name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Reads = tuple[tuple[str, tuple[str, ...]], ...]
"""`(dataset, columns)`, each dataset once."""


TABLES = ("t", "u", "v", "w")
"""What a statement calls the tables that it reads, in the order of the question: so many datasets can be joined."""


@dataclass(frozen=True, slots=True)
class JoinedTable:
    """A table behind a JOIN.

    Attributes:
        dataset, table: which table.
        columns: the columns that are read of it, sorted.
    """

    dataset: str
    table: str
    columns: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the table as a canonical record."""
        return {"dataset": self.dataset, "table": self.table, "columns": list(self.columns)}


@dataclass(frozen=True, slots=True)
class Joined:
    """What a question joins to its first table.

    Attributes:
        tables: one for each JOIN, in order; their partitions are called `u`, `v` and `w`.
        words: for people, how rows of all sides meet.
        drops_rows: whether a cap may keep rows from meeting.
        exchanges: whether a unit that leaves some of the datasets leaves other joined rows in their place.
    """

    tables: tuple[JoinedTable, ...]
    words: str
    drops_rows: bool
    exchanges: bool

    def to_record(self) -> dict[str, Any]:
        """Return the join as a canonical record."""
        return {
            "tables": [table.to_record() for table in self.tables],
            "words": self.words,
            "drops_rows": self.drops_rows,
            "exchanges": self.exchanges,
        }


def reads_of(dataset: str, columns: tuple[str, ...], joined: Joined | None) -> Reads:
    """Return the columns that are read of each dataset, in order; one that stands in several places stands once."""
    found = {dataset: set(columns)}
    for table in () if joined is None else joined.tables:
        found.setdefault(table.dataset, set()).update(table.columns)
    return tuple((name, tuple(sorted(read))) for name, read in found.items())
