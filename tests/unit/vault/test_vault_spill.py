"""Rows on their way to partitions: bounded, sealed, and gone afterwards."""

import errno
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.suites import suite
from sandbox.errors import SealBrokenError, StorageError
from sandbox.model.description import DatasetDescription
from sandbox.model.keys import SuiteName
from sandbox.vault.columns import batch_schema
from sandbox.vault.placing import UnitHash, bucket_of
from sandbox.vault.spill import RowBuffer


def _buffer(directory: Path, description: DatasetDescription, name: SuiteName, *, limit_bytes: int) -> RowBuffer:
    chosen = suite(name)
    hashing = UnitHash(b"k" * 32, chosen)
    return RowBuffer(chosen, directory, hashing, description, buckets=8, limit_bytes=limit_bytes)


def _table(rows: RowBuffer, description: DatasetDescription, bucket: int) -> pa.Table:
    """Return a bucket in storage types."""
    found, packing = rows.bucket(bucket), rows.packing
    assert len(found) == rows.count(bucket)
    columns = [pa.array(packing.units(found)), *(packing.values(found, number) for number in range(len(packing.lanes)))]
    return pa.table(columns, schema=batch_schema(description))


@pytest.mark.parametrize("limit_bytes", [1, 10_000, 1 << 30])
def test_every_row_comes_back_in_its_bucket(
    tmp_path: Path, description: DatasetDescription, tools: SimpleNamespace, suite_name: SuiteName, limit_bytes: int
) -> None:
    batches = tools.make_batches(1000, size=130)
    hashing = UnitHash(b"k" * 32, suite(suite_name))
    found = []
    with _buffer(tmp_path, description, suite_name, limit_bytes=limit_bytes) as rows:
        for batch in batches:
            rows.add(batch)
        rows.finish()
        assert rows.rows == 1000
        assert rows.spilled == (limit_bytes < 1 << 30)
        for number in range(8):
            table = _table(rows, description, number)
            hashes = hashing.of(table.column("_unit").to_numpy())
            assert set(bucket_of(hashes, 8).tolist()) <= {number}
            assert rows.packing.hashes(rows.bucket(number)).tolist() == (hashes & np.uint64(2**32 - 1)).tolist()
            found.append(table.append_column("_rank", pa.nulls(len(table))))
    assert tools.row_multiset(found) == tools.source_multiset(batches)


def test_no_rows_are_an_empty_table(tmp_path: Path, description: DatasetDescription, suite_name: SuiteName) -> None:
    with _buffer(tmp_path, description, suite_name, limit_bytes=1) as rows:
        rows.finish()
        assert [rows.count(number) for number in range(8)] == [0] * 8
        assert _table(rows, description, 3).num_rows == 0


def test_what_is_spilled_is_sealed_and_has_no_name(
    tmp_path: Path, description: DatasetDescription, tools: SimpleNamespace, suite_name: SuiteName
) -> None:
    with _buffer(tmp_path, description, suite_name, limit_bytes=1) as rows:
        for batch in tools.make_batches(500):
            rows.add(batch)
        assert list(tmp_path.iterdir()) == []
        assert rows._file is not None
        rows._file.seek(0)
        spilled = rows._file.read()
    assert len(spilled) > 10_000
    for marker in ("海淀区".encode(), b"note-", b"district", b"_unit", b"ARROW", b"\xff\xff\xff\xff"):
        assert marker not in spilled


def test_a_spilled_byte_that_changes_is_noticed(
    tmp_path: Path, description: DatasetDescription, tools: SimpleNamespace, suite_name: SuiteName
) -> None:
    with _buffer(tmp_path, description, suite_name, limit_bytes=1) as rows:
        for batch in tools.make_batches(500):
            rows.add(batch)
        rows.finish()
        assert rows._file is not None
        rows._file.seek(100)
        octet = rows._file.read(1)
        rows._file.seek(100)
        rows._file.write(bytes([octet[0] ^ 1]))
        with pytest.raises(SealBrokenError, match="came back changed from the disk") as caught:
            [rows.bucket(number) for number in range(8)]
        assert (caught.value.code, caught.value.details["object"]) == ("vault.seal_broken.block", "spill")


def test_a_full_disk_while_spilling_is_a_storage_error(
    tmp_path: Path,
    description: DatasetDescription,
    tools: SimpleNamespace,
    suite_name: SuiteName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with (
        _buffer(tmp_path, description, suite_name, limit_bytes=1) as rows,
        pytest.raises(StorageError, match="the disk has no room for `spill`") as caught,
    ):
        rows.add(tools.make_batches(10)[0])
    assert caught.value.code == "vault.storage.full"


def test_a_closed_buffer_holds_no_key_and_no_rows(
    tmp_path: Path, description: DatasetDescription, tools: SimpleNamespace, suite_name: SuiteName
) -> None:
    rows = _buffer(tmp_path, description, suite_name, limit_bytes=1)
    rows.add(tools.make_batches(10)[0])
    file = rows._file
    rows.close()
    assert file is not None
    assert file.closed
    assert rows._key == b""
    assert [len(rows.bucket(number)) for number in range(8)] == [0] * 8
