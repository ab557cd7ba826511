"""The snapshot manifest: what a snapshot consists of, signed by the sandbox.

The digest of the manifest is the snapshot's identity, so whoever holds the digest (it is in the log) can tell the
manifest, and through it every byte of every object.  The manifest says in clear what an auditor needs: names, lengths
and digests of sealed objects.  Row counts and the borders of chunks are in a part sealed under the snapshot's key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import SaggarError, SealBrokenError, SignatureError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, HashName, digest_of_record, parse_digest
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName, decode_base64
from sandbox.vault.columns import SYSTEM_COLUMNS, type_names
from sandbox.vault.keyring import SnapshotKey

SIGNING_CONTEXT = "saggar/snapshot/1"
MAX_PARTITIONS = 4096
UNSIGNED = Signature("", b"")

_ID = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_FIELDS = frozenset(
    {
        *("v", "dataset", "description", "suite", "snapshot", "parent", "generation", "at", "owner"),
        *("partitions", "columns", "objects", "facts"),
    }
)


@dataclass(frozen=True, slots=True)
class SealedObject:
    """One sealed column of one partition.

    Attributes:
        partition: the partition's number, from 0.
        column: the column's name.
        object_id: 32 random hexadecimal digits; the blob is called `objects/<id>`.
        length: the object's length in bytes.
        digest: the digest of the sealed bytes.
        key: the object key, wrapped under the snapshot key.
    """

    partition: int
    column: str
    object_id: str
    length: int
    digest: Digest
    key: bytes

    @property
    def name(self) -> str:
        """The blob's name."""
        return f"objects/{self.object_id}"

    def to_record(self) -> dict[str, Any]:
        """Return the object as a canonical record."""
        return {
            "partition": self.partition,
            "column": self.column,
            "id": self.object_id,
            "bytes": self.length,
            "digest": self.digest,
            "key": base64.b64encode(self.key).decode(),
        }


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """What is true of one partition and nobody's business outside the vault.

    Attributes:
        chunks: the rows of each chunk; every column of the partition is cut the same way.
        units: how many privacy units have rows in it.
        lengths: for each column in the manifest's order, the bytes of each chunk.
    """

    chunks: tuple[int, ...]
    units: int
    lengths: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        """How many rows the partition has."""
        return sum(self.chunks)


@dataclass(frozen=True, slots=True)
class SnapshotManifest:
    """A snapshot, as signed.

    Attributes:
        dataset: the dataset's identifier.
        description: the digest of the description that the rows were sealed under.
        suite: the suite of the objects.
        snapshot: the snapshot's id, 32 random hexadecimal digits; it is bound into every key below it.
        at: when it was sealed, UTC.
        owner: who keeps the owner half of the snapshot key.
        partitions: how many partitions there are.
        columns: `(name, type)` in stored order, beginning with `_unit` and `_rank`.
        objects: by partition, then by column.
        facts: the sealed part: nonce || ciphertext || tag.
        signature: the sandbox's signature over the canonical record.
        parent: the digest of the snapshot that this one follows, or None for the first of its dataset.
        generation: its place in the chain, from 0; one more than the parent's.
    """

    dataset: str
    description: Digest
    suite: SuiteName
    snapshot: str
    at: str
    owner: str
    partitions: int
    columns: tuple[tuple[str, str], ...]
    objects: tuple[SealedObject, ...]
    facts: bytes
    signature: Signature
    parent: Digest | None = None
    generation: int = 0

    def digest(self) -> Digest:
        """Return the snapshot's identity: the digest of the record without the signature, by its suite's hash."""
        return digest_of_record(self.to_record(), hash_name=_hash_name(self.suite))

    def to_record(self) -> dict[str, Any]:
        """Return the canonical record: what is digested and signed."""
        return {
            "v": 1,
            "dataset": self.dataset,
            "description": self.description,
            "suite": self.suite.value,
            "snapshot": self.snapshot,
            "parent": self.parent,
            "generation": self.generation,
            "at": self.at,
            "owner": self.owner,
            "partitions": self.partitions,
            "columns": [{"name": name, "type": kind} for name, kind in self.columns],
            "objects": [sealed.to_record() for sealed in self.objects],
            "facts": base64.b64encode(self.facts).decode(),
        }

    def to_bytes(self) -> bytes:
        """Return the manifest as it is stored: the record and its signature, canonical."""
        return canonical_bytes({"manifest": self.to_record(), "signature": self.signature.to_record()})


