"""The owner's half of a snapshot key, outside: the department keeps it on its own medium and lends it for a while.

Without it nothing in the vault opens the snapshot, whoever holds the master key.  The half travels sealed to the
department's key and signed by the sandbox; it comes back opened by the department and is tried on the snapshot before
it is kept.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.envelope import open_sealed, seal_to
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.crypto.suites import suite
from sandbox.errors import InputError, SaggarError, VaultError
from sandbox.jobs.engine import Engine
from sandbox.jobs.registry import destroyed_before, snapshot_of
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, parse_digest
from sandbox.model.keys import Role, Signature, decode_base64
from sandbox.vault.keyring import derive_snapshot_key, half_purpose
from sandbox.vault.manifest import SnapshotManifest, open_facts

SIGNING_CONTEXT = "saggar/owner-half/1"


@dataclass(frozen=True, slots=True)
class OwnerHalf:
    """An owner half, opened by its department.

    Attributes:
        snapshot: the snapshot's digest.
        manifest: its manifest.
        half: the 32 bytes.
    """

    snapshot: Digest
    manifest: SnapshotManifest
    half: bytes


def export_half(engine: Engine, dataset: str) -> bytes:
    """Return the file with the owner half of a dataset's current snapshot, sealed to the department that owns it.

    Raises:
        InputError: the owner has no registered department key (`input.unknown_key`).
        KeyUnavailableError: the half is outside already.
    """
    snapshot = snapshot_of(engine, dataset)
    manifest = engine.vault.manifest(snapshot, engine.trusted(Role.SANDBOX))
    owner = next((key for key in engine.trusted(Role.DEPARTMENT) if key.name == manifest.owner), None)
    if owner is None:
        raise InputError(
            f"the owner `{manifest.owner}` has no registered department key to seal its half to",
            hint="register one with `saggar keys add`",
            code="input.unknown_key",
        )
    keyring = engine.vault.keyring
    half = keyring.half(keyring.dataset(dataset), "owner", dataset, manifest.snapshot, manifest.owner)
    words = {
        "v": 1,
        "kind": "saggar.owner_half",
        "dataset": dataset,
        "snapshot": snapshot,
        "owner": owner.key_id,
        "at": engine.clock.now(),
        "sealed": base64.b64encode(seal_to(owner, half, _context(snapshot))).decode(),
    }
    signature = sign(engine.key, SIGNING_CONTEXT, canonical_bytes(words))
    return canonical_bytes({"owner_half": words, "signature": signature.to_record()})


def open_half(engine: Engine, raw: bytes, key: PrivateKey) -> OwnerHalf:
    """Return the half of a file, opened by its department and tried on the snapshot.

    Raises:
        VaultError: the file was altered, is another department's, or its half does not fit (`vault.owner_half`).
        SnapshotNotFoundError: the snapshot was destroyed.
    """
    try:
        stored = parse_canonical(raw)
        words: dict[str, Any] = stored["owner_half"]
        signature, sealed = Signature.parse(stored["signature"]), decode_base64(words["sealed"])
        snapshot, owner, kind = parse_digest(words["snapshot"]), words["owner"], words["kind"]
        signer = next(k for k in engine.trusted(Role.SANDBOX) if k.key_id == signature.key_id)
        verify_signature(signer, SIGNING_CONTEXT, canonical_bytes(words), signature)
    except (SaggarError, KeyError, TypeError, StopIteration) as error:
        raise _refused("is damaged, or was not made by this vault") from error
    if kind != "saggar.owner_half" or owner != key.public.key_id:
        raise _refused(f"is not one of `{key.public.name}`")
    for dataset in engine.state().datasets.values():
        if dataset.certificate_of(snapshot) is not None:
            raise destroyed_before(dataset, snapshot)
    manifest = engine.vault.manifest(snapshot, engine.trusted(Role.SANDBOX))
    try:
        half = open_sealed(key, sealed, _context(snapshot))
        _try_on(engine, manifest, half)
    except SaggarError as error:
        raise _refused("does not open the snapshot that it names") from error
    return OwnerHalf(snapshot, manifest, half)


def remove_half(engine: Engine, raw: bytes, key: PrivateKey) -> OwnerHalf:
    """Delete the vault's copy of an owner half, once its department has shown that its own copy opens.

    Raises:
        VaultError: the department's copy is not the half (`vault.owner_half`); nothing is deleted.
        StorageError: there is no copy here.
    """
    opened = open_half(engine, raw, key)
    manifest, keyring = opened.manifest, engine.vault.keyring
    keys = keyring.dataset(manifest.dataset)
    here = keyring.half(keys, "owner", manifest.dataset, manifest.snapshot, manifest.owner)
    if not hmac.compare_digest(here, opened.half):
        raise _refused("is another than the vault's")
    keyring.shred(manifest.snapshot, "owner")
    return opened


def import_half(engine: Engine, raw: bytes, key: PrivateKey) -> OwnerHalf:
    """Keep an owner half that its department lends, until it is removed again."""
    opened = open_half(engine, raw, key)
    manifest, keyring = opened.manifest, engine.vault.keyring
    purpose = half_purpose("owner", manifest.dataset, manifest.snapshot, manifest.owner)
    keyring.keep_half(keyring.dataset(manifest.dataset), "owner", manifest.snapshot, purpose, opened.half)
    return opened


def _try_on(engine: Engine, manifest: SnapshotManifest, half: bytes) -> None:
    keyring = engine.vault.keyring
    keys = keyring.dataset(manifest.dataset)
    platform = keyring.half(keys, "platform", manifest.dataset, manifest.snapshot, manifest.owner)
    open_facts(derive_snapshot_key(suite(manifest.suite), manifest.snapshot, platform, half), manifest)


def _context(snapshot: Digest) -> str:
    return f"saggar/owner-half/{snapshot}"


def _refused(why: str) -> VaultError:
    return VaultError(
        f"the owner half {why}",
        hint="the department brings the file that `saggar keys export-half` made for this snapshot, and its own key",
        code="vault.owner_half",
    )
