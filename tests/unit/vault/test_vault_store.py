"""The vault's door: seal, open, check, collect."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.errors import (
    InputError,
    KeyUnavailableError,
    SealBrokenError,
    SignatureError,
    SnapshotNotFoundError,
    StorageError,
    VaultError,
)
from sandbox.model.description import ColumnKind, DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.keys import Role, SuiteName
from sandbox.vault import writer
from sandbox.vault.keyring import Keyring, SnapshotKey
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.store import Vault
from sandbox.vault.writer import SealRequest, SnapshotWriter, choose_partitions

Sealer = Callable[..., SnapshotManifest]


@pytest.fixture
def seal(
    vault: Vault,
    description: DatasetDescription,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
) -> Sealer:
    def sealing(batches: object, name: SuiteName = SuiteName.INTL, **more: object) -> SnapshotManifest:
        options = {"signer": signers[name], "owner": "health-commission", "at": tools.at, **more}
        return vault.seal(options.pop("description", description), batches, suite=name, **options)

    return sealing


@pytest.fixture
def trusted(signers: dict[SuiteName, PrivateKey]) -> list[object]:
    return [key.public for key in signers.values()]


def test_what_is_sealed_comes_back(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, suite_name: SuiteName
) -> None:
    batches = tools.make_batches(2000)
    manifest = seal(batches, suite_name)
    names = [column.name for column in tools.columns]
    with vault.open_snapshot(manifest.digest(), names, trusted) as opened:
        tables = list(opened.partitions())
        assert opened.columns == ("_unit", "_rank", *names)
        assert opened.partition_count == len(tables) == 4
        assert [facts.rows for facts in opened.facts] == [table.num_rows for table in tables]
        assert opened.facts[1].units == len(set(tables[1]["_unit"].to_pylist()))
    assert tools.row_multiset(tables) == tools.source_multiset(batches)
    assert tables[0].schema.types == [
        pa.int64(),
        pa.int32(),
        pa.int64(),
        pa.int64(),
        pa.date32(),
        pa.bool_(),
        pa.string(),
        pa.string(),
    ]


def test_a_unit_lies_in_one_partition_together_with_ranks_from_one(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, suite_name: SuiteName
) -> None:
    manifest = seal(tools.make_batches(2000), suite_name, partitions=5)
    seen: set[int] = set()
    with vault.open_snapshot(manifest.digest(), [], trusted) as opened:
        for table in opened.partitions():
            units, ranks = table["_unit"].to_pylist(), table["_rank"].to_pylist()
            assert seen.isdisjoint(units)
            seen.update(units)
            expected, last = [], None
            for unit in units:
                expected.append(expected[-1] + 1 if unit == last else 1)
                last = unit
            assert ranks == expected
            assert len(set(units)) == expected.count(1), "a unit lies in two places"
            assert units != sorted(units), "the order is that of the tokens"


def test_the_order_of_arrival_does_not_show(vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list) -> None:
    batches = tools.make_batches(500)
    orders = []
    for each in (batches, [batch.take(np.arange(len(batch))[::-1]) for batch in reversed(batches)]):
        with vault.open_snapshot(seal(each).digest(), ["note"], trusted) as opened:
            orders.append([table.to_pylist() for table in opened.partitions()])
    assert [[row["_unit"] for row in part] for part in orders[0]] == [
        [row["_unit"] for row in part] for part in orders[1]
    ]
    assert orders[0] != orders[1], "the order within a unit is drawn afresh"


def test_no_rows_make_a_snapshot_too(vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list) -> None:
    manifest = seal([])
    with vault.open_snapshot(manifest.digest(), ["district", "age"], trusted) as opened:
        tables = list(opened.partitions())
    assert [table.num_rows for table in tables] == [0, 0, 0, 0]
    assert tables[0].schema.field("district").type == pa.string()
    assert vault.check(trusted).faults == ()


def test_rows_beyond_the_memory_limit_are_spilled_and_come_back(
    vault: Vault,
    description: DatasetDescription,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
    trusted: list,
    suite_name: SuiteName,
) -> None:
    batches = tools.make_batches(3000)
    request = SealRequest(
        description, suite_name, signers[suite_name], "health", tools.at, chunk_rows=100, limit_bytes=50_000
    )
    manifest = SnapshotWriter(vault._keyring, vault._blobs, vault._directory).seal(request, batches, None)
    with vault.open_snapshot(manifest.digest(), [column.name for column in tools.columns], trusted) as opened:
        assert tools.row_multiset(list(opened.partitions())) == tools.source_multiset(batches)
        assert all(len(facts.chunks) > 5 for facts in opened.facts)
    assert vault.check(trusted).faults == ()


def test_long_text_is_reordered_with_wide_offsets(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MAX_STRING_BYTES", 10)
    batches = tools.make_batches(300)
    with vault.open_snapshot(seal(batches).digest(), [column.name for column in tools.columns], trusted) as opened:
        tables = list(opened.partitions())
    assert tables[0].schema.field("note").type == pa.string()
    assert tools.row_multiset(tables) == tools.source_multiset(batches)


def test_a_reopened_vault_opens_its_snapshots(
    tmp_path: Path, vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    manifest = seal(tools.make_batches(20))
    again = Vault.open(tmp_path / "vault", passphrase="open sesame")
    assert again.snapshots() == (manifest.digest(),)
    assert again.manifest(manifest.digest(), trusted) == manifest
    with again.open_snapshot(manifest.digest(), ["age"], trusted) as opened:
        assert sum(table.num_rows for table in opened.partitions()) == 20


def test_tokens_stay_and_differ_between_datasets(tmp_path: Path, vault: Vault, tools: SimpleNamespace) -> None:
    one, two = tools.describe(*tools.columns), tools.describe(*tools.columns, dataset="transport")
    tokens = vault.tokeniser(one).tokens(["甲", "乙", "甲"])
    assert tokens[0] == tokens[2] != tokens[1]
    again = Vault.open(tmp_path / "vault", passphrase="open sesame")
    assert np.array_equal(again.tokeniser(one).tokens(["甲", "乙", "甲"]), tokens)
    assert not set(tokens.tolist()) & set(vault.tokeniser(two).tokens(["甲", "乙"]).tolist())


@pytest.mark.parametrize(
    ("rows", "partitions"),
    [(0, 4), (4 << 20, 4), ((4 << 20) + 1, 8), (10_000_000, 16), (100_000_000, 128), (10**12, 256)],
)
def test_partitions_are_chosen_by_the_rows(rows: int, partitions: int) -> None:
    assert choose_partitions(rows) == partitions


def test_progress_counts_rows_and_then_objects(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    counts: list[int] = []
    seal(tools.make_batches(250, size=100), progress=counts.append, partitions=1)
    assert counts == [100, 200, 250]
    counts.clear()
    assert vault.check(trusted, counts.append).objects == 8
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8]


# --- only the keys of the columns asked for -------------------------------------------------------------------------


def test_only_the_keys_of_the_asked_columns_are_unwrapped(
    vault: Vault,
    seal: Sealer,
    tools: SimpleNamespace,
    trusted: list,
    suite_name: SuiteName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = seal(tools.make_batches(50), suite_name)
    unwrapped: list[str] = []
    original = SnapshotKey.unwrap_object

    def spying(key: SnapshotKey, object_id: str, column: str, sealed: bytes) -> bytes:
        unwrapped.append(object_id)
        return original(key, object_id, column, sealed)

    monkeypatch.setattr(SnapshotKey, "unwrap_object", spying)
    with vault.open_snapshot(manifest.digest(), ["age", "age", "_unit"], trusted) as opened:
        granted = {sealed.object_id for sealed in manifest.objects if sealed.column in {"_unit", "_rank", "age"}}
        assert opened.columns == ("_unit", "_rank", "age")
        assert opened.held_objects == granted == set(unwrapped)
        list(opened.partitions())
        assert set(unwrapped) == granted


def _reachable(start: object) -> Iterator[object]:
    """Everything that can be reached from an object without going through classes, functions and modules."""
    todo, seen = [start], set()
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, (type, FunctionType, ModuleType)):
            continue
        seen.add(id(item))
        yield item
        todo.extend(gc.get_referents(item))


def test_nothing_reachable_from_an_opened_snapshot_opens_another_column(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, suite_name: SuiteName
) -> None:
    manifest = seal(tools.make_batches(50), suite_name)
    key = vault._keyring.snapshot_key(manifest.dataset, manifest.snapshot, manifest.owner, suite_name)
    plain = {
        sealed.object_id: key.unwrap_object(sealed.object_id, sealed.column, sealed.key) for sealed in manifest.objects
    }
    with vault.open_snapshot(manifest.digest(), ["age"], trusted) as opened:
        list(opened.partitions())
        found = list(_reachable(opened))
        texts = {bytes(item) for item in found if isinstance(item, (bytes, bytearray))}
        assert {object_id for object_id, secret in plain.items() if secret in texts} == opened.held_objects
        assert not texts & {key.objects, key.facts, vault._keyring._master}
        assert not any(isinstance(item, (Keyring, SnapshotKey, Vault)) for item in found)


def test_a_closed_snapshot_has_dropped_its_keys(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    manifest = seal(tools.make_batches(50))
    opened = vault.open_snapshot(manifest.digest(), ["age"], trusted)
    stream = opened.partitions()
    next(stream)
    opened.close()
    opened.close()
    assert opened.held_objects == frozenset()
    for act in (lambda: next(stream), lambda: opened.partition(0)):
        with pytest.raises(KeyUnavailableError, match="the snapshot was closed and its keys were dropped") as caught:
            act()
        assert caught.value.code == "vault.key_unavailable.closed"


def test_an_opened_snapshot_shows_no_keys(vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list) -> None:
    manifest = seal(tools.make_batches(50))
    with vault.open_snapshot(manifest.digest(), ["age"], trusted) as opened:
        assert opened.manifest == manifest
        assert repr(opened) == f"OpenedSnapshot({manifest.snapshot[:12]}, columns=('_unit', '_rank', 'age'))"


# --- refusals -------------------------------------------------------------------------------------------------------


def test_an_unknown_column_gets_a_suggestion(vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list) -> None:
    manifest = seal(tools.make_batches(10))
    with pytest.raises(VaultError, match="the dataset `hospital` has no column `distrikt`") as caught:
        vault.open_snapshot(manifest.digest(), ["age", "distrikt"], trusted)
    assert (caught.value.code, caught.value.hint) == ("vault.unknown_column", "did you mean `district`?")
    with pytest.raises(VaultError) as caught:
        vault.open_snapshot(manifest.digest(), ["zzzzzz"], trusted)
    assert caught.value.hint == "it has age, cost, day, urgent, district, note"


def test_an_unknown_snapshot_is_not_found(vault: Vault, trusted: list) -> None:
    digest = Digest(f"sm3:{'0' * 64}")
    for act in (lambda: vault.manifest(digest, trusted), lambda: vault.open_snapshot(digest, [], trusted)):
        with pytest.raises(SnapshotNotFoundError, match="there is no snapshot `000000000000`") as caught:
            act()
        assert caught.value.code == "vault.snapshot_not_found"
        assert caught.value.details == {"snapshot": digest}


@pytest.mark.parametrize("side", ["owner", "platform"])
def test_either_side_alone_destroys_a_snapshot(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, side: str
) -> None:
    manifest, other = seal(tools.make_batches(10)), seal(tools.make_batches(10))
    vault._keyring.shred(manifest.snapshot, side)
    with pytest.raises(KeyUnavailableError, match="is missing") as caught:
        vault.open_snapshot(manifest.digest(), ["age"], trusted)
    assert caught.value.code == f"vault.key_unavailable.{side}_half"
    assert caught.value.details["owner"] == "health-commission"
    report = vault.check(trusted)
    assert (report.locked, report.faults, report.garbage) == ((manifest.digest(),), (), ())
    with vault.open_snapshot(other.digest(), ["age"], trusted) as opened:
        assert sum(table.num_rows for table in opened.partitions()) == 10


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


# --- collecting -----------------------------------------------------------------------------------------------------


def test_collecting_removes_what_nothing_refers_to_and_only_that(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list, tmp_path: Path
) -> None:
    manifest = seal(tools.make_batches(30))
    vault._blobs.put("objects/" + "0" * 32, b"orphan")
    vault._keyring.create_snapshot_key("hospital", "c3" * 16, "health", SuiteName.GM)
    (tmp_path / "vault" / "blobs" / "objects" / ".incoming-77").write_bytes(b"half")
    garbage = ("objects/" + "0" * 32, "keys/platform/" + "c3" * 16, "keys/owner/" + "c3" * 16)
    assert vault.check(trusted).garbage == garbage
    assert vault.collect(trusted) == garbage
    assert vault.collect(trusted) == ()
    report = vault.check(trusted)
    assert (report.snapshots, report.faults, report.garbage) == ((manifest.digest(),), (), ())
    assert not list(tmp_path.rglob(".incoming-*"))


def test_collecting_is_refused_while_a_manifest_does_not_verify(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    seal(tools.make_batches(30))
    before = list(vault._blobs.names(""))
    with pytest.raises(VaultError, match="does not verify, so nothing can be told to be garbage") as caught:
        vault.collect([])
    assert caught.value.code == "vault.collect_refused"
    assert list(vault._blobs.names("")) == before
    assert vault.check(trusted).faults == ()


def test_collecting_waits_for_nobody_who_seals(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    codes = []

    def batches() -> Iterator[pa.RecordBatch]:
        yield from tools.make_batches(10)
        with pytest.raises(StorageError, match="a snapshot is being sealed") as caught:
            vault.collect(trusted)
        codes.append(caught.value.code)

    manifest = seal(batches())
    assert codes == ["vault.storage.busy"]
    assert vault.snapshots() == (manifest.digest(),)
    assert vault.collect(trusted) == ()


def test_a_report_without_faults_raises_nothing_and_one_with_faults_names_them(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    manifest = seal(tools.make_batches(30))
    vault.check(trusted).raise_if_broken()
    sealed = manifest.objects[3]
    vault._blobs.put(sealed.name, b"x" * sealed.length)
    with pytest.raises(SealBrokenError, match=f"`{sealed.name}` has another digest than its manifest says") as caught:
        vault.check(trusted).raise_if_broken()
    assert caught.value.code == "vault.seal_broken.digest"
    assert caught.value.details["faults"] == [{"object": sealed.name, "code": "vault.seal_broken.digest"}]
