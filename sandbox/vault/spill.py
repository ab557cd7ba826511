"""Rows on their way to their partitions, in bounded memory.

Rows gather in runs, packed narrow (`lanes.py`).  A full run is sorted by bucket and kept.  When the runs are
more than a limit they are sealed, bucket by bucket, under a key that lives in this object alone, and written to a file
without a name in the vault's directory.  The file has no name so that the system frees it however the process ends; the
key is never written, so what was spilled can never be read again by anybody.
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
from sandbox.model.description import DatasetDescription
from sandbox.vault.arrays import arrow_of, numpy_of
from sandbox.vault.blobs import storage_error
from sandbox.vault.lanes import Packing, Rows, Words
from sandbox.vault.placing import Hashes, UnitHash, bucket_of

FINE_BUCKETS = 256
LIMIT_BYTES = 384 << 20
_RUN_ROWS = 1 << 16  # so few that they stay in a processor's cache while they are sorted
_SPILL_NAME = "spill"


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows sorted by bucket; those of bucket b are from `starts[b]` to `starts[b + 1]`."""

    rows: Rows
    starts: list[int]

    def bucket(self, number: int) -> Rows:
        """Return the rows of one bucket, without a copy."""
        return self.rows.slice(self.starts[number], self.starts[number + 1])

    def words(self, number: int) -> Words:
        """Return the packed words of one bucket, without a copy."""
        return self.rows.words[self.starts[number] : self.starts[number + 1]]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sealed rows of one bucket: how many, its number in the file's order, where it lies and how long it is."""

    rows: int
    number: int
    start: int
    length: int


class RowBuffer:
    """Take batches in, give the rows of each bucket back; a context manager.

    Args:
        suite: the suite that spilled rows are sealed in.
        directory: where the nameless file may be made.
        hashing: the keyed hash of units.
        description: the dataset; every batch has its columns, checked.
        buckets: how many buckets rows are spread over.
        limit_bytes: how many bytes of rows are held in memory before they are spilled.
    """

    def __init__(
        self,
        suite: Suite,
        directory: Path,
        hashing: UnitHash,
        description: DatasetDescription,
        *,
        buckets: int,
        limit_bytes: int,
    ) -> None:
        self._suite = suite
        self._directory = directory
        self._hashing = hashing
        self.packing = Packing(description)
        self._buckets = buckets
        self._limit_bytes = limit_bytes
        self._key = random_bytes(suite.key_bytes)
        self._fresh: list[tuple[Rows, Hashes]] = []
        self._fresh_rows = 0
        self._fresh_bytes = 0
        self._runs: list[_Run] = []
        self._held_bytes = 0
        self._counts = np.zeros(buckets, dtype=np.int64)
        self._pieces: list[list[_Piece]] = [[] for _ in range(buckets)]
        self._sealed_count = 0
        self._file: IO[bytes] | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spilled(self) -> bool:
        """Whether any rows went to the disk."""
        return self._file is not None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take one checked batch in; spill when the limit is reached.

        Raises:
            StorageError: the disk refused.
        """
        for start in range(0, batch.num_rows, _RUN_ROWS):
            self._add(batch.slice(start, _RUN_ROWS))

    def finish(self) -> None:
        """End the intake; what is still in memory stays there."""
        self._end_run()

    def count(self, number: int) -> int:
        """Return how many rows a bucket has."""
        return int(self._counts[number])

    def bucket(self, number: int) -> Rows:
        """Return the rows of one bucket, from the disk and from memory."""
        parts = [self._read(number, piece) for piece in self._pieces[number]]
        return self.packing.join([*parts, self._held(number)])

    def _held(self, number: int) -> Rows:
        """Return the rows of one bucket from memory."""
        if any(run.rows.beside for run in self._runs):
            return self.packing.join([run.bucket(number) for run in self._runs])
        return self.packing.join_words([run.words(number) for run in self._runs])

    def close(self) -> None:
        """Drop the rows, the file and its key."""
        if self._file is not None:
            self._file.close()
        self._file, self._key = None, b""
        self._fresh.clear()
        self._runs.clear()
        self._counts[:] = 0
        self._pieces = [[] for _ in range(self._buckets)]

    def _add(self, batch: pa.RecordBatch) -> None:
        hashes = self._hashing.of(numpy_of(batch.column(0)))
        rows = self.packing.pack(batch, hashes)
        self._fresh.append((rows, hashes))
        self._fresh_rows += len(rows)
        self._fresh_bytes += rows.bytes
        self.rows += len(rows)
        if self._fresh_rows >= _RUN_ROWS or self._held_bytes + self._fresh_bytes >= self._limit_bytes:
            self._end_run()
        if self._held_bytes >= self._limit_bytes:
            self._spill()

    def _end_run(self) -> None:
        """Sort what is fresh by bucket."""
        if not self._fresh:
            return
        rows = self.packing.join([rows for rows, _ in self._fresh])
        hashes = self._fresh[0][1] if len(self._fresh) == 1 else np.concatenate([each for _, each in self._fresh])
        buckets = bucket_of(hashes, self._buckets)
        self._fresh.clear()
        self._fresh_rows = self._fresh_bytes = 0
        counts = np.bincount(buckets, minlength=self._buckets)
        self._counts += counts
        starts = [0, *np.cumsum(counts).tolist()]
        run = _Run(rows.take(np.argsort(buckets, kind="stable")), starts)
        self._runs.append(run)
        self._held_bytes += run.rows.bytes

    def _spill(self) -> None:
        try:
            if self._file is None:
                # Closed in close(): the file lives as long as this object.
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            for bucket in range(self._buckets):
                rows = self._held(bucket)
                if len(rows):
                    self._write(self._file, bucket, rows)
        except OSError as error:
            raise storage_error(error, _SPILL_NAME) from error
        self._runs.clear()
        self._held_bytes = 0

    def _write(self, file: IO[bytes], bucket: int, rows: Rows) -> None:
        number = self._sealed_count
        self._sealed_count += 1
        sealed = self._suite.seal(self._key, _nonce(number), _to_arrow(rows), _aad(bucket, number))
        start, view = file.tell(), memoryview(sealed)
        while view:
            view = view[file.write(view) :]
        self._pieces[bucket].append(_Piece(len(rows), number, start, len(sealed)))

    def _read(self, bucket: int, piece: _Piece) -> Rows:
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
        return _from_arrow(raw)


def _to_arrow(rows: Rows) -> memoryview:
    """Return rows as an Arrow stream: the packed words, and what travels beside them by its column's number."""
    words = arrow_of(rows.words.reshape(-1))
    arrays = {"words": pa.FixedSizeListArray.from_arrays(words, rows.words.shape[1])}
    arrays |= {str(number): values for number, values in rows.beside.items()}
    batch = pa.RecordBatch.from_pydict(arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _from_arrow(raw: bytes) -> Rows:
    """Return the rows of an authenticated stream."""
    batch = pa.ipc.open_stream(pa.BufferReader(raw)).read_next_batch()
    words = numpy_of(batch.column(0).flatten()).reshape(batch.num_rows, -1)
    return Rows(words, {int(name): batch.column(name) for name in batch.schema.names[1:]})


def _nonce(number: int) -> bytes:
    """Return a nonce that no other piece has; the key is used for this one file."""
    return number.to_bytes(12, "big")


def _aad(bucket: int, number: int) -> bytes:
    return b"saggar/spill/1" + struct.pack(">IQ", bucket, number)
