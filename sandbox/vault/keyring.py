"""The keys of a vault, in a hierarchy that can be cut at any place.

```
master                 locked under a passphrase (scrypt), file `master`
  dataset key          file `datasets/<hash of the dataset's name>`
    tokens, partition  secrets of the dataset, in the same file: identifiers to tokens; units to partitions
    platform half      file `platform/<snapshot>`;  snapshot key = HKDF(platform half || owner half),
    owner half         file `owner/<snapshot>`      so that either side alone can destroy the snapshot
      object key       wrapped, in the snapshot's manifest: one for each partition and column
        chunk key      derived, never stored
```

Every stored key is wrapped under its parent (`wrapping.py`).  A snapshot's two halves are 32 random bytes each: without
one of them nothing is known of the snapshot key.  Since nothing else can open the snapshot's objects, deleting one half
(and its backups) makes them noise.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keyfile import lock_secret, unlock_secret
from sandbox.crypto.suites import Suite, suite
from sandbox.errors import CanonicalError, KeyUnavailableError, SaggarError, SealBrokenError, StorageError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import hash_bytes
from sandbox.model.keys import SuiteName, decode_base64
from sandbox.vault.blobs import BlobStore, LocalBlobStore
from sandbox.vault.wrapping import WrappedKey, unwrap_secret, wrap_secret

Side = Literal["platform", "owner"]
SIDES: tuple[Side, Side] = ("platform", "owner")

_MASTER = "master"
_MASTER_PURPOSE = "saggar/vault/master/1"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class DatasetKeys:
    """The secrets of one dataset.

    Attributes:
        key_id: the dataset key's id.
        wrapping: the dataset key, under which the halves of snapshot keys lie.
        tokens: the key of `crypto.tokens.Tokeniser`.
        partition: the key of the map from units to partitions.
    """

    key_id: str
    wrapping: bytes = field(repr=False)
    tokens: bytes = field(repr=False)
    partition: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """What the two halves of a snapshot key derive.

    Attributes:
        suite: the snapshot's suite.
        snapshot: the snapshot's id (32 hexadecimal digits).
        objects: the key that object keys are wrapped under.
        facts: the key of the manifest's sealed part.
    """

    suite: Suite
    snapshot: str
    objects: bytes = field(repr=False)
    facts: bytes = field(repr=False)

    def wrap_object(self, object_id: str, column: str, secret: bytes) -> bytes:
        """Return the object key `secret`, sealed for the manifest."""
        wrapped = wrap_secret(
            self.suite, self.objects, secret, key_id=object_id, purpose=f"object/{column}", parent=self.snapshot
        )
        return wrapped.sealed

    def unwrap_object(self, object_id: str, column: str, sealed: bytes) -> bytes:
        """Return the key of one object; raise `SealBrokenError` if the manifest's record does not fit."""
        purpose = f"object/{column}"
        wrapped = WrappedKey(object_id, 1, purpose, self.snapshot, sealed)
        name = f"objects/{object_id}"
        return unwrap_secret(self.suite, self.objects, wrapped, purpose=purpose, parent=self.snapshot, name=name)


