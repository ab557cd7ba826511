"""Ceremonies over the keys of a state directory: split, recover, rotate, a new passphrase, the close of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keyfile import factor_needed
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.named_file import unlock_file
from sandbox.errors import InputError, KeyUnavailableError, VaultError
from sandbox.model.keys import PublicKey, Role
from sandbox.service.clock import SystemClock
from sandbox.service.compose import open_records, unlock_named
from sandbox.service.config import Layout, StateConfig
from sandbox.service.rekey import check_passphrase, finish_relock, relock
from sandbox.service.second_factor import check_place, destroy_file, factor_path, factors_at_hand, put_beside
from sandbox.service.state_lock import hold_state
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.custody import OpenedShare, Share, combine_shares, split_master, verify_share
from sandbox.vault.escrow import keep_in_escrow, keys_in_escrow
from sandbox.vault.keyring import Keyring
from sandbox.vault.lost import LostShare
from sandbox.vault.masters import MASTER_FILE, MasterRing
from sandbox.vault.outstanding import ShareReceipt, begin_record, check_receipts, forget_ceremonies, note_ceremony
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
            own["witness"] = unlock_file(witness.read_bytes(), passphrase, "witness/witness.key")
        keyring = Keyring.open(layout.vault / "keys", passphrase=passphrase, factors=factors_at_hand(layout))
        yield OpenKeys(layout, keyring, own, SystemClock())


def split(keys: OpenKeys, custodians: Sequence[PublicKey], *, threshold: int) -> tuple[Share, ...]:
    """Return the shares of the master key, and keep the sandbox's keys in escrow under it; raise as `deal` does."""
    return tuple(deal(keys, custodians, threshold=threshold))


def deal(keys: OpenKeys, custodians: Sequence[PublicKey], *, threshold: int) -> Iterator[Share]:
    """Yield the shares of the master key one by one, and keep the sandbox's keys in escrow under it.

    Each share counts as handed out from just before it is yielded: a ceremony that breaks off leaves no share that
    nobody knows of, and one that nobody has at most, so that the others can still bring their number below the
    threshold when the epoch is closed.

    Raises:
        InputError: the custodians will not do.
    """
    at = keys.clock.now()
    shares = split_master(keys.keyring.ring, custodians, threshold=threshold, signer=keys.own["sandbox"], at=at)
    begin_record(keys.keyring)
    for key in keys.own.values():
        keep_in_escrow(keys.keyring, key)
    for number, share in enumerate(shares, start=1):
        note_ceremony(keys.keyring, shares[:number])
        yield share


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
        own = check_ring(directory, ring)
        path = factor_path(layout)
        factor = None if path is None else SecondFactor.new()
        if path is not None and factor is not None:
            put_beside(path, factor, _at_hand(layout))
        relock(layout, keys=own, ring=ring, passphrase=passphrase, factor=factor)


def check_ring(directory: Path, ring: MasterRing) -> dict[str, PrivateKey]:
    """Return the sandbox's keys that the master key brings back from escrow, by name; everything under it must open.

    Raises:
        VaultError: the vault no longer uses this master key (`vault.custody.older`).
    """
    keyring = Keyring(LocalBlobStore(Layout(directory).vault / "keys"), ring)
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
    return own


def change_passphrase(keys: OpenKeys, passphrase: str) -> None:
    """Lock the sandbox's key files and the vault's master key under a new passphrase."""
    relock(keys.layout, keys=keys.own, ring=keys.keyring.ring, passphrase=passphrase, factor=keys.keyring.factor)


def set_second_factor(keys: OpenKeys, path: Path | None, *, passphrase: str) -> None:
    """Put a fresh second factor in force at `path`, or none; what was in force before is destroyed.

    Args:
        keys: the opened keys.
        path: the new file, outside of the state directory; None to need the passphrase alone from now on.
        passphrase: the one in use; it stays.

    Raises:
        InputError: the place will not do (`input.second_factor`).
        StorageError: a disk refused; the old factor is still in force.
    """
    layout, before = keys.layout, factor_path(keys.layout)
    config = StateConfig.read(layout)
    factor = None
    if path is not None:
        whole, factor = check_place(layout, path), SecondFactor.new()
        put_beside(whole, factor, keys.keyring.factor)
        replace(config, second_factor=str(whole)).write(layout)
    relock(layout, keys=keys.own, ring=keys.keyring.ring, passphrase=passphrase, factor=factor)
    if path is None:
        replace(config, second_factor=None).write(layout)
    if before is not None:
        destroy_file(before)


def rotate(keys: OpenKeys, passphrase: str, *, dataset: str | None) -> int:
    """Give a dataset's key, or the master key, a new version; return it.  Objects are not touched."""
    if dataset is None:
        rotate_master(keys.keyring, passphrase)
        return keys.keyring.ring.primary.version
    rotate_dataset(keys.keyring, dataset)
    return keys.keyring.dataset(dataset).version


def replace_master(
    keys: OpenKeys,
    *,
    old: str,
    new: str,
    receipts: Sequence[ShareReceipt],
    custodians: Sequence[PublicKey],
    lost: Sequence[LostShare] = (),
) -> tuple[str, str]:
    """Put a new master key under a new passphrase in force and forget the old one; return both ids.

    Where there is a second factor it is replaced too, and the old one destroyed: then a backup from before opens
    nothing, even for somebody who remembers the old passphrase.

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
    check_receipts(keyring, receipts, custodians, lost)
    before = keyring.ring.keys[-1].key_id
    begin_master(keyring, old)
    factor, path = None, factor_path(keys.layout)
    if path is not None:
        factor = SecondFactor.new()
        put_beside(path, factor, keyring.factor)
    relock(keys.layout, keys=keys.own, ring=keyring.ring.trimmed(), passphrase=new, factor=factor)
    forget_ceremonies(keyring, keep=keyring.ring.primary.key_id)
    return before, keyring.ring.primary.key_id


def _at_hand(layout: Layout) -> SecondFactor | None:
    """Return the factor that the master file needs, if its file still has it; a damaged file counts as lost."""
    try:
        needed = factor_needed((layout.vault / "keys" / MASTER_FILE).read_bytes())
        return next((each for each in factors_at_hand(layout) if each.factor_id == needed), None)
    except (KeyUnavailableError, OSError):
        return None
