"""Chunks and segments: sealed, opened, and refused when they are anything else."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sandbox.crypto.suites import suite
from sandbox.errors import SealBrokenError
from sandbox.model.keys import SuiteName
from sandbox.vault.chunks import BLOCK_BYTES, ChunkContext, open_chunk, seal_chunk
from sandbox.vault.segment import (
    Rooms,
    SegmentPlace,
    chunk_rows,
    encode_column,
    open_segment,
    padded_length,
    seal_segment,
)

PLACE = SegmentPlace("hospital", "a1" * 16, 2, "age")
CONTEXT = ChunkContext("hospital", "a1" * 16, 2, "年龄", 0, 2, 500)
HEAD = 24 + 32


def _open(
    name: SuiteName, raw: bytes, rows: tuple[int, ...], lengths: tuple[int, ...], kind: pa.DataType
) -> pa.ChunkedArray:
    chosen = suite(name)
    key = b"k" * chosen.key_bytes
    return open_segment(chosen, key, PLACE, raw, chunks=rows, lengths=lengths, expected=kind, name="objects/x")


COLUMNS = [
    pa.array([1, None, -(2**63), 2**63 - 1, 5], pa.int64()),
    pa.array(range(1000), pa.int64()),
    pa.array([1, 1, 2, 3, None], pa.int32()),
    pa.array([True, None, False, True, True]),
    pa.array([0, -5, None, 20_000, 7], pa.int32()).cast(pa.date32()),
    pa.array(["海淀区", None, "", "Ж" * 300, "a"]),
    pa.array([], pa.string()),
    pa.array([None, None], pa.string()),
    pa.array([], pa.bool_()),
]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("_unit", pa.array(np.arange(100_000) // 9)),
        ("age", pa.array(np.random.default_rng(1).integers(0, 100, 100_000))),
        ("day", pa.array(np.random.default_rng(1).integers(0, 200, 100_000, dtype="i4")).cast(pa.date32())),
        ("district", pa.array([f"d{i}" for i in range(30)] * 1000).dictionary_encode()),
    ],
)
def test_a_column_whose_dictionary_is_at_hand_is_packed_with_it(name: str, values: pa.Array) -> None:
    raw = encode_column(name, values)
    file = pq.ParquetFile(pa.BufferReader(raw))
    found = file.metadata.row_group(0).column(0)
    assert "RLE_DICTIONARY" in found.encodings
    assert found.compression == "UNCOMPRESSED"
    assert file.read().column(name).combine_chunks().cast(values.type).equals(values)
    assert len(raw) < len(values) * 1.25


@pytest.mark.parametrize("values", COLUMNS, ids=lambda values: f"{values.type}-{len(values)}")
@pytest.mark.parametrize("limit", [2, 1 << 20])
def test_a_column_comes_back(suite_name: SuiteName, values: pa.Array, limit: int) -> None:
    rows = chunk_rows(len(values), limit=limit)
    chosen = suite(suite_name)
    raw, lengths = seal_segment(chosen, b"k" * chosen.key_bytes, PLACE, values, rows, Rooms())
    assert sum(lengths) == len(raw)
    column = _open(suite_name, raw, rows, lengths, values.type)
    assert column.combine_chunks().equals(values)


@pytest.mark.parametrize("file_bytes", [-100_000, 1 << 16], ids=["a room that is too small", "room enough"])
def test_segments_in_the_same_rooms_leave_nothing_of_each_other(
    suite_name: SuiteName, file_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.vault.segment._FILE_BYTES", file_bytes)
    chosen, rooms = suite(suite_name), Rooms()
    key = b"k" * chosen.key_bytes
    for values in (pa.array(["x" * 40_000, "y" * 9_000]), pa.array([1, 2, 3]), *COLUMNS):
        rows = chunk_rows(len(values), limit=2)
        sealed, lengths = seal_segment(chosen, key, PLACE, values, rows, rooms)
        assert _open(suite_name, bytes(sealed), rows, lengths, values.type).combine_chunks().equals(values)
        start = 0
        for number, (each, length) in enumerate(zip(rows, lengths, strict=True)):
            context = PLACE.context(number, len(rows), each)
            payload = open_chunk(chosen, key, context, sealed[start : start + length], name="objects/x")
            used = 8 + int.from_bytes(payload[:8], "big")
            assert payload[used:] == bytes(padded_length(used) - used)
            start += length


@pytest.mark.parametrize(
    ("rows", "limit", "chunks"),
    [(0, 10, (0,)), (1, 10, (1,)), (10, 10, (10,)), (11, 10, (6, 5)), (29, 10, (10, 10, 9))],
)
def test_chunks_are_few_and_even(rows: int, limit: int, chunks: tuple[int, ...]) -> None:
    assert chunk_rows(rows, limit=limit) == chunks


@pytest.mark.parametrize(
    ("name", "values", "encoding"),
    [
        ("cost", pa.array(np.random.default_rng(1).integers(0, 10**6, 100_000)), "BYTE_STREAM_SPLIT"),
        ("noise", pa.array(np.random.default_rng(1).integers(0, 10**9, 100_000)), "PLAIN"),
        ("day", pa.array(np.arange(70_000, dtype="i4")).cast(pa.date32()), "BYTE_STREAM_SPLIT"),
        ("far", pa.array(np.random.default_rng(1).integers(0, 2**40, 100_000)), "BYTE_STREAM_SPLIT"),
        ("age", pa.array(np.arange(100_000) % 100), "BYTE_STREAM_SPLIT"),
        ("flag", pa.array(np.arange(100_000) % 2), "RLE_DICTIONARY"),
        ("district", pa.array(["a", "b"] * 1000), "RLE_DICTIONARY"),
        ("note", pa.array([str(i) for i in range(70_000)]), "PLAIN"),
        ("_unit", pa.array(np.arange(100_000) // 3), "PLAIN"),
    ],
)
def test_a_column_is_encoded_for_what_it_holds(name: str, values: pa.Array, encoding: str) -> None:
    file = pq.ParquetFile(pa.BufferReader(encode_column(name, values)))
    found = file.metadata.row_group(0).column(0)
    assert encoding in found.encodings
    assert file.metadata.num_row_groups == 1
    assert found.compression.startswith("UNCOMPRESSED" if name == "noise" else "LZ4")
    assert found.statistics is None
    stored = file.read().column(name).combine_chunks()
    assert stored.cast(values.type).equals(values)
    assert (found.physical_type == "INT32") == (name in {"cost", "noise", "day", "age", "flag"})


@pytest.mark.parametrize("values", COLUMNS, ids=lambda values: f"{values.type}-{len(values)}")
def test_only_a_column_with_missing_values_stores_levels(values: pa.Array) -> None:
    column = pq.ParquetFile(pa.BufferReader(encode_column("cost", values))).schema.column(0)
    assert column.max_definition_level == bool(values.null_count)


def test_only_64_bit_numbers_may_be_stored_in_32_bits(suite_name: SuiteName) -> None:
    chosen, rows = suite(suite_name), (3,)
    key = b"k" * chosen.key_bytes
    raw, lengths = seal_segment(chosen, key, PLACE, pa.array([1, None, -(2**31)], pa.int32()), rows, Rooms())
    assert _open(suite_name, raw, rows, lengths, pa.int64()).to_pylist() == [1, None, -(2**31)]
    with pytest.raises(SealBrokenError) as caught:
        _open(suite_name, raw, rows, lengths, pa.date32())
    assert caught.value.code == "vault.seal_broken.content"


def test_padding_blurs_the_length_and_costs_little() -> None:
    lengths = [padded_length(length) for length in range(20_000)]
    assert all(padded >= length for length, padded in enumerate(lengths))
    assert lengths == sorted(lengths)
    assert max((padded - length) / length for length, padded in enumerate(lengths) if length) < 0.12
    assert [padded_length(9), padded_length(1 << 20), padded_length((1 << 20) + 1)] == [
        10,
        1 << 20,
        (1 << 20) + (1 << 15),
    ]
    assert len({padded_length(length) for length in range(1 << 19, 1 << 20, 97)}) <= 33


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_payload_of_any_length_comes_back(suite_name: SuiteName, length: int) -> None:
    chosen = suite(suite_name)
    key, payload = b"k" * chosen.key_bytes, (bytes(range(256)) * (length // 256 + 1))[:length]
    sealed = seal_chunk(chosen, key, CONTEXT, payload)
    assert len(sealed) == HEAD + length + 16 * (length // BLOCK_BYTES + 1)
    assert open_chunk(chosen, key, CONTEXT, sealed, name="objects/x") == payload


def test_the_same_payload_never_seals_alike(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    sealed = {seal_chunk(chosen, b"k" * chosen.key_bytes, CONTEXT, b"payload") for _ in range(5)}
    assert len({each[:HEAD] for each in sealed}) == len({each[HEAD:] for each in sealed}) == 5


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"dataset": "hospita"},
        {"snapshot": "b2" * 16},
        {"partition": 3},
        {"column": "年"},
        {"number": 1},
        {"count": 3},
        {"rows": 501},
        {"dataset": "hospital\x00", "snapshot": "1" + "a1" * 15},
    ],
    ids=str,
)
def test_a_chunk_opens_in_its_place_only(suite_name: SuiteName, elsewhere: dict[str, object]) -> None:
    chosen = suite(suite_name)
    key = b"k" * chosen.key_bytes
    sealed = seal_chunk(chosen, key, CONTEXT, b"payload")
    with pytest.raises(
        SealBrokenError, match="`objects/x` was sealed for another place or under another key"
    ) as caught:
        open_chunk(chosen, key, replace(CONTEXT, **elsewhere), sealed, name="objects/x")
    assert caught.value.code == "vault.seal_broken.commitment"
    assert caught.value.details["object"] == "objects/x"


def test_a_chunk_does_not_open_under_another_key(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    sealed = seal_chunk(chosen, b"k" * chosen.key_bytes, CONTEXT, b"payload")
    with pytest.raises(SealBrokenError) as caught:
        open_chunk(chosen, b"l" * chosen.key_bytes, CONTEXT, sealed, name="objects/x")
    assert caught.value.code == "vault.seal_broken.commitment"


def test_every_flipped_bit_of_a_chunk_is_noticed(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    key = b"k" * chosen.key_bytes
    sealed = seal_chunk(chosen, key, CONTEXT, b"payload")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(SealBrokenError) as caught:
            open_chunk(chosen, key, CONTEXT, bytes(changed), name="objects/x")
        assert caught.value.code == f"vault.seal_broken.{'commitment' if place < HEAD else 'block'}"


def test_blocks_cannot_be_dropped_swapped_or_added(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    key, step = b"k" * chosen.key_bytes, BLOCK_BYTES + 16
    sealed = seal_chunk(chosen, key, CONTEXT, bytes(2 * BLOCK_BYTES + 10))
    first, second, last = sealed[HEAD : HEAD + step], sealed[HEAD + step : HEAD + 2 * step], sealed[HEAD + 2 * step :]
    forms = {
        "length": [
            sealed[:HEAD] + first + second,
            sealed[:HEAD],
            sealed[:20],
            b"",
            sealed[:-11],
            sealed + bytes(step - 26),
        ],
        "block": [
            sealed[:HEAD] + second + first + last,
            sealed[:HEAD] + first + last,
            sealed[:-1],
            sealed + b"\x00",
            sealed + last,
        ],
    }
    for what, changed in forms.items():
        for each in changed:
            with pytest.raises(SealBrokenError) as caught:
                open_chunk(chosen, key, CONTEXT, each, name="objects/x")
            assert caught.value.code == f"vault.seal_broken.{what}", len(each)
            assert caught.value.details["object"] == "objects/x"


@pytest.mark.parametrize("change", [b"extended", None])
def test_a_segment_of_another_length_is_refused(suite_name: SuiteName, change: bytes | None) -> None:
    chosen = suite(suite_name)
    sealed, lengths = seal_segment(chosen, b"k" * chosen.key_bytes, PLACE, pa.array([1, 2, 3]), (2, 1), Rooms())
    raw = bytes(sealed)
    changed = raw + change if change else raw[:-1]
    with pytest.raises(SealBrokenError, match=f"is {len(changed)} bytes long, expected {len(raw)}") as caught:
        _open(suite_name, changed, (2, 1), lengths, pa.int64())
    assert caught.value.code == "vault.seal_broken.length"


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    raw = bytes(sink.getvalue())
    return len(raw).to_bytes(8, "big") + raw


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 8,
        (100).to_bytes(8, "big") + b"short",
        (4).to_bytes(8, "big") + b"PAR1",
        _parquet(pa.table({"age": [1, 2]})),
        _parquet(pa.table({"cost": [1, 2, 3]})),
        _parquet(pa.table({"age": [1, 2, 3], "cost": [1, 2, 3]})),
        _parquet(pa.table({"age": ["a", "b", "c"]})),
    ],
)
def test_authentic_bytes_that_are_not_the_column_are_refused(suite_name: SuiteName, payload: bytes) -> None:
    chosen = suite(suite_name)
    raw = seal_chunk(chosen, b"k" * chosen.key_bytes, PLACE.context(0, 1, 3), payload)
    with pytest.raises(SealBrokenError, match="`objects/x` does not hold the rows that its manifest says") as caught:
        _open(suite_name, raw, (3,), (len(raw),), pa.int64())
    assert caught.value.code == "vault.seal_broken.content"