def sign_manifest(unsigned: SnapshotManifest, signer: PrivateKey) -> SnapshotManifest:
    """Return the manifest, signed; what stands in its `signature` before does not matter.

    Raises:
        SignatureError: the key is not a sandbox's (`policy.signature.role`).
    """
    check_signer(signer)
    _check_form(unsigned)
    return replace(unsigned, signature=sign(signer, SIGNING_CONTEXT, canonical_bytes(unsigned.to_record())))


def check_signer(signer: PrivateKey) -> None:
    """Refuse a key that may not sign snapshots."""
    if signer.public.role is not Role.SANDBOX:
        raise SignatureError(
            f"the key `{signer.public.name}` may not sign snapshots",
            hint="only a key with the role `sandbox` seals",
            code="policy.signature.role",
        )


def read_manifest(raw: bytes, snapshot: Digest, trusted: Sequence[PublicKey]) -> SnapshotManifest:
    """Return the manifest that stored bytes write, after these checks in this order.

    1. The bytes are canonical and hold a record and a signature.
    2. The record's digest is `snapshot`.
    3. The signature is by a trusted sandbox key.
    4. The record has the form of a manifest and its suite's hash is the one in `snapshot`.

    Raises:
        SealBrokenError: `vault.seal_broken.manifest` (1, 2, 4) or `vault.seal_broken.signature` (3).
    """
    name = manifest_name(snapshot)
    try:
        stored = parse_canonical(raw)
        if not isinstance(stored, dict) or set(stored) != {"manifest", "signature"}:
            raise SealBrokenError("a stored manifest has other fields", hint="restore it from a backup")
        record, signature = stored["manifest"], Signature.parse(stored["signature"])
        hash_name: HashName = "sm3" if snapshot.startswith("sm3:") else "sha256"
        if digest_of_record(record, hash_name=hash_name) != snapshot:
            raise SealBrokenError("a stored manifest has another digest", hint="restore it from a backup")
    except SaggarError as error:
        raise _broken(name, "manifest", "is not the manifest of this snapshot") from error
    _verify(name, record, signature, trusted)
    try:
        manifest = _parse_record(record, signature)
    except (SaggarError, KeyError, TypeError, ValueError) as error:
        raise _broken(name, "manifest", "does not have the form of a manifest") from error
    if manifest.digest() != snapshot:
        raise _broken(name, "manifest", "is named in another hash than its suite's")
    return manifest


def manifest_name(snapshot: Digest) -> str:
    """Return the blob's name of a snapshot's manifest."""
    return f"manifests/{snapshot.replace(':', '-')}"


def seal_facts(key: SnapshotKey, dataset: str, facts: Sequence[PartitionFacts]) -> bytes:
    """Return the facts sealed under the snapshot's key for them; the nonce is random and the key is used once."""
    record = {
        "v": 1,
        "partitions": [
            {"chunks": list(f.chunks), "units": f.units, "lengths": [list(lengths) for lengths in f.lengths]}
            for f in facts
        ],
    }
    nonce = random_bytes(key.suite.nonce_bytes)
    return nonce + key.suite.seal(key.facts, nonce, canonical_bytes(record), _facts_words(dataset, key.snapshot))


