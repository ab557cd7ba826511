"""The vault: the one door to sealed snapshots.

A vault is a directory with `keys/` (see `keyring.py`), `blobs/manifests/` and `blobs/objects/`.  No value of a dataset
is ever written in clear, and no name tells anything of a value.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa

from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import SnapshotNotFoundError, StorageError, VaultError
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, parse_digest, short
from sandbox.model.keys import PublicKey, SuiteName
from sandbox.vault.blobs import BlobStore, LocalBlobStore, storage_error
from sandbox.vault.columns import RANK_COLUMN, SYSTEM_COLUMNS
from sandbox.vault.keyring import SIDES, Keyring
from sandbox.vault.manifest import SnapshotManifest, manifest_name, open_facts, read_manifest
from sandbox.vault.mark import advance_mark, read_mark
from sandbox.vault.opened import OpenedSnapshot
from sandbox.vault.scrub import Scrubber, ScrubReport, find_garbage, snapshot_of
from sandbox.vault.unit_keys import ensure_unit_keys
from sandbox.vault.writer import SealRequest, SnapshotWriter

_LOCK = "lock"
_APPEND_ROWS = 1 << 16


class Vault:
    """An open vault.

    `Vault.create` and `Vault.open` are how to get one.  It holds the master key, so only the trusted engine has it.

    Args:
        directory: the vault's directory.
        keyring: its open keyring.
        blobs: its blobs.
    """

    def __init__(self, directory: Path, keyring: Keyring, blobs: BlobStore) -> None:
        self._directory = directory
        self._keyring = keyring
        self._blobs = blobs

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        passphrase: str,
        suite: SuiteName,
        factor: SecondFactor | None = None,
        blobs: BlobStore | None = None,
    ) -> Vault:
        """Make a vault and return it open.

        Args:
            directory: where; made if it is not there.
            passphrase: what locks the master key.
            suite: the suite that keys are wrapped in; each snapshot chooses its own when it is sealed.
            factor: what is needed beside the passphrase, or None.
            blobs: where sealed bytes go; by default the directory itself.

        Raises:
            StorageError: there is a vault already, or the disk refuses.
        """
        keyring = Keyring.create(directory / "keys", passphrase=passphrase, suite=suite, factor=factor)
        vault = cls(directory, keyring, blobs or LocalBlobStore(directory / "blobs"))
        with vault._locked(fcntl.LOCK_SH):
            return vault

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        passphrase: str,
        factors: Sequence[SecondFactor] = (),
        blobs: BlobStore | None = None,
    ) -> Vault:
        """Open the vault in `directory`.

        Args:
            directory: where its keys are.
            passphrase: what its master key is locked under.
            factors: the second factors at hand.
            blobs: where its sealed bytes are; by default the directory itself.

        Raises:
            KeyUnavailableError: there is none, the passphrase is wrong, or the second factor is not here.
        """
        keyring = Keyring.open(directory / "keys", passphrase=passphrase, factors=factors)
        return cls(directory, keyring, blobs or LocalBlobStore(directory / "blobs"))

    def tokeniser(self, description: DatasetDescription) -> Tokeniser:
        """Return the tokeniser of a dataset's units, one for all datasets of a kind; made at the first call."""
        return Tokeniser(ensure_unit_keys(self._keyring, description.unit.kind).tokens)

    def tokenisers(self, description: DatasetDescription) -> tuple[Tokeniser, ...]:
        """Return a tokeniser for each kind of unit that a description protects, the one that bounds rows first."""
        return tuple(Tokeniser(ensure_unit_keys(self._keyring, kind).tokens) for kind in description.unit_kinds)

    def seal(
        self,
        description: DatasetDescription,
        batches: Iterable[pa.RecordBatch],
        *,
        suite: SuiteName,
        signer: PrivateKey,
        owner: str,
        at: str,
        partitions: int | None = None,
        parent: Digest | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> SnapshotManifest:
        """Seal a stream of rows as a new snapshot and return its signed manifest.

        Args:
            description: the dataset; every batch must fit it.
            batches: `_unit` (int64) and the description's columns in storage types.
            suite: the suite of the snapshot.
            signer: the sandbox's key.
            owner: who keeps the owner half of the snapshot key.
            at: UTC time for the manifest, `YYYY-MM-DDTHH:MM:SSZ`.
            partitions: how many partitions, 1 to 4096; by default a power of two from 4 to 256 by the rows seen.
            parent: the digest of the dataset's snapshot that this one follows, or None for the first.
            progress: called with the number of rows taken in so far.

        Raises:
            InputError: a batch is not as described; its message names columns and never values.
            StorageError: the disk refused.  Earlier snapshots are untouched.
            SignatureError: the signer is not a sandbox key.

        Privacy: order and ranks come from keys and fresh entropy, independent of what rows say.
        Cost: memory about `spill.LIMIT_BYTES` plus three partitions, whatever the number of rows.
        """
        generation = 0 if parent is None else self._generation_after(parent, description.dataset, [signer.public])
        request = SealRequest(description, suite, signer, owner, at, partitions, parent=parent, generation=generation)
        with self._locked(fcntl.LOCK_SH):
            return SnapshotWriter(self._keyring, self._blobs, self._directory).seal(request, batches, progress)

    def rows(self, snapshot: Digest, trusted: Sequence[PublicKey]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a snapshot as batches that `seal` takes, one partition in memory at a time.

        This is how an append is made: a new snapshot of the parent's rows and the new ones.
        """
        columns = [name for name, _ in self.manifest(snapshot, trusted).columns[2:]]
        with self.open_snapshot(snapshot, columns, trusted) as opened:
            for table in opened.partitions():
                yield from table.drop_columns([RANK_COLUMN]).to_batches(max_chunksize=_APPEND_ROWS)

    def snapshots(self) -> tuple[Digest, ...]:
        """Return the digests under which manifests are stored; none of them is verified yet."""
        found = (snapshot_of(name) for name in self._blobs.names("manifests/"))
        return tuple(snapshot for snapshot in found if snapshot is not None)

    def manifest(self, snapshot: Digest, trusted: Sequence[PublicKey]) -> SnapshotManifest:
        """Return the manifest of a snapshot, its digest and signature verified.

        Raises:
            SnapshotNotFoundError: no snapshot has this digest.
            SealBrokenError: the stored manifest is not that of this snapshot, or not signed by a trusted sandbox key.
        """
        name = manifest_name(parse_digest(snapshot))
        try:
            raw = self._blobs.get(name)
        except StorageError as error:
            if error.code != "vault.storage.missing":
                raise
            raise SnapshotNotFoundError(
                f"there is no snapshot `{short(snapshot)}`",
                hint="`saggar log` tells what was sealed and what was destroyed",
                snapshot=snapshot,
            ) from error
        return read_manifest(raw, snapshot, trusted)

    def open_snapshot(
        self, snapshot: Digest, columns: Sequence[str], trusted: Sequence[PublicKey], *, past: bool = False
    ) -> OpenedSnapshot:
        """Open some columns of a snapshot; only their object keys are unwrapped, with those of `_unit` and `_rank`.

        Args:
            snapshot: the snapshot's digest.
            columns: names of columns, in the order wanted; the two of the vault's own come first in any case.
            trusted: the sandbox keys whose signature counts.
            past: whether an old snapshot is meant on purpose (a replay); otherwise one that is older than
                the last seen is refused.

        Raises:
            SnapshotNotFoundError: no snapshot has this digest.
            SealBrokenError: the manifest or a wrapped key was changed.
            VaultError: a newer snapshot was seen before (`vault.rolled_back`).
            KeyUnavailableError: a half of the snapshot key is missing; the message names who keeps it.
            VaultError: there is no such column (`vault.unknown_column`).
        """
        manifest = self.manifest(snapshot, trusted)
        wanted = _wanted_columns(manifest, columns)
        if not past:
            advance_mark(self._keyring, manifest)
        key = self._keyring.snapshot_key(manifest.dataset, manifest.snapshot, manifest.owner, manifest.suite)
        facts = open_facts(key, manifest)
        keys = {
            sealed.object_id: key.unwrap_object(sealed.object_id, sealed.column, sealed.key)
            for sealed in manifest.objects
            if sealed.column in wanted
        }
        return OpenedSnapshot(manifest, wanted, key.suite, self._blobs, facts, keys)

    def check(
        self,
        trusted: Sequence[PublicKey],
        progress: Callable[[int], None] | None = None,
        known: Sequence[Digest] = (),
    ) -> ScrubReport:
        """Read every object of every snapshot again and compare digests, seals and row counts; open every key file.

        A snapshot that is being sealed meanwhile shows as garbage.

        Args:
            trusted: the sandbox keys whose signature counts.
            progress: called with the number of objects read so far.
            known: the snapshots that must be here, as the log has them; one without a manifest is a fault.

        Returns:
            All that was found; `raise_if_broken()` turns faults into an error.
        """
        return self._scrubber(trusted, progress, known).run()

    def collect(self, trusted: Sequence[PublicKey], known: Sequence[Digest] = ()) -> tuple[str, ...]:
        """Remove what a crash left behind: blobs and key halves that no manifest refers to; return their names.

        Args:
            trusted: the sandbox keys whose signature counts.
            known: the snapshots that must be here, as the log has them.

        Raises:
            VaultError: a manifest is missing or does not verify, so what it refers to is not known; nothing is removed.
            StorageError: a snapshot is being sealed (`vault.storage.busy`).
        """
        with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            scrubber = self._scrubber(trusted, None, known)
            manifests = scrubber.read_manifests()
            if scrubber.faults:
                first = scrubber.faults[0]
                why = "is missing" if first.code == "vault.seal_broken.missing" else "does not verify"
                raise VaultError(
                    f"`{first.object}` {why}, so nothing can be told to be garbage",
                    hint="restore the manifest from a backup, or name the key that signed it, and collect again",
                    code="vault.collect_refused",
                )
            garbage = find_garbage(self._keyring, self._blobs, manifests)
            for name in garbage:
                room, _, rest = name.partition("/")
                if room == "keys":
                    side, _, held = rest.partition("/")
                    self._keyring.shred(held, SIDES[SIDES.index(side)])
                else:
                    self._blobs.delete(name)
            if isinstance(self._blobs, LocalBlobStore):
                self._blobs.sweep()
            return garbage

    @property
    def keyring(self) -> Keyring:
        """The vault's keys, for ceremonies: custody, rotation, destruction."""
        return self._keyring

    @property
    def blobs(self) -> BlobStore:
        """The vault's blobs."""
        return self._blobs

    def _generation_after(self, parent: Digest, dataset: str, trusted: Sequence[PublicKey]) -> int:
        """Return one more than the parent's generation; of a parent that was destroyed, the mark remembers it."""
        seen = read_mark(self._keyring, self._keyring.ensure_dataset(dataset), dataset)
        known = 0 if seen is None else seen.generation
        with suppress(SnapshotNotFoundError):
            known = max(known, self.manifest(parent, trusted).generation)
        return known + 1

    def _scrubber(
        self, trusted: Sequence[PublicKey], progress: Callable[[int], None] | None, known: Sequence[Digest]
    ) -> Scrubber:
        return Scrubber(self._keyring, self._blobs, lambda snapshot: self.manifest(snapshot, trusted), progress, known)

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        """Hold the vault's lock file: shared while sealing, alone while collecting."""
        try:
            descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, _LOCK) from error
        try:
            _lock(descriptor, mode)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int, mode: int) -> None:
    try:
        fcntl.flock(descriptor, mode)
    except BlockingIOError as error:
        raise StorageError(
            "a snapshot is being sealed", hint="collect again when it is done", code="vault.storage.busy"
        ) from error


def _wanted_columns(manifest: SnapshotManifest, columns: Sequence[str]) -> tuple[str, ...]:
    known = [name for name, _ in manifest.columns]
    for column in columns:
        if column not in known:
            close = get_close_matches(column, known, n=1)
            raise VaultError(
                f"the dataset `{manifest.dataset}` has no column `{column}`",
                hint=f"did you mean `{close[0]}`?" if close else f"it has {', '.join(known[2:])}",
                code="vault.unknown_column",
            )
    return tuple(dict.fromkeys((*SYSTEM_COLUMNS, *columns)))