class Keyring:
    """The open keyring of a vault.  It holds the master key in memory and unwraps the others when asked.

    Args:
        store: where the key files are.
        wrapping_suite: the suite that keys are wrapped in.
        master_id: the master key's id.
        master: the master key.
    """

    def __init__(self, store: BlobStore, wrapping_suite: Suite, master_id: str, master: bytes) -> None:
        self._store = store
        self._suite = wrapping_suite
        self._master_id = master_id
        self._master = master

    @classmethod
    def create(cls, directory: Path, *, passphrase: str, suite: SuiteName) -> Keyring:
        """Make a keyring in an empty directory and return it open.

        Raises:
            StorageError: there is a keyring already (`vault.storage.exists`), or the disk refuses.
        """
        store = LocalBlobStore(directory)
        if store.exists(_MASTER):
            raise StorageError(
                "there is a keyring here already",
                hint="open it, or choose another directory; a keyring is never overwritten",
                code="vault.storage.exists",
            )
        wrapping_suite = _suite(suite)
        master_id, master = random_bytes(16).hex(), random_bytes(wrapping_suite.key_bytes)
        record = {"v": 1, "suite": suite.value, "id": master_id, "key": base64.b64encode(master).decode()}
        store.put(_MASTER, lock_secret(canonical_bytes(record), passphrase, _MASTER_PURPOSE))
        return cls(store, wrapping_suite, master_id, master)

    @classmethod
    def open(cls, directory: Path, *, passphrase: str) -> Keyring:
        """Open the keyring in `directory`.

        Raises:
            KeyUnavailableError: there is none (`vault.key_unavailable.master`), or the passphrase is wrong.
        """
        store = LocalBlobStore(directory)
        if not store.exists(_MASTER):
            raise KeyUnavailableError(
                "there is no keyring here",
                hint="check the directory, or make a vault first",
                code="vault.key_unavailable.master",
            )
        record = parse_canonical(unlock_secret(store.get(_MASTER), passphrase, _MASTER_PURPOSE))
        return cls(store, _suite(SuiteName(record["suite"])), record["id"], decode_base64(record["key"]))

    def ensure_dataset(self, dataset: str) -> DatasetKeys:
        """Return the keys of `dataset`, made at the first call for it."""
        name = _dataset_name(dataset)
        if not self._store.exists(name):
            self._store.put(name, self._new_dataset(dataset))
        return self.dataset(dataset)

    def dataset(self, dataset: str) -> DatasetKeys:
        """Return the keys of `dataset`.

        Raises:
            KeyUnavailableError: the dataset has none (`vault.key_unavailable.dataset`).
            SealBrokenError: the key file was changed.
        """
        name = _dataset_name(dataset)
        missing = KeyUnavailableError(
            f"there are no keys for the dataset `{dataset}`",
            hint="the vault's custodian must restore them from a backup",
            code="vault.key_unavailable.dataset",
        )
        record = self._read(name, {"v", "dataset", "keys"}, missing)
        try:
            wrapped = {purpose: WrappedKey.parse(record["keys"][purpose]) for purpose in _DATASET_SECRETS}
        except (SaggarError, KeyError, TypeError) as error:
            raise _broken(name) from error
        place = f"keys/{name}"
        top = wrapped["dataset"]
        wrapping = unwrap_secret(
            self._suite, self._master, top, purpose=f"dataset/{dataset}", parent=self._master_id, name=place
        )
        tokens, partition = (
            unwrap_secret(
                self._suite, wrapping, wrapped[what], purpose=f"{what}/{dataset}", parent=top.key_id, name=place
            )
            for what in ("tokens", "partition")
        )
        return DatasetKeys(top.key_id, wrapping, tokens, partition)

    def create_snapshot_key(self, dataset: str, snapshot: str, owner: str, suite: SuiteName) -> SnapshotKey:
        """Draw both halves of a snapshot key, store them durably and return the key."""
        keys = self.ensure_dataset(dataset)
        halves = [random_bytes(_SECRET_BYTES) for _ in SIDES]
        for side, half in zip(SIDES, halves, strict=True):
            wrapped = wrap_secret(
                self._suite,
                keys.wrapping,
                half,
                key_id=random_bytes(16).hex(),
                purpose=_half_purpose(side, dataset, snapshot, owner),
                parent=keys.key_id,
            )
            self._store.put(half_name(side, snapshot), canonical_bytes({"v": 1, "key": wrapped.to_record()}))
        return derive_snapshot_key(_suite(suite), snapshot, halves[0], halves[1])

    def snapshot_key(self, dataset: str, snapshot: str, owner: str, suite: SuiteName) -> SnapshotKey:
        """Return the key of a snapshot.

        Raises:
            KeyUnavailableError: a half is missing; the message names who holds it (`vault.key_unavailable.owner_half`,
                `vault.key_unavailable.platform_half`).
            SealBrokenError: a half was changed, or is another snapshot's.
        """
        keys = self.dataset(dataset)
        halves = []
        for side in SIDES:
            name = half_name(side, snapshot)
            record = self._read(name, {"v", "key"}, _missing_half(side, snapshot, owner))
            try:
                wrapped = WrappedKey.parse(record["key"])
            except SaggarError as error:
                raise _broken(name) from error
            purpose = _half_purpose(side, dataset, snapshot, owner)
            halves.append(
                unwrap_secret(
                    self._suite, keys.wrapping, wrapped, purpose=purpose, parent=keys.key_id, name=f"keys/{name}"
                )
            )
        return derive_snapshot_key(_suite(suite), snapshot, halves[0], halves[1])

    def shred(self, snapshot: str, side: Side) -> None:
        """Delete one half of a snapshot key: its objects can no longer be opened.

        The claim reaches as far as this file does: a copy of the half in a backup is still a key, until the dataset key
        or the master that it hangs under is destroyed too.
        """
        self._store.delete(half_name(side, snapshot))

    def snapshots(self, side: Side) -> tuple[str, ...]:
        """Return the ids of the snapshots whose half is on this side."""
        return tuple(name.partition("/")[2] for name in self._store.names(f"{side}/"))

    def _new_dataset(self, dataset: str) -> bytes:
        key_id, secret = random_bytes(16).hex(), random_bytes(self._suite.key_bytes)
        wrapped = {
            "dataset": wrap_secret(
                self._suite,
                self._master,
                secret,
                key_id=key_id,
                purpose=f"dataset/{dataset}",
                parent=self._master_id,
            )
        }
        for what in ("tokens", "partition"):
            wrapped[what] = wrap_secret(
                self._suite,
                secret,
                random_bytes(_SECRET_BYTES),
                key_id=random_bytes(16).hex(),
                purpose=f"{what}/{dataset}",
                parent=key_id,
            )
        keys = {what: key.to_record() for what, key in wrapped.items()}
        return canonical_bytes({"v": 1, "dataset": dataset, "keys": keys})

    def _read(self, name: str, fields: set[str], missing: KeyUnavailableError) -> dict[str, Any]:
        try:
            record = parse_canonical(self._store.get(name))
        except StorageError as error:
            if error.code == "vault.storage.missing":
                raise missing from error
            raise
        except CanonicalError as error:
            raise _broken(name) from error
        if not isinstance(record, dict) or set(record) != fields or record["v"] != 1:
            raise _broken(name)
        return record


