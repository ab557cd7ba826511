"""Ceremonies over the keys of a state directory: split, recover, rotate, a new passphrase, the close of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.crypto.keyfile import unlock_key
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import InputError, VaultError
from sandbox.model.keys import PublicKey, Role
from sandbox.service.clock import SystemClock
from sandbox.service.compose import open_records, unlock_named
from sandbox.service.config import Layout, StateConfig
from sandbox.service.rekey import check_passphrase, finish_relock, relock
from sandbox.service.state_lock import hold_state
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.custody import OpenedShare, Share, combine_shares, split_master, verify_share
from sandbox.vault.escrow import keep_in_escrow, keys_in_escrow
from sandbox.vault.keyring import Keyring
from sandbox.vault.outstanding import ShareReceipt, check_receipts, forget_ceremonies, note_ceremony
from sandbox.vault.rotation import begin_master, rotate_dataset, rotate_master
from sandbox.vault.unit_keys import unit_keys, unit_kinds


@dataclass(frozen=True, slots=True)
class OpenKeys:
    """The keys of a state directory, opened without the engine.

    Attributes:
        layout: where they lie.
        keyring: the vault's.
        own: `sandbox`, and `witness` where it is local under the same passphrase.
        clock: the time.
    """

    layout: Layout
    keyring: Keyring
    own: dict[str, PrivateKey]
    clock: SystemClock


@contextmanager
def open_keys(directory: Path, *, passphrase: str, purpose: str, wait_s: float) -> Iterator[OpenKeys]:
    """Open the keys of a state directory, which is held alone meanwhile."""
    layout = Layout(directory)
    StateConfig.read(layout)
    with hold_state(directory, purpose=purpose, wait_s=wait_s):
        finish_relock(layout)
        own = {"sandbox": unlock_named(directory, "sandbox", passphrase)}
        witness = layout.witness / "witness.key"
        if witness.exists():
            own["witness"] = unlock_key(witness.read_bytes(), passphrase)
        yield OpenKeys(layout, Keyring.open(layout.vault / "keys", passphrase=passphrase), own, SystemClock())


def split(keys: OpenKeys, custodians: Sequence[PublicKey], *, threshold: int) -> tuple[Share, ...]:
    """Return the shares of the master key, and keep the sandbox's keys in escrow under it.

    Raises:
        InputError: the custodians will not do.
    """
    at = keys.clock.now()
    shares = split_master(keys.keyring.ring, custodians, threshold=threshold, signer=keys.own["sandbox"], at=at)
    for key in keys.own.values():
        keep_in_escrow(keys.keyring, key)
    note_ceremony(keys.keyring, shares)
    return shares


def check_shares(directory: Path, shares: Sequence[Share]) -> None:
    """Refuse a share that the sandbox of this log did not sign; the error names its holder."""
    with open_records(directory) as records:
        trusted = records.trusted(Role.SANDBOX)
    for share in shares:
        verify_share(share, trusted)


def recover_keys(directory: Path, opened: Sequence[OpenedShare], *, passphrase: str, wait_s: float) -> None:
    """Bring the master key and the sandbox's keys back from shares, locked under a new passphrase.

    Raises:
        VaultError: a share is wrong, there are too few, or they are of a master key that is no longer in force
            (`vault.custody.older`); nothing was changed.
    """
    check_passphrase(passphrase)
    check_shares(directory, [each.share for each in opened])
    ring = combine_shares(opened)
    layout = Layout(directory)
    with hold_state(directory, purpose="keys recover", wait_s=wait_s):
        finish_relock(layout)
        keyring = Keyring(LocalBlobStore(layout.vault / "keys"), ring)
        try:
            own = {key.public.name: key for key in keys_in_escrow(keyring)}
            for dataset in keyring.datasets():
                keyring.dataset(dataset)
            for kind in unit_kinds(keyring):
                unit_keys(keyring, kind)
        except VaultError as error:
            raise VaultError(
                "these shares give a master key that this vault no longer uses",
                hint="bring the shares of the newest ceremony",
                code="vault.custody.older",
            ) from error
        relock(layout, keys=own, ring=ring, passphrase=passphrase)


def change_passphrase(keys: OpenKeys, passphrase: str) -> None:
    """Lock the sandbox's key files and the vault's master key under a new passphrase."""
    relock(keys.layout, keys=keys.own, ring=keys.keyring.ring, passphrase=passphrase)


def rotate(keys: OpenKeys, passphrase: str, *, dataset: str | None) -> int:
    """Give a dataset's key, or the master key, a new version; return it.  Objects are not touched."""
    if dataset is None:
        rotate_master(keys.keyring, passphrase)
        return keys.keyring.ring.primary.version
    rotate_dataset(keys.keyring, dataset)
    return keys.keyring.dataset(dataset).version


def replace_master(
    keys: OpenKeys, *, old: str, new: str, receipts: Sequence[ShareReceipt], custodians: Sequence[PublicKey]
) -> tuple[str, str]:
    """Put a new master key under a new passphrase in force and forget the old one; return both ids.

    Raises:
        InputError: the new passphrase is the old one, or too short.
        VaultError: shares of the old master key are still out that could bring it back (`vault.custody.outstanding`).
    """
    check_passphrase(new)
    if new == old:
        raise InputError(
            "closing an epoch needs a new passphrase",
            hint="under the old one the old backups still open; choose another and forget the old one",
            code="input.passphrase",
        )
    keyring = keys.keyring
    check_receipts(keyring, receipts, custodians)
    before = keyring.ring.keys[-1].key_id
    begin_master(keyring, old)
    relock(keys.layout, keys=keys.own, ring=keyring.ring.trimmed(), passphrase=new)
    forget_ceremonies(keyring, keep=keyring.ring.primary.key_id)
    return before, keyring.ring.primary.key_id
