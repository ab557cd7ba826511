"""The vault's door: seal, open, check, collect."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import (
    KeyUnavailableError,
    SealBrokenError,
    SnapshotNotFoundError,
    StorageError,
    VaultError,
)
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.keys import SuiteName
from sandbox.model.unit import PrivacyUnit
from sandbox.vault import writer
from sandbox.vault.keyring import Keyring, SnapshotKey
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.store import Vault
from sandbox.vault.writer import SealRequest, SnapshotWriter, choose_partitions

Sealer = Callable[..., SnapshotManifest]


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


def test_tokens_stay_are_one_for_a_kind_and_differ_between_kinds(
    tmp_path: Path, vault: Vault, tools: SimpleNamespace
) -> None:
    one, other = tools.describe(*tools.columns), tools.describe(*tools.columns, dataset="transport")
    two = replace(one, unit=PrivacyUnit("enterprise", "enterprise", "企业"))
    tokens = vault.tokeniser(one).tokens(["甲", "乙", "甲"])
    assert tokens[0] == tokens[2] != tokens[1]
    again = Vault.open(tmp_path / "vault", passphrase="open sesame")
    assert np.array_equal(again.tokeniser(one).tokens(["甲", "乙", "甲"]), tokens)
    assert np.array_equal(vault.tokeniser(other).tokens(["甲", "乙", "甲"]), tokens)
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
        assert not texts & {key.objects, key.facts, vault._keyring.ring.primary.secret}
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