_DATASET_SECRETS = ("dataset", "tokens", "partition")
_suite = suite  # the parameter of that name hides the function


def derive_snapshot_key(suite: Suite, snapshot: str, platform_half: bytes, owner_half: bytes) -> SnapshotKey:
    """Return the snapshot key of two halves: HKDF (RFC 5869) with the suite's hash.

    Extract: PRK = HMAC(salt = "saggar/snapshot-key/1", platform half || owner half).  Expand: info = purpose, 0x00, the
    snapshot's id.
    """
    extracted = suite.mac(b"saggar/snapshot-key/1", platform_half + owner_half)
    objects, facts = (
        suite.expand(extracted, purpose + b"\x00" + snapshot.encode(), suite.key_bytes)
        for purpose in (b"objects", b"facts")
    )
    return SnapshotKey(suite, snapshot, objects, facts)


def half_name(side: Side, snapshot: str) -> str:
    """Return the name of the file with one half of a snapshot key."""
    return f"{side}/{snapshot}"


def _half_purpose(side: Side, dataset: str, snapshot: str, owner: str) -> str:
    return canonical_bytes([f"{side}-half", dataset, snapshot, owner]).decode()


def _dataset_name(dataset: str) -> str:
    return f"datasets/{hash_bytes(b'saggar/dataset-file/1' + dataset.encode()).hex()[:32]}"


def _missing_half(side: Side, snapshot: str, owner: str) -> KeyUnavailableError:
    holder = f"the owner `{owner}`" if side == "owner" else "the platform"
    return KeyUnavailableError(
        f"the half of the key of snapshot `{snapshot[:12]}` that {holder} keeps is missing",
        hint=f"{holder} must restore it; if it was destroyed, the snapshot cannot be opened again",
        code=f"vault.key_unavailable.{side}_half",
        snapshot=snapshot,
        owner=owner,
    )


def _broken(name: str) -> SealBrokenError:
    return SealBrokenError(
        f"the key file `keys/{name}` is damaged",
        hint="restore it from a backup",
        code="vault.seal_broken.key",
        object=f"keys/{name}",
    )