def open_facts(key: SnapshotKey, manifest: SnapshotManifest) -> tuple[PartitionFacts, ...]:
    """Return the sealed facts of a manifest.

    Raises:
        SealBrokenError: they do not open under the snapshot's key (`vault.seal_broken.facts`).
    """
    nonce, sealed = manifest.facts[: key.suite.nonce_bytes], manifest.facts[key.suite.nonce_bytes :]
    try:
        raw = key.suite.unseal(key.facts, nonce, sealed, _facts_words(manifest.dataset, manifest.snapshot))
    except VaultError as error:
        raise _broken(manifest_name(manifest.digest()), "facts", "has a sealed part that does not open") from error
    return tuple(
        PartitionFacts(
            tuple(partition["chunks"]), partition["units"], tuple(tuple(each) for each in partition["lengths"])
        )
        for partition in parse_canonical(raw)["partitions"]
    )


def _facts_words(dataset: str, snapshot: str) -> bytes:
    return canonical_bytes(["saggar/facts/1", dataset, snapshot])


def _hash_name(suite: SuiteName) -> HashName:
    return "sm3" if suite is SuiteName.GM else "sha256"


def _verify(name: str, record: object, signature: Signature, trusted: Sequence[PublicKey]) -> None:
    key = next((key for key in trusted if key.key_id == signature.key_id and key.role is Role.SANDBOX), None)
    if key is None:
        raise _broken(name, "signature", "is signed by a key that is not trusted here")
    try:
        verify_signature(key, SIGNING_CONTEXT, canonical_bytes(record), signature)
    except SignatureError as error:
        raise _broken(name, "signature", "has a signature that does not verify") from error


def _parse_record(record: Any, signature: Signature) -> SnapshotManifest:
    """Return the manifest of a record; anything that is not exactly one raises (any of several errors)."""
    if not isinstance(record, dict) or set(record) != _FIELDS:
        raise ValueError("fields")
    manifest = SnapshotManifest(
        dataset=record["dataset"],
        description=parse_digest(record["description"]),
        suite=SuiteName(record["suite"]),
        snapshot=record["snapshot"],
        at=record["at"],
        owner=record["owner"],
        partitions=record["partitions"],
        columns=tuple((column["name"], column["type"]) for column in record["columns"]),
        objects=tuple(
            SealedObject(
                each["partition"],
                each["column"],
                each["id"],
                each["bytes"],
                parse_digest(each["digest"]),
                decode_base64(each["key"]),
            )
            for each in record["objects"]
        ),
        facts=decode_base64(record["facts"]),
        signature=signature,
        parent=None if record["parent"] is None else parse_digest(record["parent"]),
        generation=record["generation"],
    )
    _check_form(manifest)
    if manifest.to_record() != record:
        raise ValueError("spelling")
    return manifest


def _check_form(manifest: SnapshotManifest) -> None:
    names = [name for name, _ in manifest.columns]
    expected = [(partition, name) for partition in range(manifest.partitions) for name in names]
    ids = [sealed.object_id for sealed in manifest.objects]
    well_formed = (
        1 <= manifest.partitions <= MAX_PARTITIONS
        and tuple(names[:2]) == SYSTEM_COLUMNS
        and len(set(names)) == len(names)
        and all(kind in type_names() for _, kind in manifest.columns)
        and [(sealed.partition, sealed.column) for sealed in manifest.objects] == expected
        and all(_ID.fullmatch(each) for each in (*ids, manifest.snapshot))
        and len(set(ids)) == len(ids)
        and all(sealed.length > 0 for sealed in manifest.objects)
        and all(sealed.digest.startswith(_hash_name(manifest.suite)) for sealed in manifest.objects)
        and _TIME.fullmatch(manifest.at)
        and bool(manifest.owner)
        and type(manifest.generation) is int
        and (manifest.generation > 0) == (manifest.parent is not None)
        and manifest.generation >= 0
    )
    if not well_formed:
        raise ValueError("form")


def _broken(name: str, what: str, happened: str) -> SealBrokenError:
    return SealBrokenError(
        f"`{name}` {happened}",
        hint="restore the manifest from a backup, or check which keys are trusted",
        code=f"vault.seal_broken.{what}",
        object=name,
    )
