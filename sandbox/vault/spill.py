"""Rows on their way to their partitions, in bounded memory.

Batches gather in memory.  When they are more than a limit they are sorted by bucket, sealed bucket by bucket under a
key that lives in this object alone, and written to a file without a name in the vault's directory.  The file has no
name so that the system frees it however the process ends; the key is never written, so what was spilled can never be
read again by anybody.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import pyarrow as pa

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.suites import Suite
from sandbox.errors import SealBrokenError
from sandbox.vault.blobs import storage_error
from sandbox.vault.columns import UNIT_COLUMN
from sandbox.vault.placing import UnitHash, bucket_of

FINE_BUCKETS = 256
LIMIT_BYTES = 128 << 20
_SPILL_NAME = "spill"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sealed rows of one bucket: its number in the file's order, where it lies and how long it is."""

    number: int
    start: int
    length: int


class RowBuffer:
    """Take batches in, give the rows of a range of buckets back; a context manager.

    Args:
        suite: the suite that spilled runs are sealed in.
        directory: where the nameless file may be made.
        hashing: the keyed hash of units.
        schema: the schema of every batch.
        buckets: how many buckets rows are spread over.
        limit_bytes: how many bytes of batches are held in memory before a run is spilled.
    """

    def __init__(
        self, suite: Suite, directory: Path, hashing: UnitHash, schema: pa.Schema, *, buckets: int, limit_bytes: int
    ) -> None:
        self._suite = suite
        self._directory = directory
        self._hashing = hashing
        self._schema = schema
        self._buckets = buckets
        self._limit_bytes = limit_bytes
        self._key = random_bytes(suite.key_bytes)
        self._batches: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._pieces: list[list[_Piece]] = [[] for _ in range(buckets)]
        self._sealed_count = 0
        self._file: IO[bytes] | None = None
        self._last: pa.Table | None = None
        self._last_starts = np.zeros(buckets + 1, dtype=np.int64)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spilled(self) -> bool:
        """Whether any run went to the disk."""
        return self._file is not None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take one batch in; spill when the limit is reached.

        Raises:
            StorageError: the disk refused a spilled run.
        """
        # One schema for all, whatever a source says about nullability: the values were checked.
        self._batches.append(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        self.rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_bytes >= self._limit_bytes:
            self._spill()

    def finish(self) -> None:
        """End the intake; what is still in memory is sorted and stays there."""
        self._last, self._last_starts = self._sorted_run()

    def rows_of(self, first: int, end: int) -> pa.Table:
        """Return the rows of the buckets `first` to `end` - 1, from the disk and from memory."""
        tables = [self._read(bucket, piece) for bucket in range(first, end) for piece in self._pieces[bucket]]
        if self._last is not None:
            start, stop = int(self._last_starts[first]), int(self._last_starts[end])
            tables.append(self._last.slice(start, stop - start))
        return pa.concat_tables(tables) if tables else self._schema.empty_table()

    def close(self) -> None:
        """Drop the rows, the file and its key."""
        if self._file is not None:
            self._file.close()
        self._file, self._last, self._key = None, None, b""
        self._batches.clear()
        self._pieces = [[] for _ in range(self._buckets)]

    def _sorted_run(self) -> tuple[pa.Table, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        table = pa.Table.from_batches(self._batches, schema=self._schema)
        self._batches.clear()
        self._held_bytes = 0
        buckets = bucket_of(self._hashing.of(table.column(UNIT_COLUMN).to_numpy()), self._buckets)
        order = np.argsort(buckets, kind="stable")
        starts = np.zeros(self._buckets + 1, dtype=np.int64)
        np.cumsum(np.bincount(buckets, minlength=self._buckets), out=starts[1:])
        return table.combine_chunks().take(pa.array(order)), starts

    def _spill(self) -> None:
        run, starts = self._sorted_run()
        try:
            if self._file is None:
                # Closed in close(): the file lives as long as this object.
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            for bucket in range(self._buckets):
                start, stop = int(starts[bucket]), int(starts[bucket + 1])
                if stop > start:
                    self._write(self._file, bucket, run.slice(start, stop - start))
        except OSError as error:
            raise storage_error(error, _SPILL_NAME) from error

    def _write(self, file: IO[bytes], bucket: int, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(rows)
        number = self._sealed_count
        self._sealed_count += 1
        sealed = self._suite.seal(self._key, _nonce(number), bytes(sink.getvalue()), _aad(bucket, number))
        start, view = file.tell(), memoryview(sealed)
        while view:
            view = view[file.write(view) :]
        self._pieces[bucket].append(_Piece(number, start, len(sealed)))

    def _read(self, bucket: int, piece: _Piece) -> pa.Table:
        if self._file is None:
            raise AssertionError("a closed buffer has no pieces")
        try:
            self._file.seek(piece.start)
            sealed = self._file.read(piece.length)
        except OSError as error:
            raise storage_error(error, _SPILL_NAME) from error
        try:
            raw = self._suite.unseal(self._key, _nonce(piece.number), sealed, _aad(bucket, piece.number))
        except SealBrokenError as error:
            raise SealBrokenError(
                "rows that were set aside while sealing came back changed from the disk",
                hint="check the medium and seal again; nothing was stored",
                code="vault.seal_broken.block",
                object=_SPILL_NAME,
            ) from error
        return pa.ipc.open_stream(pa.BufferReader(raw)).read_all()


def _nonce(number: int) -> bytes:
    """Return a nonce that no other piece has; the key is used for this one file."""
    return number.to_bytes(12, "big")


def _aad(bucket: int, number: int) -> bytes:
    return b"saggar/spill/1" + struct.pack(">IQ", bucket, number)
