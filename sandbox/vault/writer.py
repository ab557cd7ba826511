"""Sealing a snapshot: rows in, sealed objects and a signed manifest out.

Order of writes: the two halves of the snapshot key, the objects, the manifest.  A snapshot exists from the moment its
manifest does; whatever happens before that leaves the vault as it was, but for objects that nothing refers to, which
`check` reports and `collect` removes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.suites import digest_by
from sandbox.crypto.suites import suite as suite_of
from sandbox.errors import InputError, VaultError
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.keys import SuiteName
from sandbox.vault.arrays import arrow_of
from sandbox.vault.blobs import BlobStore
from sandbox.vault.columns import (
    RANK_COLUMN,
    SYSTEM_COLUMNS,
    UNIT_COLUMN,
    BatchCheck,
    batch_schema,
    check_row_count,
    type_name,
)
from sandbox.vault.keyring import SIDES, Keyring, SnapshotKey
from sandbox.vault.manifest import (
    MAX_PARTITIONS,
    UNSIGNED,
    PartitionFacts,
    SealedObject,
    SnapshotManifest,
    check_signer,
    manifest_name,
    seal_facts,
    sign_manifest,
)
from sandbox.vault.placing import UnitHash, order_and_rank, ranking_generator
from sandbox.vault.segment import CHUNK_ROWS, Rooms, SegmentPlace, chunk_rows, seal_segment
from sandbox.vault.spill import FINE_BUCKETS, LIMIT_BYTES, RowBuffer
from sandbox.vault.unit_keys import ensure_unit_keys
from sandbox.vault.unit_rows import UnitRowLimits
from sandbox.vault.unpacked import Unpacked

PARTITION_ROWS = 1 << 20
MIN_PARTITIONS = 4
_MAX_STRING_BYTES = 1 << 30
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class SealRequest:
    """What to seal and how.

    Attributes:
        description: the dataset.
        suite: the suite of the snapshot's objects.
        signer: the sandbox's key.
        owner: who keeps the owner half of the snapshot key.
        at: the time that goes into the manifest.
        partitions: how many partitions, or None to choose by the rows seen.
        chunk_rows: rows of a chunk at most.
        limit_bytes: bytes of batches held in memory at most, before they are spilled sealed.
        parent: the digest of the snapshot that this one follows, or None for the first.
        generation: its place in the chain of the dataset's snapshots, from 0.
    """

    description: DatasetDescription
    suite: SuiteName
    signer: PrivateKey
    owner: str
    at: str
    partitions: int | None = None
    chunk_rows: int = CHUNK_ROWS
    limit_bytes: int = LIMIT_BYTES
    parent: Digest | None = None
    generation: int = 0


@dataclass(slots=True)
class _Draft:
    """A snapshot while it is written."""

    request: SealRequest
    key: SnapshotKey
    generator: np.random.Generator = field(default_factory=lambda: ranking_generator(random_bytes(32)))
    rooms: Rooms = field(default_factory=Rooms)
    objects: list[SealedObject] = field(default_factory=list)
    facts: list[PartitionFacts] = field(default_factory=list)


class SnapshotWriter:
    """Seals snapshots into a blob store.

    Args:
        keyring: the vault's keys.
        blobs: where objects and manifests go.
        directory: where the nameless spill file may be made.
    """

    def __init__(self, keyring: Keyring, blobs: BlobStore, directory: Path) -> None:
        self._keyring = keyring
        self._blobs = blobs
        self._directory = directory

    def seal(
        self, request: SealRequest, batches: Iterable[pa.RecordBatch], progress: Callable[[int], None] | None
    ) -> SnapshotManifest:
        """Seal every row of `batches` and return the signed manifest, stored.

        Raises:
            InputError: a batch is not as described, or the request is malformed; no object is stored.
            StorageError: the disk refused; what was written is removed again as far as the disk allows.
        """
        _check_request(request)
        suite = suite_of(request.suite)
        # One suite for all, whatever the snapshot's: datasets of one kind must agree where a unit is.
        keys = ensure_unit_keys(self._keyring, request.description.unit.kind)
        hashing = UnitHash(keys.partition, suite_of(SuiteName.GM))
        buckets = request.partitions or FINE_BUCKETS
        limit, unit_rows = request.limit_bytes, UnitRowLimits(request.description)
        description, check = request.description, BatchCheck(request.description)
        with RowBuffer(suite, self._directory, hashing, description, buckets=buckets, limit_bytes=limit) as rows:
            for batch in batches:
                check.check(batch)
                check_row_count(request.description, rows.rows + batch.num_rows)
                unit_rows.add(batch)
                rows.add(batch)
                if progress is not None:
                    progress(rows.rows)
            unit_rows.finish()
            rows.finish()
            return self._write(request, rows, buckets)

    def _write(self, request: SealRequest, rows: RowBuffer, buckets: int) -> SnapshotManifest:
        snapshot = random_bytes(16).hex()
        partitions = request.partitions or choose_partitions(rows.rows)
        draft: _Draft | None = None
        manifest: SnapshotManifest | None = None
        try:
            key = self._keyring.create_snapshot_key(request.description.dataset, snapshot, request.owner, request.suite)
            draft = _Draft(request, key)
            width = buckets // partitions
            spans = [range(partition * width, (partition + 1) * width) for partition in range(partitions)]
            counts = [rows.count(bucket) for bucket in range(buckets)]
            most = max(sum(counts[bucket] for bucket in span) for span in spans)
            unpacked = Unpacked(rows.packing, most, max(counts))
            for partition, span in enumerate(spans):
                unpacked.clear()
                self._write_partition(draft, partition, rows, span, unpacked)
            manifest = _signed_manifest(draft, partitions)
            self._blobs.put(manifest_name(manifest.digest()), manifest.to_bytes())
        except Exception:
            self._withdraw(snapshot, draft, manifest)
            raise
        return manifest

    def _write_partition(
        self, draft: _Draft, partition: int, rows: RowBuffer, buckets: range, unpacked: Unpacked
    ) -> None:
        packing = rows.packing
        for bucket in buckets:
            found = rows.bucket(bucket)
            _, ranks = order_and_rank(packing.hashes(found), draft.generator, partial(unpacked.put, found))
            unpacked.keep(ranks)
        chunks = chunk_rows(len(unpacked.ranks), limit=draft.request.chunk_rows)
        lengths = [
            self._write_object(draft, partition, UNIT_COLUMN, arrow_of(unpacked.units), chunks),
            self._write_object(draft, partition, RANK_COLUMN, arrow_of(unpacked.ranks), chunks),
        ]
        for number, name in enumerate(batch_schema(draft.request.description).names[1:]):
            values = _wide(unpacked.column(number))
            lengths.append(self._write_object(draft, partition, name, values, chunks))
        draft.facts.append(PartitionFacts(chunks, int(np.count_nonzero(unpacked.ranks == 1)), tuple(lengths)))

    def _write_object(
        self, draft: _Draft, partition: int, column: str, values: pa.Array, chunks: tuple[int, ...]
    ) -> tuple[int, ...]:
        suite, dataset = draft.key.suite, draft.request.description.dataset
        object_id, secret = random_bytes(16).hex(), random_bytes(suite.key_bytes)
        place = SegmentPlace(dataset, draft.key.snapshot, partition, column)
        raw, lengths = seal_segment(suite, secret, place, values, chunks, draft.rooms)
        digest = digest_by(suite, raw)
        wrapped = draft.key.wrap_object(object_id, column, secret)
        sealed = SealedObject(partition, column, object_id, len(raw), digest, wrapped)
        draft.objects.append(sealed)
        self._blobs.put(sealed.name, raw)
        return lengths

    def _withdraw(self, snapshot: str, draft: _Draft | None, manifest: SnapshotManifest | None) -> None:
        """Take back what was written, the manifest first; what the disk keeps is garbage that `check` reports."""
        names = [] if manifest is None else [manifest_name(manifest.digest())]
        names += [] if draft is None else [sealed.name for sealed in draft.objects]
        for name in names:
            with suppress(VaultError):
                if self._blobs.exists(name):
                    self._blobs.delete(name)
        for side in SIDES:
            with suppress(VaultError):
                self._keyring.shred(snapshot, side)


def choose_partitions(rows: int) -> int:
    """Return a power of two from 4 to 256, such that a partition has about a million rows at most.

    The number of partitions is in the manifest in clear, so it tells the order of magnitude of the rows and no more.
    """
    partitions = MIN_PARTITIONS
    while partitions < FINE_BUCKETS and rows > partitions * PARTITION_ROWS:
        partitions *= 2
    return partitions


def _signed_manifest(draft: _Draft, partitions: int) -> SnapshotManifest:
    request, key = draft.request, draft.key
    description = request.description
    types = {UNIT_COLUMN: "int64", RANK_COLUMN: "int32"}
    types |= {field.name: type_name(field.type) for field in batch_schema(description)}
    manifest = SnapshotManifest(
        dataset=description.dataset,
        description=description.digest(),
        suite=request.suite,
        snapshot=key.snapshot,
        at=request.at,
        owner=request.owner,
        partitions=partitions,
        columns=tuple(types.items()),
        objects=tuple(draft.objects),
        facts=seal_facts(key, description.dataset, draft.facts),
        signature=UNSIGNED,
        parent=request.parent,
        generation=request.generation,
    )
    return sign_manifest(manifest, request.signer)


def _wide(values: pa.Array) -> pa.Array:
    """Return long text with wide offsets, which Parquet does not tell apart."""
    return (
        values.cast(pa.large_string())
        if pa.types.is_string(values.type) and values.nbytes > _MAX_STRING_BYTES
        else values
    )


def _check_request(request: SealRequest) -> None:
    check_signer(request.signer)
    if request.partitions is not None and not 1 <= request.partitions <= MAX_PARTITIONS:
        raise InputError(
            f"a snapshot of {request.partitions} partitions is out of range",
            hint=f"choose from 1 to {MAX_PARTITIONS}, or leave it out",
            code="input.seal.partitions",
        )
    names = [column.name for column in request.description.columns]
    if not names or len(set(names)) < len(names) or not set(names).isdisjoint(SYSTEM_COLUMNS):
        raise InputError(
            f"the description of `{request.description.dataset}` has no columns, or two of one name",
            hint=f"name each column once; {' and '.join(SYSTEM_COLUMNS)} are the vault's own",
            code="input.seal.columns",
        )
    if not request.owner or not _TIME.fullmatch(request.at):
        raise InputError(
            "a snapshot needs an owner and a time",
            hint="name who keeps the owner half, and write the time as `2027-01-31T08:00:00Z`",
            code="input.seal.request",
        )
