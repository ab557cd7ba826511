"""Rotation: new versions of keys, the same sealed bytes, and a vault that opens whenever the power fails."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.errors import KeyUnavailableError, SealBrokenError
from sandbox.model.digest import Digest
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.escrow import keep_in_escrow, keys_in_escrow
from sandbox.vault.keyring import Keyring
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.outstanding import begin_record
from sandbox.vault.rotation import begin_master, rotate_dataset, rotate_master
from sandbox.vault.store import Vault
from sandbox.vault.unit_keys import unit_keys

PASSPHRASE = "open sesame"
ROWS = 80
Sealer = Callable[..., SnapshotManifest]


class Crash(BaseException):
    """The power is gone."""


class Counting:
    """A key store that dies before its n-th write."""

    def __init__(self, inner: object, deaths: int) -> None:
        self.inner, self.left, self.writes = inner, deaths, 0

    def put(self, name: str, data: bytes) -> None:
        if self.writes == self.left:
            raise Crash
        self.writes += 1
        self.inner.put(name, data)

    def get(self, name: str) -> bytes:
        return self.inner.get(name)

    def exists(self, name: str) -> bool:
        return self.inner.exists(name)

    def names(self, prefix: str) -> Iterator[str]:
        return self.inner.names(prefix)


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch passphrases at the least cost that a file may ask for; rotations lock many files."""
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


@pytest.fixture
def sealed(seal: Sealer, tools: object, vault: Vault, trusted: list, signers: dict) -> Digest:
    first = seal(tools.make_batches(ROWS), partitions=2)
    second = seal(tools.make_batches(ROWS, seed=2), partitions=2, parent=first.digest())
    rows_of(vault, second.digest(), trusted)
    begin_record(vault.keyring)
    keep_in_escrow(vault.keyring, next(iter(signers.values())))
    return second.digest()


def rows_of(vault: Vault, snapshot: Digest, trusted: list) -> int:
    with vault.open_snapshot(snapshot, ["age"], trusted) as opened:
        return sum(table.num_rows for table in opened.partitions())


def open_all(vault: Vault, trusted: list, *, past: bool) -> None:
    for snapshot in vault.snapshots():
        vault.open_snapshot(snapshot, [], trusted, past=past)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reopened(vault: Vault, passphrase: str = PASSPHRASE) -> Vault:
    return Vault.open(vault._directory, passphrase=passphrase)


@pytest.mark.parametrize("which", ["dataset", "master"])
def test_a_rotation_leaves_every_sealed_byte_and_gives_every_key_a_new_wrapping(
    vault: Vault, sealed: Digest, trusted: list, which: str
) -> None:
    blobs, keys = files(vault._directory / "blobs"), files(vault._directory / "keys")
    before, units = vault.keyring.dataset("hospital"), unit_keys(vault.keyring, "patient")
    if which == "dataset":
        rotate_dataset(vault.keyring, "hospital")
        assert vault.keyring.dataset("hospital").version == before.version + 1
    else:
        rotate_master(vault.keyring, PASSPHRASE)
        assert vault.keyring.ring.primary.version == 2
    assert files(vault._directory / "blobs") == blobs
    after = files(vault._directory / "keys")
    assert set(after) == set(keys)
    touched = {name.partition("/")[0] for name in after if after[name] != keys[name]}
    assert touched == (
        {"datasets", "platform", "owner", "marks"}
        if which == "dataset"
        else {"master", "datasets", "units", "escrow", "custody"}
    )
    assert rows_of(vault if which == "dataset" else reopened(vault), sealed, trusted) == ROWS
    assert unit_keys(vault.keyring, "patient") == units


def test_after_a_rotation_the_old_versions_of_key_files_open_nothing(
    vault: Vault, sealed: Digest, trusted: list
) -> None:
    keys = vault._directory / "keys"
    old = files(keys)
    rotate_dataset(vault.keyring, "hospital")
    for name in [name for name in old if name.startswith(("platform/", "owner/", "marks/"))]:
        current = (keys / name).read_bytes()
        (keys / name).write_bytes(old[name])
        with pytest.raises(SealBrokenError, match="hangs under a version that is no longer kept") as caught:
            open_all(vault, trusted, past=not name.startswith("marks/"))
        assert caught.value.details["object"] == f"keys/{name}"
        (keys / name).write_bytes(current)
    rotate_master(vault.keyring, PASSPHRASE)
    for name in [name for name in old if name.startswith("datasets/")]:
        (keys / name).write_bytes(old[name])
    with pytest.raises(SealBrokenError, match="hangs under a version that is no longer kept"):
        vault.keyring.dataset("hospital")


@pytest.mark.parametrize("which", ["dataset", "master"])
def test_a_crash_at_any_write_leaves_a_vault_that_opens_and_a_rotation_that_can_be_finished(
    vault: Vault, sealed: Digest, trusted: list, which: str, tmp_path: Path
) -> None:
    def turn(keyring: Keyring) -> None:
        if which == "dataset":
            rotate_dataset(keyring, "hospital")
        else:
            rotate_master(keyring, PASSPHRASE)

    writes = 7 if which == "dataset" else 6
    for deaths in range(writes + 1):
        copy = tmp_path / f"crash-{deaths}"
        shutil.copytree(vault._directory, copy)
        store = Counting(LocalBlobStore(copy / "keys"), deaths)
        if deaths < writes:
            with pytest.raises(Crash):
                turn(Keyring(store, vault.keyring.ring))
        else:
            turn(Keyring(store, vault.keyring.ring))
        again = Vault.open(copy, passphrase=PASSPHRASE)
        assert rows_of(again, sealed, trusted) == ROWS
        assert len(keys_in_escrow(again.keyring)) == 1
        turn(again.keyring)
        assert rows_of(Vault.open(copy, passphrase=PASSPHRASE), sealed, trusted) == ROWS
        assert again.keyring.dataset("hospital").older == {}
        assert len(again.keyring.ring.keys) == 1


def test_between_the_two_halves_of_a_master_rotation_both_keys_open(
    vault: Vault, sealed: Digest, trusted: list
) -> None:
    old = files(vault._directory / "keys" / "datasets")
    begin_master(vault.keyring, PASSPHRASE)
    for name, data in old.items():
        (vault._directory / "keys" / "datasets" / name).write_bytes(data)
    assert rows_of(reopened(vault), sealed, trusted) == ROWS


def test_what_is_in_escrow_does_not_open_under_another_master(vault: Vault, sealed: Digest, tmp_path: Path) -> None:
    other = Keyring.create(tmp_path / "other", passphrase=PASSPHRASE, suite=vault.keyring.ring.suite)
    stranger = Keyring(LocalBlobStore(vault._directory / "keys"), other.ring)
    with pytest.raises(KeyUnavailableError, match="hangs under another master key") as caught:
        keys_in_escrow(stranger)
    assert caught.value.code == "vault.key_unavailable.escrow"
