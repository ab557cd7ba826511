"""Columns whose dictionary is at hand: what is written is ordinary Parquet, and says exactly what went in."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sandbox.vault.arrays import arrow_of
from sandbox.vault.packed import packed_numbers, packed_places, packed_texts, packed_units
from sandbox.vault.parquet_file import DictionaryColumn, write_dictionary_column

MUCH = 1 << 30
DRAW = np.random.default_rng(20270131)


def _file(column: DictionaryColumn | None, name: str = "c") -> bytes:
    assert column is not None
    sink = pa.BufferOutputStream()
    write_dictionary_column(name, column, sink)
    return sink.getvalue().to_pybytes()


def _read(file: bytes, name: str = "c") -> pa.Array:
    found = pq.ParquetFile(pa.BufferReader(file), page_checksum_verification=True)
    chunk = found.metadata.row_group(0).column(0)
    assert found.metadata.num_row_groups == 1
    assert chunk.compression == "UNCOMPRESSED"
    assert chunk.has_dictionary_page
    assert chunk.statistics is None
    assert chunk.total_compressed_size == len(file) - 12 - int.from_bytes(file[-8:-4], "little")
    assert found.schema.column(0).max_definition_level == 0
    return found.read().column(name).combine_chunks()


def _texts(indices: np.ndarray, texts: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(arrow_of(indices), pa.array(texts))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 32_767, 32_768, 32_769, 100_003])
@pytest.mark.parametrize("width", range(1, 17))
def test_places_lie_behind_one_another_bit_by_bit(width: int, rows: int) -> None:
    places = DRAW.integers(0, 2**width, rows).astype(np.uint8 if width <= 8 else np.uint16)
    bits = (places[:, None] >> np.arange(width, dtype=places.dtype)) & 1
    expected = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
    packed = bytes(packed_places(places, width))
    assert packed[: len(expected)] == expected
    assert len(packed) == -(-rows // 8) * width
    assert not any(packed[len(expected) :])


@pytest.mark.parametrize("rows", [1, 8, 32_771, 70_000])
@pytest.mark.parametrize(
    ("least", "highest", "kind"),
    [(0, 0, "i4"), (0, 1, "i4"), (-100, 120, "i4"), (5, 260, "i4"), (-(2**31), 3 - 2**31, "i4"), (2**31 - 9, 2**31 - 1, "i4"),
     (2**40, 2**40 + 255, "i8"), (-(2**63), 9 - 2**63, "i8"), (2**63 - 256, 2**63 - 1, "i8")],
)  # fmt: skip
def test_close_numbers_come_back(least: int, highest: int, kind: str, rows: int) -> None:
    values = arrow_of(DRAW.integers(least, highest, rows, endpoint=True, dtype=kind))
    assert _read(_file(packed_numbers(values, most=MUCH))).equals(values)
    assert _read(_file(packed_numbers(values.slice(rows // 3), most=MUCH))).equals(values.slice(rows // 3))


def test_close_dates_come_back() -> None:
    values = arrow_of(DRAW.integers(-3, 200, 10_000, dtype="i4")).view(pa.date32())
    found = _read(_file(packed_numbers(values, most=MUCH)))
    assert found.type == pa.date32()
    assert found.equals(values)
    assert isinstance(found[0].as_py(), dt.date)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        (pa.array([], pa.int64()), MUCH),
        (pa.array([1, None]), MUCH),
        (pa.array([0, 256]), MUCH),
        (arrow_of(np.append(np.zeros(5_000, "i8"), 256)), MUCH),  # beyond what the sample shows
        (arrow_of(np.array([-(2**63), 2**63 - 1])), MUCH),
        (arrow_of(DRAW.integers(0, 128, 4_096)), 3_583),  # seven bits each are 3584 bytes
    ],
)
def test_other_numbers_are_left_to_arrow(values: pa.Array, most: int) -> None:
    assert packed_numbers(values, most=most) is None


@pytest.mark.parametrize("kind", ["u2", "i4"])
@pytest.mark.parametrize("count", [5, 20, 257, 2_000, 65_536])
def test_texts_with_a_dictionary_come_back(count: int, kind: str) -> None:
    texts = ["", "a" * 300, *(f"事项-{number}" for number in range(count - 2))]
    values = _texts(DRAW.integers(0, count, 40_003).astype(kind), texts)
    assert _read(_file(packed_texts(values))).equals(values.cast(pa.string()))
    assert _read(_file(packed_texts(values.slice(11)))).equals(values.slice(11).cast(pa.string()))


def test_a_part_of_a_dictionary_is_written_as_that_part() -> None:
    texts = pa.array(["not this", "甲", "", "bc", "d", "e", "f"]).slice(1)
    values = pa.DictionaryArray.from_arrays(arrow_of(np.array([5, 0, 1, 2, 3, 4], "u2")), texts)
    assert _read(_file(packed_texts(values))).to_pylist() == ["f", "甲", "", "bc", "d", "e"]
    empty = pa.DictionaryArray.from_arrays(arrow_of(np.zeros(1, "u2")), pa.array([""]))
    assert _read(_file(packed_texts(empty))).to_pylist() == [""]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([], pa.string()).dictionary_encode(),
        pa.array(["a", None, "b", "c"]).dictionary_encode(),
        pa.array(["a"] * 3 + ["b"] * 3).dictionary_encode(),  # most are like the one before
        _texts(np.array([1, 0], "i4"), ["many"] + [str(number) for number in range(65_536)]),
        _texts(np.array([1, 0], "u2"), ["long" * 600_000, "x" * 7_000_000]),
    ],
    ids=["none", "missing", "runs", "many", "long"],
)
def test_other_texts_are_left_to_arrow(values: pa.Array) -> None:
    assert packed_texts(values) is None


@pytest.mark.parametrize("runs", [1, 2, 255, 256, 257, 70_000])
@pytest.mark.parametrize("longest", [4, 9, 63, 64, 8_191, 8_192, 1 << 21])
def test_units_in_runs_come_back(longest: int, runs: int) -> None:
    lengths = DRAW.integers(4, min(longest, 10), runs, endpoint=True)
    lengths[runs // 2] = longest
    units = DRAW.integers(-(2**63), 2**63 - 1, runs)
    values = arrow_of(np.repeat(units, lengths))
    assert _read(_file(packed_units(values), "_unit"), "_unit").equals(values)


def test_neighbouring_units_that_differ_in_one_bit_are_told_apart() -> None:
    values = arrow_of(np.repeat(np.array([0, 1, -1, -(2**63), 2**63 - 1, 0]), 4))
    assert _read(_file(packed_units(values))).equals(values)


@pytest.mark.parametrize("values", [pa.array([], pa.int64()), arrow_of(np.arange(9)), arrow_of(np.arange(100) // 3)])
def test_units_in_short_runs_are_left_to_arrow(values: pa.Array) -> None:
    assert packed_units(values) is None


def test_another_reader_reads_these_files_too(tmp_path: Path) -> None:
    rows = 50_001
    columns = {
        "numbers": (arrow_of(DRAW.integers(-7, 90, rows, dtype="i4")), lambda each: packed_numbers(each, most=MUCH)),
        "texts": (_texts(DRAW.integers(0, 900, rows).astype("u2"), [f"甲{n}" for n in range(900)]), packed_texts),
        "_unit": (arrow_of(np.arange(rows) // 7), packed_units),
    }
    for name, (values, pack) in columns.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(_file(pack(values), name))
        with duckdb.connect(":memory:") as connection:
            found = connection.execute(f"SELECT {name} FROM read_parquet('{path}')").fetchall()
        assert [value for (value,) in found] == values.to_pylist()
