"""The keys of a vault, in a hierarchy that can be cut at any place.

```
master                 locked under a passphrase (scrypt), file `master`; split among custodians (`custody.py`)
  tokens, partition    file `units/<hash of the unit kind>`: identifiers to tokens; units to partitions (`unit_keys.py`)
  dataset key          file `datasets/<hash of the dataset's name>`
    mark               file `marks/<hash of the dataset's name>`: the newest snapshot that a reader saw
    platform half      file `platform/<snapshot>`;  snapshot key = HKDF(platform half || owner half),
    owner half         file `owner/<snapshot>`      so that either side alone can destroy the snapshot
      object key       wrapped, in the snapshot's manifest: one for each partition and column
        chunk key      derived, never stored
```

Every stored key is wrapped under its parent (`wrapping.py`).  A snapshot's two halves are 32 random bytes each: without
one of them nothing is known of the snapshot key.  Since nothing else can open the snapshot's objects, deleting one half
(and its backups) makes them noise.  `rotation.py` gives master and dataset keys new versions; data is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keyfile import factor_needed
from sandbox.crypto.named_file import speaking_of
from sandbox.crypto.suites import Suite, suite
from sandbox.errors import CanonicalError, KeyUnavailableError, SaggarError, StorageError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import hash_bytes
from sandbox.model.keys import SuiteName
from sandbox.vault.blobs import BlobStore, LocalBlobStore
from sandbox.vault.key_errors import broken_key_file, missing_half, older_version, trimmed_key
from sandbox.vault.masters import MASTER_FILE, MasterRing
from sandbox.vault.wrapping import WrappedKey, unwrap_secret, wrap_secret

Side = Literal["platform", "owner"]
SIDES: tuple[Side, Side] = ("platform", "owner")

DATASET_VERSION = 3
"""Of a dataset's key file.  Version 2 held a token key of each dataset's own."""

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class DatasetKeys:
    """The secrets of one dataset.

    Attributes:
        key_id: the dataset key's id; a rotation gives a new one.
        version: the dataset key's version, from 1.
        wrapping: the dataset key, under which the halves of snapshot keys lie.
        older: earlier dataset keys that a rotation still keeps, by id.
    """

    key_id: str
    version: int
    wrapping: bytes = field(repr=False)
    older: Mapping[str, bytes] = field(repr=False, default_factory=dict)

    def under(self, key_id: str) -> bytes | None:
        """Return the kept dataset key of this id, or None."""
        return self.wrapping if key_id == self.key_id else self.older.get(key_id)


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
        ring: the master keys.
        factor: what the master file needs beside its passphrase, or None.
    """

    def __init__(self, store: BlobStore, ring: MasterRing, factor: SecondFactor | None = None) -> None:
        self._store = store
        self._ring = ring
        self._factor = factor
        self._suite = suite(ring.suite)

    @classmethod
    def create(
        cls, directory: Path, *, passphrase: str, suite: SuiteName, factor: SecondFactor | None = None
    ) -> Keyring:
        """Make a keyring in an empty directory and return it open.

        Raises:
            StorageError: there is a keyring already (`vault.storage.exists`), or the disk refuses.
        """
        store = LocalBlobStore(directory)
        if store.exists(MASTER_FILE):
            raise StorageError(
                "there is a keyring here already",
                hint="open it, or choose another directory; a keyring is never overwritten",
                code="vault.storage.exists",
            )
        keyring = cls(store, MasterRing.new(suite), factor)
        keyring.keep_ring(keyring.ring, passphrase)
        return keyring

    @classmethod
    def open(cls, directory: Path, *, passphrase: str, factors: Sequence[SecondFactor] = ()) -> Keyring:
        """Open the keyring in `directory`.

        Raises:
            KeyUnavailableError: there is none (`vault.key_unavailable.master`), the passphrase is wrong, or the second
                factor that it needs is none of `factors` (`vault.key_unavailable.second_factor`).
        """
        store = LocalBlobStore(directory)
        if not store.exists(MASTER_FILE):
            raise KeyUnavailableError(
                "there is no keyring here",
                hint="check the directory, make a vault first, or recover the master key from the custodians' shares",
                code="vault.key_unavailable.master",
            )
        raw = store.get(MASTER_FILE)
        with speaking_of("vault/keys/master"):
            ring, needed = MasterRing.unlock(raw, passphrase, factors), factor_needed(raw)
        return cls(store, ring, next((each for each in factors if each.factor_id == needed), None))

    @property
    def ring(self) -> MasterRing:
        """The master keys."""
        return self._ring

    @property
    def suite(self) -> Suite:
        """The suite that keys are wrapped in."""
        return self._suite

    @property
    def factor(self) -> SecondFactor | None:
        """What the master file needs beside its passphrase, or None."""
        return self._factor

    @property
    def store(self) -> BlobStore:
        """The key files."""
        return self._store

    def keep_ring(self, ring: MasterRing, passphrase: str) -> None:
        """Write the master keys, locked under `passphrase`, and work with them from here."""
        self._store.put(MASTER_FILE, ring.lock(passphrase, self._factor))
        self._ring = ring

    def ensure_dataset(self, dataset: str) -> DatasetKeys:
        """Return the keys of `dataset`, made at the first call for it."""
        name = dataset_name(dataset)
        if not self._store.exists(name):
            self._store.put(name, self._new_dataset(dataset))
        return self.dataset(dataset)

    def dataset(self, dataset: str) -> DatasetKeys:
        """Return the keys of `dataset`.

        Raises:
            KeyUnavailableError: the dataset has none (`vault.key_unavailable.dataset`).
            SealBrokenError: the key file was changed.
        """
        name = dataset_name(dataset)
        missing = KeyUnavailableError(
            f"there are no keys for the dataset `{dataset}`",
            hint="the vault's custodian must restore them from a backup",
            code="vault.key_unavailable.dataset",
        )
        record = self.read_record(name, {"v", "dataset", "keys"}, missing, version=DATASET_VERSION)
        try:
            tops = [WrappedKey.parse(each) for each in record["keys"]]
        except (SaggarError, TypeError) as error:
            raise broken_key_file(name) from error
        if not tops:
            raise broken_key_file(name)
        wrapping = {top.key_id: self.unwrap_top(top, f"dataset/{dataset}", f"keys/{name}") for top in tops}
        newest = wrapping.pop(tops[0].key_id)
        return DatasetKeys(tops[0].key_id, tops[0].version, newest, wrapping)

    def datasets(self) -> tuple[str, ...]:
        """Return the datasets that have keys here."""
        fields = {"v", "dataset", "keys"}
        names = self._store.names("datasets/")
        records = (self.read_record(name, fields, None, version=DATASET_VERSION) for name in names)
        return tuple(sorted(record["dataset"] for record in records))

    def create_snapshot_key(self, dataset: str, snapshot: str, owner: str, suite: SuiteName) -> SnapshotKey:
        """Draw both halves of a snapshot key, store them durably and return the key."""
        keys = self.ensure_dataset(dataset)
        halves = [random_bytes(_SECRET_BYTES) for _ in SIDES]
        for side, half in zip(SIDES, halves, strict=True):
            self.keep_half(keys, side, snapshot, half_purpose(side, dataset, snapshot, owner), half)
        return derive_snapshot_key(_suite(suite), snapshot, halves[0], halves[1])

    def snapshot_key(self, dataset: str, snapshot: str, owner: str, suite: SuiteName) -> SnapshotKey:
        """Return the key of a snapshot.

        Raises:
            KeyUnavailableError: a half is missing; the message names who holds it (`vault.key_unavailable.owner_half`,
                `vault.key_unavailable.platform_half`).
            SealBrokenError: a half was changed, or is another snapshot's.
        """
        keys = self.dataset(dataset)
        halves = [self.half(keys, side, dataset, snapshot, owner) for side in SIDES]
        return derive_snapshot_key(_suite(suite), snapshot, halves[0], halves[1])

    def half(self, keys: DatasetKeys, side: Side, dataset: str, snapshot: str, owner: str) -> bytes:
        """Return one half of a snapshot key; raise as `snapshot_key` does."""
        name = half_name(side, snapshot)
        record = self.read_record(name, {"v", "key"}, missing_half(side, dataset, snapshot, owner))
        return self.unwrap_below(keys, record["key"], half_purpose(side, dataset, snapshot, owner), name)

    def keep_half(self, keys: DatasetKeys, side: Side, snapshot: str, purpose: str, half: bytes) -> None:
        """Store one half of a snapshot key durably, under the dataset key in force."""
        wrapped = wrap_secret(
            self._suite, keys.wrapping, half, key_id=random_bytes(16).hex(), purpose=purpose, parent=keys.key_id
        )
        self._store.put(half_name(side, snapshot), canonical_bytes({"v": 2, "key": wrapped.to_record()}))

    def unwrap_below(self, keys: DatasetKeys, record: object, purpose: str, name: str) -> bytes:
        """Return a secret that hangs under a dataset key; a version that is no longer kept opens nothing."""
        try:
            wrapped = WrappedKey.parse(record)
        except SaggarError as error:
            raise broken_key_file(name) from error
        under = keys.under(wrapped.parent)
        if under is None:
            raise trimmed_key(name, wrapped.parent)
        return unwrap_secret(self._suite, under, wrapped, purpose=purpose, parent=wrapped.parent, name=f"keys/{name}")

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
        return self.dataset_file(dataset, [(random_bytes(16).hex(), 1, random_bytes(self._suite.key_bytes))])

    def dataset_file(self, dataset: str, tops: Sequence[tuple[str, int, bytes]]) -> bytes:
        """Return a dataset's key file.

        Args:
            dataset: its name.
            tops: `(id, version, secret)` of the dataset keys kept, newest first.
        """
        keys = [
            self.wrap_top(secret, key_id=key_id, purpose=f"dataset/{dataset}", version=version).to_record()
            for key_id, version, secret in tops
        ]
        return canonical_bytes({"v": DATASET_VERSION, "dataset": dataset, "keys": keys})

    def wrap_top(self, secret: bytes, *, key_id: str, purpose: str, version: int = 1) -> WrappedKey:
        """Return a secret that hangs under the master key in force."""
        master = self._ring.primary
        return wrap_secret(
            self._suite,
            master.secret,
            secret,
            key_id=key_id,
            purpose=purpose,
            parent=master.key_id,
            version=version,
        )

    def unwrap_top(self, wrapped: WrappedKey, purpose: str, place: str) -> bytes:
        """Return a secret that hangs under a master key that is kept."""
        master = self._ring.find(wrapped.parent)
        if master is None:
            raise trimmed_key(place.removeprefix("keys/"), wrapped.parent)
        return unwrap_secret(self._suite, master.secret, wrapped, purpose=purpose, parent=master.key_id, name=place)

    def read_record(
        self, name: str, fields: set[str], missing: KeyUnavailableError | None, *, version: int = 2
    ) -> dict[str, Any]:
        """Return the record of a key file; raise `missing`, if there is one, where the file is not there."""
        try:
            record = parse_canonical(self._store.get(name))
        except StorageError as error:
            if error.code == "vault.storage.missing" and missing is not None:
                raise missing from error
            raise
        except CanonicalError as error:
            raise broken_key_file(name) from error
        if not isinstance(record, dict) or set(record) != fields:
            raise broken_key_file(name)
        if record["v"] == 2 < version:
            raise older_version(name)
        if record["v"] != version:
            raise broken_key_file(name)
        return record


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


def half_purpose(side: Side, dataset: str, snapshot: str, owner: str) -> str:
    """Return what a half of a snapshot key is for, as its file says in clear."""
    return canonical_bytes([f"{side}-half", dataset, snapshot, owner]).decode()


def dataset_name(dataset: str) -> str:
    """Return the name of the file with a dataset's keys."""
    return f"datasets/{hash_bytes(b'saggar/dataset-file/1' + dataset.encode()).hex()[:32]}"
