"""Destruction: first the keys, then the objects, then a second read that must find nothing.

With both halves of a snapshot key gone its objects are noise to everybody who has no copy of a half.  The order is such
that a crash at any moment leaves either the snapshot whole or a snapshot that no longer opens and whose destruction can
be called again: the manifest, which is the inventory, goes last, after the certificate stands in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sandbox.errors import KeyUnavailableError, SnapshotNotFoundError, StorageError, VaultError
from sandbox.model.digest import Digest
from sandbox.model.keys import PublicKey
from sandbox.vault.keyring import SIDES, Keyring, dataset_name
from sandbox.vault.manifest import SnapshotManifest, manifest_name
from sandbox.vault.mark import forget_mark
from sandbox.vault.store import Vault


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What became of one snapshot.

    Attributes:
        manifest: its manifest, which is the inventory.
        halves: for each side, `deleted` now, or `absent` before.
        objects_deleted: how many objects were removed now; the others were gone.
        second_read: what the second read found, as a canonical record.
    """

    manifest: SnapshotManifest
    halves: dict[str, str]
    objects_deleted: int
    second_read: dict[str, Any]


def destroy_snapshot(
    vault: Vault, manifest: SnapshotManifest, trusted: Sequence[PublicKey], progress: Callable[[str], None] | None
) -> Destroyed:
    """Destroy a snapshot's keys and objects and prove by a second read that it is gone.

    Raises:
        VaultError: something of it could still be read afterwards (`vault.destruction_failed`).
        StorageError: the disk refused; call it again.
    """
    keyring, blobs = vault.keyring, vault.blobs
    halves: dict[str, str] = {}
    for side in SIDES:
        try:
            keyring.shred(manifest.snapshot, side)
            halves[side] = "deleted"
        except StorageError as error:
            if error.code != "vault.storage.missing":
                raise
            halves[side] = "absent"
    deleted = 0
    for sealed in manifest.objects:
        if blobs.exists(sealed.name):
            blobs.delete(sealed.name)
            deleted += 1
        if progress is not None:
            progress(sealed.name)
    return Destroyed(manifest, halves, deleted, _second_read(vault, manifest, trusted))


def forget_manifest(vault: Vault, snapshot: Digest) -> None:
    """Remove the manifest of a snapshot whose certificate stands in the log."""
    with _may_be_gone():
        vault.blobs.delete(manifest_name(snapshot))


def forget_dataset(keyring: Keyring, dataset: str) -> None:
    """Remove a dataset's own keys and mark, when the last of its snapshots is destroyed."""
    forget_mark(keyring, dataset)
    with _may_be_gone():
        keyring.store.delete(dataset_name(dataset))


@contextmanager
def _may_be_gone() -> Iterator[None]:
    """Let a blob that is not there be as good as deleted."""
    try:
        yield
    except StorageError as error:
        if error.code != "vault.storage.missing":
            raise


def _second_read(vault: Vault, manifest: SnapshotManifest, trusted: Sequence[PublicKey]) -> dict[str, Any]:
    """Look for every part again, and try to open the snapshot as a job would."""
    there = [sealed.object_id for sealed in manifest.objects if vault.blobs.exists(sealed.name)]
    kept = [side for side in SIDES if manifest.snapshot in vault.keyring.snapshots(side)]
    try:
        vault.open_snapshot(manifest.digest(), (), trusted, past=True).close()
        refusal = ""
    except (KeyUnavailableError, SnapshotNotFoundError) as error:
        refusal = error.code
    if there or kept or not refusal:
        raise VaultError(
            f"snapshot `{manifest.snapshot[:12]}` is not destroyed: a second read still found something",
            hint="call the command again; if it stays, somebody is restoring files meanwhile",
            code="vault.destruction_failed",
            objects=there,
            halves=kept,
        )
    return {"objects_looked_for": len(manifest.objects), "objects_found": 0, "halves_found": 0, "opening": refusal}
