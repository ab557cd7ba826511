"""An opened snapshot: the columns asked for, and the keys of no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa

from sandbox.crypto.suites import Suite
from sandbox.errors import KeyUnavailableError, SealBrokenError, StorageError
from sandbox.vault.blobs import BlobStore
from sandbox.vault.columns import type_of
from sandbox.vault.manifest import PartitionFacts, SealedObject, SnapshotManifest
from sandbox.vault.segment import SegmentPlace, open_segment


class OpenedSnapshot:
    """The handle on some columns of a snapshot; a context manager.

    It holds the object keys of its columns and nothing from which another key follows: not the snapshot key, not the
    keyring.  `partition` may be called from several threads at once.

    Args:
        manifest: the verified manifest.
        columns: the columns' names, `_unit` and `_rank` first.
        suite: the snapshot's suite.
        blobs: where the objects are.
        facts: the manifest's sealed part, opened.
        keys: the object keys by object id.
    """

    def __init__(
        self,
        manifest: SnapshotManifest,
        columns: tuple[str, ...],
        suite: Suite,
        blobs: BlobStore,
        facts: tuple[PartitionFacts, ...],
        keys: Mapping[str, bytes],
    ) -> None:
        self._manifest = manifest
        self._columns = columns
        self._suite = suite
        self._blobs = blobs
        self._facts = facts
        self._keys = dict(keys)
        self._objects = {(sealed.partition, sealed.column): sealed for sealed in manifest.objects}
        self._positions = {name: position for position, (name, _) in enumerate(manifest.columns)}
        self._types = {name: type_of(kind) for name, kind in manifest.columns}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenedSnapshot({self._manifest.snapshot[:12]}, columns={self._columns})"

    @property
    def manifest(self) -> SnapshotManifest:
        """The verified manifest."""
        return self._manifest

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, `_unit` and `_rank` first."""
        return self._columns

    @property
    def facts(self) -> tuple[PartitionFacts, ...]:
        """Rows and units of each partition: exact, so never to leave the trusted side."""
        return self._facts

    @property
    def held_objects(self) -> frozenset[str]:
        """The ids of the objects whose keys are held."""
        return frozenset(self._keys)

    @property
    def partition_count(self) -> int:
        """How many partitions the snapshot has."""
        return self._manifest.partitions

    def partitions(self, columns: Sequence[str] | None = None, *, dictionaries: bool = False) -> Iterator[pa.Table]:
        """Yield one table a partition, in order, one in memory at a time; see `partition` for what it takes."""
        for number in range(self._manifest.partitions):
            yield self.partition(number, columns, dictionaries=dictionaries)

    def partition(self, number: int, columns: Sequence[str] | None = None, *, dictionaries: bool = False) -> pa.Table:
        """Return one partition: every row of its units, clustered by unit, ranks ascending within a unit.

        Args:
            number: the partition, from 0.
            columns: which of the opened columns, in the order wanted; by default all of them.
            dictionaries: hand text over as it is stored, with dictionaries where it has few values: a query engine
                then counts numbers in place of text.  The values are the same.

        Raises:
            SealBrokenError: an object is missing, or is not what was sealed.
            KeyUnavailableError: the snapshot was closed (`vault.key_unavailable.closed`), or a column is none of those
                that were opened (`vault.key_unavailable.column`).
        """
        if self._closed:
            raise KeyUnavailableError(
                "the snapshot was closed and its keys were dropped",
                hint="open it again",
                code="vault.key_unavailable.closed",
            )
        wanted = self._columns if columns is None else columns
        for column in wanted:
            if column not in self._columns:
                raise KeyUnavailableError(
                    f"the column `{column}` was not opened, so its keys are not here",
                    hint=f"opened are {', '.join(self._columns)}",
                    code="vault.key_unavailable.column",
                )
        return pa.table({column: self._column(number, column, dictionaries=dictionaries) for column in wanted})

    def close(self) -> None:
        """Drop the keys.  Calling it twice does nothing more.

        The interpreter cannot overwrite a `bytes`; the process that opens snapshots must forbid swap and core dumps.
        """
        self._closed = True
        self._keys.clear()

    def _column(self, number: int, column: str, *, dictionaries: bool) -> pa.ChunkedArray:
        sealed = self._objects[number, column]
        facts = self._facts[number]
        place = SegmentPlace(self._manifest.dataset, self._manifest.snapshot, number, column)
        return open_segment(
            self._suite,
            self._keys[sealed.object_id],
            place,
            read_object(self._blobs, sealed),
            chunks=facts.chunks,
            lengths=facts.lengths[self._positions[column]],
            expected=self._types[column],
            name=sealed.name,
            dictionaries=dictionaries,
        )


def read_object(blobs: BlobStore, sealed: SealedObject) -> bytes:
    """Return the bytes of a sealed object, which must be there and have the length that the manifest says."""
    try:
        raw = blobs.get(sealed.name)
    except StorageError as error:
        if error.code != "vault.storage.missing":
            raise
        raise SealBrokenError(
            f"the sealed object `{sealed.name}` is missing",
            hint="restore the object from a backup and run the check again",
            code="vault.seal_broken.missing",
            object=sealed.name,
        ) from error
    if len(raw) != sealed.length:
        raise SealBrokenError(
            f"the sealed object `{sealed.name}` is {len(raw)} bytes long, expected {sealed.length}",
            hint="restore the object from a backup and run the check again",
            code="vault.seal_broken.length",
            object=sealed.name,
        )
    return raw
