"""What may not be sealed, and that nothing of it is kept."""

from collections.abc import Callable
from types import SimpleNamespace

import pyarrow as pa
import pytest

from sandbox.crypto.keys import generate_key
from sandbox.errors import InputError, SignatureError
from sandbox.model.description import ColumnKind
from sandbox.model.keys import Role, SuiteName
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.store import Vault

Sealer = Callable[..., SnapshotManifest]


def _batch(tools: SimpleNamespace, **changes: pa.Array) -> pa.RecordBatch:
    table = pa.Table.from_batches(tools.make_batches(5))
    for name, values in changes.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table.combine_chunks().to_batches()[0]


def _days(*values: int) -> pa.Array:
    return pa.array(values, pa.int32()).cast(pa.date32())


BAD_BATCHES = {
    "a column is missing": (lambda t: _batch(t).drop_columns(["age"]), "schema", "has other columns or types"),
    "a column has another type": (lambda t: _batch(t, age=pa.array([1.5] * 5)), "schema", "has other columns or types"),
    "columns are out of order": (
        lambda t: _batch(t).select(["age", "_unit", "cost", "day", "urgent", "district", "note"]),
        "schema",
        "has other columns or types",
    ),
    "a unit is missing": (lambda t: _batch(t, _unit=pa.array([1, 2, None, 4, 5])), "null", "of the column `_unit` is"),
    "a value is missing": (lambda t: _batch(t, age=pa.array([1, 2, None, 4, 5])), "null", "of the column `age` is"),
    "a value is too high": (lambda t: _batch(t, age=pa.array([1, 2, 121, 4, 5])), "bounds", "of the column `age` lies"),
    "a value is too low": (lambda t: _batch(t, age=pa.array([1, 2, -1, 4, 5])), "bounds", "of the column `age` lies"),
    "an amount is too high": (
        lambda t: _batch(t, cost=pa.array([1, None, 100_000_001, 4, 5])),
        "bounds",
        "of the column `cost` lies",
    ),
    "a day is too late": (lambda t: _batch(t, day=_days(0, 1, 2, 3, 40_001)), "bounds", "of the column `day` lies"),
}


@pytest.mark.parametrize(("make", "what", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_a_batch_that_breaks_its_description_is_refused_whole(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, make: Callable, what: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        seal([*tools.make_batches(10), make(tools)])
    assert caught.value.code == f"input.batch.{what}"
    assert not any(value in caught.value.message for value in ("121", "100000001", "40001"))
    assert list(vault._blobs.names("")) == []
    assert vault._keyring.snapshots("owner") == ()


def test_values_on_the_bounds_are_taken(vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list) -> None:
    batch = _batch(
        tools, age=pa.array([0, 120, 0, 1, 2]), cost=pa.array([0, 10**8, None, 1, 2]), day=_days(0, 40_000, 1, 2, 3)
    )
    assert vault.manifest(seal([batch]).digest(), trusted).partitions == 4


def test_a_column_without_any_value_and_without_bounds_is_taken(
    vault: Vault, tools: SimpleNamespace, seal: Sealer
) -> None:
    description = tools.describe(
        tools.column("a", ColumnKind.INTEGER, nullable=True, lower=0, upper=1), tools.column("b", ColumnKind.INTEGER)
    )
    table = pa.table({"_unit": pa.array([1, 2]), "a": pa.nulls(2, pa.int64()), "b": pa.array([-(2**63), 2**63 - 1])})
    assert seal(table.to_batches(), description=description).dataset == "hospital"


def test_more_rows_than_the_public_ceiling_are_refused(tools: SimpleNamespace, vault: Vault, seal: Sealer) -> None:
    description = tools.describe(*tools.columns, max_rows=100)
    seal(tools.make_batches(100), description=description)
    with pytest.raises(InputError, match="are more than the 100 it may hold") as caught:
        seal(tools.make_batches(101, size=60), description=description)
    assert caught.value.code == "input.batch.rows"
    assert len(vault.snapshots()) == 1


@pytest.mark.parametrize("partitions", [0, -1, 4097])
def test_partitions_out_of_range_are_refused(seal: Sealer, partitions: int) -> None:
    with pytest.raises(InputError, match=f"a snapshot of {partitions} partitions is out of range") as caught:
        seal([], partitions=partitions)
    assert caught.value.code == "input.seal.partitions"


@pytest.mark.parametrize("change", [{"owner": ""}, {"at": "2027-01-31"}, {"at": "2027-01-31T08:00:00Z\n"}])
def test_a_snapshot_needs_an_owner_and_a_time(seal: Sealer, change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="a snapshot needs an owner and a time") as caught:
        seal([], **change)
    assert caught.value.code == "input.seal.request"


@pytest.mark.parametrize("names", [(), ("a", "a"), ("_rank",), ("a", "_unit")])
def test_columns_must_be_told_apart(seal: Sealer, tools: SimpleNamespace, names: tuple[str, ...]) -> None:
    description = tools.describe(*(tools.column(name, ColumnKind.INTEGER) for name in names))
    with pytest.raises(InputError, match="has no columns, or two of one name") as caught:
        seal([], description=description)
    assert caught.value.code == "input.seal.columns"


def test_an_operator_cannot_seal(vault: Vault, seal: Sealer, tools: SimpleNamespace) -> None:
    with pytest.raises(SignatureError, match="the key `operator` may not sign snapshots"):
        seal(tools.make_batches(10), signer=generate_key("operator", Role.OPERATOR, SuiteName.INTL))
    assert list(vault._blobs.names("")) == []
