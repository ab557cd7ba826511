"""Reading everything again: is every sealed byte still what was sealed?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.crypto.suites import digest_by
from sandbox.crypto.suites import suite as suite_of
from sandbox.errors import CanonicalError, KeyUnavailableError, SaggarError, SealBrokenError, VaultError
from sandbox.model.digest import Digest, parse_digest, short
from sandbox.vault.blobs import BlobStore
from sandbox.vault.columns import type_of
from sandbox.vault.keyring import SIDES, Keyring, SnapshotKey, half_name
from sandbox.vault.manifest import PartitionFacts, SealedObject, SnapshotManifest, manifest_name, open_facts
from sandbox.vault.opened import read_object
from sandbox.vault.scrub_keys import broken_key_files
from sandbox.vault.segment import SegmentPlace, open_segment


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it was sealed.

    Attributes:
        object: the name of the blob or key file.
        code: the stable code of the error.
        message: what is wrong, for people.
    """

    object: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a check found.

    Attributes:
        snapshots: the snapshots whose manifests verified.
        objects: how many objects were read.
        faults: everything that is broken.
        locked: snapshots of which a key half is missing: their digests were compared, their seals could not be.
        locks: why each of `locked` is: the code of the error, which tells the missing half.
        garbage: blobs and key halves that no manifest refers to.  It is certain only if there are no faults: the
            objects of a broken manifest have lost what refers to them.
    """

    snapshots: tuple[Digest, ...]
    objects: int
    faults: tuple[Fault, ...]
    locked: tuple[Digest, ...]
    garbage: tuple[str, ...]
    locks: tuple[str, ...] = ()

    def raise_if_broken(self) -> None:
        """Raise the first fault as a `SealBrokenError`, if there is one; `details["faults"]` has them all."""
        if self.faults:
            first = self.faults[0]
            raise SealBrokenError(
                first.message,
                hint="restore what is broken from a backup and run the check again",
                code=first.code if first.code.startswith(SealBrokenError.code) else None,
                object=first.object,
                faults=[{"object": fault.object, "code": fault.code} for fault in self.faults],
            )


class Scrubber:
    """One check over a vault.

    Args:
        keyring: the vault's keys.
        blobs: the vault's blobs.
        read: how to read and verify the manifest of a snapshot.
        progress: called with the number of objects read so far, or None.
        known: the snapshots that must be here, as the log has them.
    """

    def __init__(
        self,
        keyring: Keyring,
        blobs: BlobStore,
        read: Callable[[Digest], SnapshotManifest],
        progress: Callable[[int], None] | None = None,
        known: Sequence[Digest] = (),
    ) -> None:
        self._keyring = keyring
        self._blobs = blobs
        self._read = read
        self._progress = progress
        self._known = known
        self._faults: list[Fault] = []
        self._locked: dict[Digest, str] = {}
        self._objects = 0

    def run(self) -> ScrubReport:
        """Read every manifest, every object and every key file and return what was found."""
        manifests = self.read_manifests()
        for manifest in manifests:
            self._check_snapshot(manifest)
        for name, error in broken_key_files(self._keyring):
            self._note(name, error)
        return ScrubReport(
            tuple(manifest.digest() for manifest in manifests),
            self._objects,
            tuple(self._faults),
            tuple(self._locked),
            find_garbage(self._keyring, self._blobs, manifests),
            tuple(self._locked.values()),
        )

    def read_manifests(self) -> list[SnapshotManifest]:
        """Return the manifests that verify; the others, and those that are not there, become faults."""
        manifests, names = [], tuple(self._blobs.names("manifests/"))
        self._faults += [_missing(snapshot) for snapshot in self._known if manifest_name(snapshot) not in names]
        for name in names:
            snapshot = snapshot_of(name)
            if snapshot is None:
                what = f"`{name}` is among the manifests and is none"
                self._faults.append(Fault(name, "vault.seal_broken.manifest", what))
                continue
            try:
                manifests.append(self._read(snapshot))
            except VaultError as error:
                self._note(name, error)
        return manifests

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What was found broken so far."""
        return tuple(self._faults)

    def _check_snapshot(self, manifest: SnapshotManifest) -> None:
        key: SnapshotKey | None = None
        facts: tuple[PartitionFacts, ...] = ()
        try:
            key = self._keyring.snapshot_key(manifest.dataset, manifest.snapshot, manifest.owner, manifest.suite)
            facts = open_facts(key, manifest)
        except KeyUnavailableError as error:
            self._locked[manifest.digest()] = error.code
        except VaultError as error:
            key = None
            self._note(manifest.snapshot, error)
        positions = {name: position for position, (name, _) in enumerate(manifest.columns)}
        for sealed in manifest.objects:
            try:
                raw = read_object(self._blobs, sealed)
                if digest_by(suite_of(manifest.suite), raw) != sealed.digest:
                    raise _other_digest(sealed)
                if key is not None:
                    _open_object(manifest, sealed, raw, key, facts[sealed.partition], positions[sealed.column])
            except VaultError as error:
                self._note(sealed.name, error)
            self._objects += 1
            if self._progress is not None:
                self._progress(self._objects)

    def _note(self, name: str, error: SaggarError) -> None:
        fault = Fault(str(error.details.get("object", name)), error.code, error.message)
        if fault not in self._faults:  # a dataset's key file is met once for each of its snapshots
            self._faults.append(fault)


def snapshot_of(name: str) -> Digest | None:
    """Return the snapshot whose manifest the blob `name` is, or None for a file that does not belong there."""
    try:
        return parse_digest(name.partition("/")[2].replace("-", ":", 1))
    except CanonicalError:
        return None


def find_garbage(keyring: Keyring, blobs: BlobStore, manifests: Sequence[SnapshotManifest]) -> tuple[str, ...]:
    """Return the blobs and key halves that none of these manifests refers to; key files begin with `keys/`."""
    used = {sealed.name for manifest in manifests for sealed in manifest.objects}
    known = {manifest.snapshot for manifest in manifests}
    stray = [name for name in blobs.names("") if not name.startswith("manifests/") and name not in used]
    halves = [
        f"keys/{half_name(side, snapshot)}"
        for side in SIDES
        for snapshot in keyring.snapshots(side)
        if snapshot not in known
    ]
    return tuple(stray + halves)


def _missing(snapshot: Digest) -> Fault:
    name = manifest_name(snapshot)
    what = f"the manifest `{name}` of snapshot `{short(snapshot)}`, which the log names, is missing"
    return Fault(name, "vault.seal_broken.missing", what)


def _open_object(
    manifest: SnapshotManifest,
    sealed: SealedObject,
    raw: bytes,
    key: SnapshotKey,
    facts: PartitionFacts,
    position: int,
) -> None:
    open_segment(
        key.suite,
        key.unwrap_object(sealed.object_id, sealed.column, sealed.key),
        SegmentPlace(manifest.dataset, manifest.snapshot, sealed.partition, sealed.column),
        raw,
        chunks=facts.chunks,
        lengths=facts.lengths[position],
        expected=type_of(manifest.columns[position][1]),
        name=sealed.name,
    )


def _other_digest(sealed: SealedObject) -> SealBrokenError:
    return SealBrokenError(
        f"the sealed object `{sealed.name}` has another digest than its manifest says",
        hint="restore the object from a backup and run the check again",
        code="vault.seal_broken.digest",
        object=sealed.name,
    )
