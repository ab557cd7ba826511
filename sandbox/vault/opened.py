"""An opened snapshot: the columns asked for, and the keys of no others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import pyarrow as pa

from sandbox.crypto.suites import Suite
from sandbox.errors import KeyUnavailableError, SealBrokenError, StorageError
from sandbox.vault.blobs import BlobStore, LocalBlobStore
from sandbox.vault.columns import type_of
from sandbox.vault.handed import HandedColumn, HandedPartition
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
        wanted = self._wanted(columns)
        return pa.table({column: self._column(number, column, dictionaries=dictionaries) for column in wanted})

    def hand(self, number: int, columns: Sequence[str]) -> HandedPartition:
        """Return what somebody else needs to open some of the opened columns of one partition: their keys, no others.

        Raises:
            KeyUnavailableError: as `partition` does.
        """
        manifest, facts, handed = self._manifest, self._facts[number], []
        for column in self._wanted(columns):
            sealed, position = self._objects[number, column], self._positions[column]
            lengths, key = facts.lengths[position], self._keys[sealed.object_id]
            kind = manifest.columns[position][1]
            handed.append(HandedColumn(column, kind, sealed.name, sealed.length, lengths, key))
        return HandedPartition(manifest.dataset, manifest.snapshot, number, manifest.suite, facts.chunks, tuple(handed))

    def sealed_descriptor(self, column: HandedColumn) -> int:
        """Return a file descriptor from which the sealed bytes of a handed column can be read; the caller closes it.

        Raises:
            SealBrokenError: the object is missing or has another length.
            StorageError: the medium refuses.
        """
        with _must_be_there(column.name):
            descriptor = _descriptor(self._blobs, column.name)
        found = os.fstat(descriptor).st_size
        if found != column.length:
            os.close(descriptor)
            raise _wrong_length(column.name, found, column.length)
        return descriptor

    def sealed_bytes(self, column: HandedColumn) -> bytes:
        """Return the sealed bytes of a handed column; raise as `sealed_descriptor` does."""
        with os.fdopen(self.sealed_descriptor(column), "rb") as file:
            return file.read()

    def _wanted(self, columns: Sequence[str] | None) -> Sequence[str]:
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
        return wanted

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
    with _must_be_there(sealed.name):
        raw = blobs.get(sealed.name)
    if len(raw) != sealed.length:
        raise _wrong_length(sealed.name, len(raw), sealed.length)
    return raw


def _descriptor(blobs: BlobStore, name: str) -> int:
    """Return a descriptor of a blob's bytes: of its file, or of a copy in memory where the blob lies elsewhere."""
    if isinstance(blobs, LocalBlobStore):
        return blobs.descriptor(name)
    descriptor = os.memfd_create("sealed", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(blobs.get(name))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextmanager
def _must_be_there(name: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        if error.code != "vault.storage.missing":
            raise
        raise SealBrokenError(
            f"the sealed object `{name}` is missing",
            hint="restore the object from a backup and run the check again",
            code="vault.seal_broken.missing",
            object=name,
        ) from error


def _wrong_length(name: str, found: int, expected: int) -> SealBrokenError:
    return SealBrokenError(
        f"the sealed object `{name}` is {found} bytes long, expected {expected}",
        hint="restore the object from a backup and run the check again",
        code="vault.seal_broken.length",
        object=name,
    )
