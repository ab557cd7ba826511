"""Destruction: what is gone, what a backup still opens and when it no longer does, and who may order it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.csv_source import CsvSource
from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.share_words import DESTROYED, LOST, share_words, sign_words
from sandbox.errors import KeyUnavailableError, LedgerError, PolicyError, SaggarError, SnapshotNotFoundError, VaultError
from sandbox.jobs.destroy import Logged, close_epoch, destroy
from sandbox.jobs.ingest import ingest
from sandbox.jobs.publishing import receipt_for
from sandbox.ledger.destruction import EPOCH_CONTEXT, SignedRecord, sign_record, verify_destruction
from sandbox.ledger.verify import Trusted
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import digest_of
from sandbox.model.keys import PublicKey, Role, SuiteName
from sandbox.model.load_description import load_description
from sandbox.service.ceremonies import open_keys, replace_master
from sandbox.service.compose import open_engine, unlock_named
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.store import Vault
from tests.conftest import DESCRIPTION, PASSPHRASE, SQL, SQL_JOB, World, copy_world
from tests.support.line_world import check_log

pytestmark = pytest.mark.slow

NEW = "words nobody wrote down"


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


def person(world: World, name: str) -> PrivateKey:
    return unlock_named(world.state, name, PASSPHRASE)


def order(world: World, what: str = "clinic", parties: tuple[str, ...] = ("agency", "health")) -> Logged:
    people = [person(world, name) for name in parties]
    with world.engine() as engine:
        return destroy(engine, what, people, basis="order 2027-17")


def close(world: World) -> Logged:
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        old, new = replace_master(keys, old=PASSPHRASE, new=NEW, receipts=[], custodians=[])
    with open_engine(world.state, passphrase=NEW, purpose="test", wait_s=5) as engine:
        return close_epoch(engine, old_master=old, new_master=new, receipts=[])


def believed(world: World) -> tuple[tuple[PublicKey, ...], Trusted]:
    with world.records() as records:
        keys = tuple(records.state().keys.values())
        return keys, Trusted(records.state().origin, records.trusted(Role.SANDBOX), records.trusted(Role.WITNESS))


def snapshot_of(world: World) -> str:
    with world.records() as records:
        return records.state().datasets["clinic"].snapshot


def rows(vault: Vault, snapshot: str, trusted: tuple[PublicKey, ...]) -> int:
    with vault.open_snapshot(snapshot, ["days"], trusted) as opened:
        return sum(table.num_rows for table in opened.partitions())


def test_nothing_is_left_that_opens_and_no_job_reads_it(world: World) -> None:
    released = world.run()
    snapshot = snapshot_of(world)
    logged = order(world)
    record = logged.document.record
    assert not list((world.state / "vault" / "blobs").rglob("*-*"))
    assert not any((world.state / "vault" / "blobs" / "objects").iterdir())
    assert [path.name for path in (world.state / "vault" / "keys").rglob("*") if path.is_file()] == ["master"]
    (inventory,) = record["snapshots"]
    assert inventory["snapshot"] == snapshot
    assert inventory["halves"] == {"platform": "deleted", "owner": "deleted"}
    assert inventory["second_read"]["objects_looked_for"] == len(inventory["objects"]) == 28
    assert record["derived_releases"] == [digest_of(released.raw)]
    assert record["replay"] == {"left": [0, 1, 2, 3], "lost": [4]}
    with pytest.raises(SnapshotNotFoundError, match="the current snapshot of `clinic` was destroyed") as caught:
        world.run(SQL_JOB, SQL, nonce="after")
    assert caught.value.code == "vault.snapshot_not_found.destroyed"
    assert caught.value.details["certificate"] == logged.digest
    with pytest.raises(SnapshotNotFoundError, match="was destroyed"):
        order(world)
    with world.records() as records:
        check_log(records)


def test_the_certificate_is_verified_offline_and_every_change_is_noticed(world: World) -> None:
    logged = order(world)
    keys, trusted = believed(world)
    raw = logged.document.to_bytes()
    facts = verify_destruction(raw, keys, trusted, receipt=logged.receipt)
    assert (facts.level, facts.certificate) == ("L1", logged.digest)
    assert sorted(key.role.value for key in facts.signers) == ["agency", "department", "sandbox"]
    assert facts.receipt.entry.body["certificate"] == logged.digest
    for place in range(0, len(raw), 37):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(LedgerError) as caught:
            verify_destruction(bytes(changed), keys, trusted)
        assert caught.value.code.startswith("ledger.destruction.")
    for dropped in range(3):
        fewer = logged.document.signatures[:dropped] + logged.document.signatures[dropped + 1 :]
        with pytest.raises(LedgerError, match="not signed by all") as caught:
            verify_destruction(SignedRecord(logged.document.record, fewer).to_bytes(), keys, trusted)
        assert caught.value.code == "ledger.destruction.signature"
    with pytest.raises(LedgerError, match="which is not trusted here"):
        verify_destruction(raw, [key for key in keys if key.name != "health"], trusted)
    elsewhere = Trusted("other.example/log", trusted.sandbox_keys, trusted.witness_keys)
    with pytest.raises(LedgerError, match=r"of the log `test\.example/log`"):
        verify_destruction(raw, keys, elsewhere)


def test_a_receipt_of_another_entry_does_not_vouch_for_it(world: World) -> None:
    logged = order(world)
    keys, trusted = believed(world)
    with world.engine() as engine:
        other = receipt_for(engine, 3)
    with pytest.raises(LedgerError, match="the receipt is of another entry") as caught:
        verify_destruction(logged.document.to_bytes(), keys, trusted, receipt=other)
    assert caught.value.code == "ledger.destruction.receipt"


@pytest.mark.parametrize(
    "parties", [("agency",), ("agency", "agency"), ("agency", "operator"), ("health", "health"), ("health", "auditor")]
)
def test_it_takes_two_people_one_who_orders_and_one_who_witnesses(world: World, parties: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match="destruction needs two people") as caught:
        order(world, parties=parties)
    assert caught.value.code == "policy.destruction"
    _, trusted = believed(world)
    with world.engine() as engine:
        assert rows(engine.vault, snapshot_of(world), trusted.sandbox_keys) > 0


def test_a_name_that_names_nothing_destroys_nothing(world: World) -> None:
    for name in ("census", "sm3", snapshot_of(world)[:9]):
        with pytest.raises(SaggarError) as caught:
            order(world, name)
        assert caught.value.code == "input.unknown_snapshot"


def test_after_l1_a_backup_opens_with_the_keys_of_its_day_and_the_certificate_says_so(
    world: World, tmp_path: Path
) -> None:
    snapshot, backup = snapshot_of(world), copy_world(world, tmp_path / "backup")
    logged = order(world)
    assert "open until the epoch is closed" in logged.document.record["levels"]["L2"]
    assert any("backups" in line for line in logged.document.record["remaining"])
    _, trusted = believed(world)
    assert rows(Vault.open(backup.state / "vault", passphrase=PASSPHRASE), snapshot, trusted.sandbox_keys) > 0


def backups_under(world: World, backup: World, to: Path) -> Iterator[Path]:
    """Yield restorings of a backup over the present: all of it, each part of it alone, and all but each part."""
    vault, old = world.state / "vault", backup.state / "vault"
    rooms = [path.relative_to(old) for path in sorted(old.glob("*/*"))]
    everything = 2 ** len(rooms) - 1
    alone = [1 << place for place in range(len(rooms))]
    for kept in (everything, *alone, *(everything ^ one for one in alone)):
        target = to / str(kept)
        shutil.copytree(vault, target)
        for place, room in enumerate(rooms):
            if kept >> place & 1:
                if (old / room).is_dir():
                    shutil.copytree(old / room, target / room, dirs_exist_ok=True)
                else:
                    shutil.copy(old / room, target / room)
        yield target


def test_after_l2_no_backup_opens_for_anybody(world: World, tmp_path: Path) -> None:
    snapshot, backup = snapshot_of(world), copy_world(world, tmp_path / "backup")
    logged = order(world)
    closed = close(world)
    assert closed.document.record["certificates"] == [logged.digest]
    keys, trusted = believed(world)
    for restored in backups_under(world, backup, tmp_path / "restored"):
        with pytest.raises((VaultError, KeyUnavailableError)) as caught:
            rows(Vault.open(restored, passphrase=NEW), snapshot, trusted.sandbox_keys)
        assert caught.value.code in {
            "vault.key_unavailable.wrong_passphrase",
            "vault.key_unavailable.dataset",
            "vault.key_unavailable.platform_half",
            "vault.key_unavailable.owner_half",
            "vault.seal_broken.key",
            "vault.snapshot_not_found",
        }
        shutil.rmtree(restored)
    with pytest.raises(KeyUnavailableError) as caught:
        Vault.open(world.state / "vault", passphrase=PASSPHRASE)
    assert caught.value.code == "vault.key_unavailable.wrong_passphrase"
    raw = logged.document.to_bytes()
    epoch = (closed.document.to_bytes(), closed.receipt)
    assert verify_destruction(raw, keys, trusted, receipt=logged.receipt, epoch=epoch).level == "L2"


def test_a_closed_epoch_that_does_not_name_the_certificate_completes_nothing(world: World) -> None:
    empty = close(world)
    with open_engine(world.state, passphrase=NEW, purpose="test", wait_s=5) as engine:
        people = [person(world, name) for name in ("agency", "health")]
        logged = destroy(engine, "clinic", people, basis="order")
    keys, trusted = believed(world)
    with pytest.raises(LedgerError, match="does not name this certificate") as caught:
        verify_destruction(logged.document.to_bytes(), keys, trusted, epoch=(empty.document.to_bytes(), empty.receipt))
    assert caught.value.code == "ledger.destruction.epoch"
    forged = parse_canonical(empty.document.to_bytes())
    forged["record"]["certificates"] = [logged.digest]
    with pytest.raises(LedgerError, match="does not hold"):
        verify_destruction(logged.document.to_bytes(), keys, trusted, epoch=(canonical_bytes(forged), None))


def test_a_word_on_a_share_that_no_custodian_signed_completes_nothing(world: World) -> None:
    logged, closed = order(world), close(world)
    keys, trusted = believed(world)
    an, stranger = (generate_key(name, Role.CUSTODIAN, SuiteName.GM) for name in ("an", "stranger"))
    with open_engine(world.state, passphrase=NEW, purpose="test", wait_s=5) as engine:
        box = engine.key

    def level(*given: object) -> str:
        record = {**closed.document.record, "receipts": list(given)}
        raw = sign_record(record, EPOCH_CONTEXT, [box]).to_bytes()
        return verify_destruction(logged.document.to_bytes(), [*keys, an.public], trusted, epoch=(raw, None)).level

    def words(kind: str) -> dict[str, Any]:
        return share_words(
            kind, ceremony="c" * 32, index=1, custodian="an", key_id=an.public.key_id, at=closed.document.record["at"]
        )

    def by(key: PrivateKey, kind: str) -> dict[str, Any]:
        return sign_words(key, words(kind)).to_record()

    gone, lost = words(DESTROYED), words(LOST)
    receipt = {"receipt": gone, "signature": by(an, DESTROYED)}
    declared = {"lost": lost, "signatures": [by(an, LOST)]}
    assert level(receipt, declared) == "L2"
    for forged in (
        {**receipt, "receipt": {**gone, "index": 2}},
        {**receipt, "signature": by(stranger, DESTROYED)},
        {"receipt": lost, "signature": by(an, LOST)},
        {"receipt": {**gone, "key": stranger.public.key_id}, "signature": by(an, DESTROYED)},
        {**declared, "signatures": []},
        {**declared, "signatures": [by(an, LOST), by(stranger, LOST)]},
        {**declared, "signatures": [by(an, DESTROYED)]},
        {**declared, "lost": {**lost, "custodian": "bo"}},
        {},
        None,
    ):
        with pytest.raises(LedgerError) as caught:
            level(receipt, forged)
        assert caught.value.code == "ledger.destruction.epoch"


class Crash(BaseException):
    """The power is gone."""


def test_a_crash_at_any_deletion_leaves_a_destruction_that_can_be_called_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = LocalBlobStore.delete
    for deaths in (0, 1, 2, 30, 31, 32, 33):
        copy, left = copy_world(world, tmp_path / str(deaths)), [deaths]

        def dying(self: LocalBlobStore, name: str, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            delete(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(LocalBlobStore, "delete", dying)
            with pytest.raises(Crash):
                order(copy)
        with copy.records() as records:
            destroyed = bool(records.state().datasets["clinic"].destroyed)
        assert destroyed == (deaths == 33)
        if not destroyed:
            order(copy)
        with copy.engine() as engine:
            assert engine.vault.snapshots() == ()
            assert list(engine.vault.blobs.names("")) == []


def test_a_dataset_can_be_sealed_again_afterwards(world: World) -> None:
    order(world)
    description = load_description(DESCRIPTION, "clinic.yaml")
    with world.engine() as engine:
        ingest(
            engine,
            description,
            lambda tokeniser: CsvSource(world.files / "clinic.csv", description, tokeniser),
            suite=SuiteName.GM,
            owner="health",
        )
    assert world.run(nonce="again").raw
