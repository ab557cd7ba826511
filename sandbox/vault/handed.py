"""One table of one partition, as it is handed to whoever opens it: places, borders of chunks, and a few object keys.

Whoever gets a `HandedPartition` and the sealed bytes can open these columns of this partition and nothing else: no
other key follows from an object key.  It travels as canonical bytes, so that it can go to another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sandbox.crypto.suites import suite
from sandbox.errors import CanonicalError, SealBrokenError
from sandbox.model.keys import SuiteName
from sandbox.vault.columns import type_names, type_of
from sandbox.vault.segment import SegmentPlace, open_segment

_FIELDS = {"dataset", "snapshot", "suite", "partition", "chunks", "columns"}
_COLUMN_FIELDS = {"column", "type", "object", "bytes", "lengths", "key"}
_BROKEN = {
    "commitment": "was sealed for another place or under another key",
    "block": "was changed after it was sealed",
    "length": "does not have the length that its manifest says",
    "content": "does not hold the rows that its manifest says",
}


@dataclass(frozen=True, slots=True)
class HandedColumn:
    """One sealed column and its key.

    Attributes:
        column: its name.
        kind: the manifest's word for its storage type.
        name: the name of the blob.
        length: the bytes of the sealed object.
        lengths: the bytes of each chunk in it.
        key: the object key.
    """

    column: str
    kind: str
    name: str
    length: int
    lengths: tuple[int, ...]
    key: bytes

    def __repr__(self) -> str:
        return f"HandedColumn({self.column}, {self.name})"

    def to_record(self) -> dict[str, Any]:
        """Return the column as a record; it holds the key."""
        return {
            "column": self.column,
            "type": self.kind,
            "object": self.name,
            "bytes": self.length,
            "lengths": list(self.lengths),
            "key": self.key.hex(),
        }

    @classmethod
    def parse(cls, record: Any) -> HandedColumn:
        """Return the column that a record writes."""
        if set(record) != _COLUMN_FIELDS or record["type"] not in type_names():
            raise ValueError("not a handed column")
        key, lengths = bytes.fromhex(record["key"]), tuple(int(length) for length in record["lengths"])
        return cls(str(record["column"]), record["type"], str(record["object"]), int(record["bytes"]), lengths, key)


@dataclass(frozen=True, slots=True)
class HandedPartition:
    """The columns of one partition that somebody may open.

    Attributes:
        dataset: the dataset's identifier; with the next two it is bound into every chunk's key.
        snapshot: the snapshot's id.
        partition: its number.
        suite: the suite of the objects.
        chunks: the rows of each chunk.
        columns: which columns, in the order of the table.
    """

    dataset: str
    snapshot: str
    partition: int
    suite: SuiteName
    chunks: tuple[int, ...]
    columns: tuple[HandedColumn, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the partition as a record; it holds the keys."""
        return {
            "dataset": self.dataset,
            "snapshot": self.snapshot,
            "suite": self.suite.value,
            "partition": self.partition,
            "chunks": list(self.chunks),
            "columns": [column.to_record() for column in self.columns],
        }

    @classmethod
    def parse(cls, record: Any) -> HandedPartition:
        """Return the partition that a record writes; strict about its fields.

        Raises:
            CanonicalError: it is none.
        """
        try:
            if set(record) != _FIELDS:
                raise ValueError("not a handed partition")
            return cls(
                str(record["dataset"]),
                str(record["snapshot"]),
                int(record["partition"]),
                SuiteName(record["suite"]),
                tuple(int(rows) for rows in record["chunks"]),
                tuple(HandedColumn.parse(column) for column in record["columns"]),
            )
        except (KeyError, TypeError, ValueError):
            # Without the cause: a record holds keys.
            raise CanonicalError(
                "a handed partition is malformed", hint="it is written by `HandedPartition.to_record`"
            ) from None

    def open(self, sealed: Sequence[bytes], *, dictionaries: bool = False) -> pa.Table:
        """Return the table.

        Args:
            sealed: the bytes of each column's object, in the order of `columns`.
            dictionaries: hand text over as it is stored, with dictionaries where it has few values.

        Raises:
            SealBrokenError: an object is not what was sealed.
        """
        chosen = suite(self.suite)
        opened = {}
        for column, raw in zip(self.columns, sealed, strict=True):
            opened[column.column] = open_segment(
                chosen,
                column.key,
                SegmentPlace(self.dataset, self.snapshot, self.partition, column.column),
                raw,
                chunks=self.chunks,
                lengths=column.lengths,
                expected=type_of(column.kind),
                name=column.name,
                dictionaries=dictionaries,
            )
        return pa.table(opened)


def seal_broken_from(code: str, name: str) -> SealBrokenError | None:
    """Return the error that another process met while it opened the object `name`, or None if there is no such error.

    Only the code comes from there; the words are ours.
    """
    family, _, what = code.rpartition(".")
    if family != SealBrokenError.code or what not in _BROKEN:
        return None
    return SealBrokenError(
        f"the sealed object `{name}` {_BROKEN[what]}",
        hint="restore the object from a backup and run the check again",
        code=code,
        object=name,
    )
