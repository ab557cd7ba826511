"""No way back: a reader accepts no manifest older than the last it has seen."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import SealBrokenError, VaultError
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.keys import SuiteName
from sandbox.vault.manifest import SnapshotManifest, manifest_name
from sandbox.vault.mark import Mark, mark_name, read_mark
from sandbox.vault.store import Vault
from sandbox.vault.writer import SealRequest, SnapshotWriter

Sealer = Callable[..., SnapshotManifest]


@pytest.fixture
def chain(seal: Sealer, tools: SimpleNamespace) -> list[SnapshotManifest]:
    made = [seal(tools.make_batches(40), partitions=1)]
    for seed in (2, 3):
        made.append(seal(tools.make_batches(40, seed=seed), partitions=1, parent=made[-1].digest()))
    return made


def mark(vault: Vault) -> Mark | None:
    return read_mark(vault.keyring, vault.keyring.dataset("hospital"), "hospital")


def test_a_snapshot_names_its_parent_and_its_place(chain: list[SnapshotManifest]) -> None:
    assert [manifest.generation for manifest in chain] == [0, 1, 2]
    assert [manifest.parent for manifest in chain] == [None, chain[0].digest(), chain[1].digest()]


def test_an_older_manifest_is_refused_once_a_newer_one_was_seen(
    vault: Vault, chain: list[SnapshotManifest], trusted: list
) -> None:
    vault.open_snapshot(chain[0].digest(), [], trusted).close()
    vault.open_snapshot(chain[2].digest(), [], trusted).close()
    again = Vault.open(vault._directory, passphrase="open sesame")
    for old in chain[:2]:
        with pytest.raises(VaultError, match="is older than the last one seen") as caught:
            again.open_snapshot(old.digest(), [], trusted)
        assert caught.value.code == "vault.rolled_back"
        assert caught.value.details == {"snapshot": old.digest(), "seen": chain[2].digest()}
        again.open_snapshot(old.digest(), [], trusted, past=True).close()
    again.open_snapshot(chain[2].digest(), [], trusted).close()


def test_an_unread_snapshot_does_not_move_the_mark(vault: Vault, chain: list[SnapshotManifest], trusted: list) -> None:
    """A snapshot that was sealed by a process that died before the log knew it must not lock the current one out."""
    vault.open_snapshot(chain[1].digest(), [], trusted).close()
    assert mark(vault) == Mark(1, chain[1].digest())
    vault.open_snapshot(chain[1].digest(), [], trusted).close()


def test_two_snapshots_in_one_place_are_a_fork(
    vault: Vault, chain: list[SnapshotManifest], seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    twin = seal(tools.make_batches(40, seed=9), partitions=1, parent=chain[0].digest())
    assert twin.generation == 1
    vault.open_snapshot(twin.digest(), [], trusted).close()
    with pytest.raises(VaultError, match="is older than the last one seen"):
        vault.open_snapshot(chain[1].digest(), [], trusted)


def test_a_snapshot_on_top_of_an_old_one_still_comes_after_the_last_seen(
    vault: Vault, chain: list[SnapshotManifest], seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    vault.open_snapshot(chain[2].digest(), [], trusted).close()
    (vault._directory / "blobs" / manifest_name(chain[2].digest())).unlink()
    later = seal(tools.make_batches(40, seed=9), partitions=1, parent=chain[2].digest())
    assert later.generation == 3


def test_a_mark_put_back_from_another_dataset_or_changed_is_noticed(
    vault: Vault, chain: list[SnapshotManifest], trusted: list
) -> None:
    vault.open_snapshot(chain[2].digest(), [], trusted).close()
    path = vault._directory / "keys" / mark_name("hospital")
    intact = path.read_bytes()
    for place in range(0, len(intact), 9):
        changed = bytearray(intact)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(SealBrokenError) as caught:
            vault.open_snapshot(chain[2].digest(), [], trusted)
        assert caught.value.code == "vault.seal_broken.key"
    vault.keyring.ensure_dataset("transport")
    path.write_bytes(intact)
    shutil.copy(path, vault._directory / "keys" / mark_name("transport"))
    with pytest.raises(SealBrokenError, match="hangs under a version that is no longer kept"):
        read_mark(vault.keyring, vault.keyring.dataset("transport"), "transport")


def test_an_append_holds_the_old_rows_and_the_new(
    vault: Vault, seal: Sealer, tools: SimpleNamespace, trusted: list
) -> None:
    old, new = tools.make_batches(300), tools.make_batches(200, seed=5)
    first = seal(old, partitions=2)
    second = seal(
        (batch for part in (vault.rows(first.digest(), trusted), new) for batch in part),
        partitions=2,
        parent=first.digest(),
    )
    names = [name for name, _ in second.columns[2:]]
    with vault.open_snapshot(second.digest(), names, trusted) as opened:
        assert tools.row_multiset(list(opened.partitions())) == tools.source_multiset([*old, *new])


def test_a_manifest_whose_place_does_not_fit_its_parent_is_no_manifest(
    vault: Vault, tools: SimpleNamespace, description: DatasetDescription, signers: dict[SuiteName, PrivateKey]
) -> None:
    intl = SuiteName.INTL
    request = SealRequest(description, intl, signers[intl], "health", tools.at, 1, generation=3)
    with pytest.raises(ValueError, match="form"):
        SnapshotWriter(vault.keyring, vault.blobs, vault._directory).seal(request, tools.make_batches(10), None)


def test_the_digest_covers_the_place(chain: list[SnapshotManifest]) -> None:
    other = Digest(f"sha256:{'0' * 64}")
    assert replace(chain[1], parent=other).digest() != chain[1].digest()
    assert replace(chain[1], generation=2).digest() != chain[1].digest()
