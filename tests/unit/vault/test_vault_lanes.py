"""Packed rows: every value comes back, whatever its column's bounds, and whatever mixture of forms it travelled in."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey
from sandbox.model.description import ColumnKind
from sandbox.model.keys import SuiteName
from sandbox.vault.columns import batch_schema, type_for
from sandbox.vault.lanes import Packing
from sandbox.vault.store import Vault
from sandbox.vault.unpacked import Unpacked

Trip = Callable[..., tuple[Packing, pa.Array]]


@pytest.fixture
def there_and_back(tools: SimpleNamespace) -> Trip:
    """Return a function that packs a column, turns its rows round and compares what comes out."""

    def trip(kind: ColumnKind, values: list[object], *, nullable: bool, **bounds: int) -> tuple[Packing, pa.Array]:
        described = tools.describe(tools.column("c", kind, nullable=nullable, **bounds))
        packing = Packing(described)
        array = pa.array(values, type_for(described.columns[0]))
        units = pa.array(range(len(values)), pa.int64())
        batch = pa.RecordBatch.from_arrays([units, array], schema=batch_schema(described))
        rows = packing.pack(batch, np.arange(len(values), dtype=np.uint64))
        order = np.arange(len(values))[::-1].copy()
        backwards = rows.take(order)
        unpacked = Unpacked(packing, len(values) + 1, len(values) + 1)
        for _ in range(2):  # it serves for one partition after the other
            unpacked.clear()
            assert unpacked.put(rows, order[::-1].copy()).tolist() == list(range(len(values)))
            assert unpacked.put(rows, order).tolist() == list(range(len(values)))[::-1]
            unpacked.keep(np.ones(len(values), np.int32))
        assert unpacked.units.tolist() == list(range(len(values)))[::-1]
        found = unpacked.column(0)
        assert found.cast(array.type).to_pylist() == packing.values(backwards, 0).to_pylist() == values[::-1]
        return packing, found

    return trip


@pytest.mark.parametrize(
    ("lower", "upper", "code_bytes"),
    [
        (0, 120, 1), (-5, 249, 1), (-5, 250, 2), (0, 65_534, 2), (0, 65_536, 4), (2**40, 2**40 + 7, 1),
        (-(2**31), 2**31 - 2, 4), (-(2**31), 2**31 - 1, None), (-(2**63) + 1, -(2**63) + 4, 1), (-(2**63), -(2**63) + 4, None),
        (2**63 - 3, 2**63 - 1, 1), (0, 2**63 - 1, None), (7, 7, 1),
    ],
)  # fmt: skip
def test_numbers_between_bounds_travel_in_as_few_bytes_as_the_bounds_allow(
    there_and_back: Trip, lower: int, upper: int, code_bytes: int | None
) -> None:
    packing, _ = there_and_back(
        ColumnKind.INTEGER, [lower, None, upper, (lower + upper) // 2, None], nullable=True, lower=lower, upper=upper
    )
    code_type = packing.lanes[0].code_type
    assert (None if code_type is None else code_type.itemsize) == code_bytes
    there_and_back(ColumnKind.INTEGER, [upper, lower], nullable=False, lower=lower, upper=upper)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ColumnKind.INTEGER, [2**63 - 1, -(2**63), None, 0]),
        (ColumnKind.DATE, [None, 0, 40_000]),
        (ColumnKind.BOOLEAN, [True, None, False, True]),
        (ColumnKind.TEXT, ["", None, "海淀区", "海淀区", "\x00"]),
        (ColumnKind.TEXT, [None, None]),
        (ColumnKind.CATEGORY, []),
    ],
)
def test_values_without_bounds_come_back(there_and_back: Trip, kind: ColumnKind, values: list[object]) -> None:
    days = [None if v is None else np.datetime64(v, "D").item() for v in values] if kind is ColumnKind.DATE else values
    there_and_back(kind, days, nullable=True)


def test_a_date_between_bounds_comes_back_as_a_date(there_and_back: Trip) -> None:
    _, found = there_and_back(
        ColumnKind.DATE, [np.datetime64(18_000, "D").item(), None], nullable=True, lower=0, upper=40_000
    )
    assert found.type == pa.date32()


def test_a_bound_between_two_counts_of_the_resolution_is_rounded_outward(tools: SimpleNamespace) -> None:
    cents = tools.column("c", ColumnKind.DECIMAL, lower=0, upper=1)
    odd = tools.describe(replace(cents, upper=Fraction(2559, 1000)))
    lane = Packing(odd).lanes[0]
    codes = lane.narrow(pa.array([256, 0]))
    assert codes is not None
    assert lane.widen(codes.astype(lane.code_type)).to_pylist() == [256, 0]


@pytest.mark.parametrize("limit_bytes", [200_000, 1 << 30])
def test_text_of_too_many_values_travels_as_it_is_and_what_was_counted_before_stays_good(
    vault: Vault,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
    limit_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox.vault.writer.LIMIT_BYTES", limit_bytes)
    monkeypatch.setattr("sandbox.vault.lanes._FEW_TEXTS", 300)
    described = tools.describe(
        tools.column("note", ColumnKind.TEXT, nullable=True), tools.column("age", ColumnKind.INTEGER, lower=0, upper=9)
    )
    texts = [f"few-{number % 7}" if number % 5 else None for number in range(3000)]
    texts += [f"many-{number}" for number in range(6000)] + ["few-1"] * 1000
    table = pa.table(
        {
            "_unit": pa.array(np.arange(10_000) // 3),
            "note": pa.array(texts, pa.string()),
            "age": pa.array(np.arange(10_000) % 10),
        }
    )
    signer = signers[SuiteName.INTL]
    sealed = vault.seal(
        described, iter(table.to_batches(max_chunksize=1000)), suite=SuiteName.INTL, signer=signer, owner="health",
        at="2027-01-31T08:00:00Z", partitions=3,
    )  # fmt: skip
    with vault.open_snapshot(sealed.digest(), ["note", "age"], [signer.public]) as opened:
        for dictionaries in (False, True):
            found = pa.concat_tables(
                [part.cast(pa.schema([*opened_types(part)])) for part in opened.partitions(dictionaries=dictionaries)]
            )
            rows = sorted(zip(*(found.column(n).to_pylist() for n in ("_unit", "note", "age")), strict=True), key=repr)
            expected = sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=repr)
            assert rows == expected


def opened_types(part: pa.Table) -> list[pa.Field]:
    """Return the fields of a partition with text spelled out."""
    return [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type) for field in part.schema
    ]


def test_a_packed_row_has_no_wider_fields_than_it_needs(tools: SimpleNamespace) -> None:
    described = tools.describe(
        tools.column("flag", ColumnKind.BOOLEAN),
        tools.column("age", ColumnKind.INTEGER, lower=0, upper=120),
        tools.column("amount", ColumnKind.INTEGER, lower=0, upper=10**9),
        tools.column("district", ColumnKind.CATEGORY),
    )
    assert Packing(described).width == 3  # 8 + 4 for unit and hash, 4 + 2 + 1 + 1 for the columns, in words of 8
