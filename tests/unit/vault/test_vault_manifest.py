"""The manifest: canonical, signed, and telling no counts."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.signing import sign
from sandbox.crypto.suites import suite
from sandbox.errors import SealBrokenError, SignatureError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.keys import Role, SuiteName
from sandbox.vault.keyring import derive_snapshot_key
from sandbox.vault.manifest import (
    SIGNING_CONTEXT,
    UNSIGNED,
    PartitionFacts,
    SealedObject,
    SnapshotManifest,
    manifest_name,
    open_facts,
    read_manifest,
    seal_facts,
    sign_manifest,
)

SNAPSHOT = "a1" * 16
FACTS = (PartitionFacts((500, 499), 7, ((10, 11), (12, 13), (14, 15))), PartitionFacts((0,), 0, ((5,), (6,), (7,))))


@pytest.fixture
def manifest(suite_name: SuiteName, signers: dict[SuiteName, PrivateKey]) -> SnapshotManifest:
    key = derive_snapshot_key(suite(suite_name), SNAPSHOT, b"p" * 32, b"o" * 32)
    digest = Digest(f"{suite(suite_name).hash_name}:{'0' * 64}")
    columns = (("_unit", "int64"), ("_rank", "int32"), ("age", "int64"))
    objects = tuple(
        SealedObject(partition, name, f"{partition}{place}" * 16, 100, digest, b"wrapped")
        for partition in range(2)
        for place, (name, _) in enumerate(columns)
    )
    unsigned = SnapshotManifest(
        dataset="hospital",
        description=Digest(f"sm3:{'1' * 64}"),
        suite=suite_name,
        snapshot=SNAPSHOT,
        at="2027-01-31T08:00:00Z",
        owner="health",
        partitions=2,
        columns=columns,
        objects=objects,
        facts=seal_facts(key, "hospital", FACTS),
        signature=UNSIGNED,
    )
    return sign_manifest(unsigned, signers[suite_name])


def test_a_manifest_reads_back(manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey]) -> None:
    trusted = [key.public for key in signers.values()]
    assert read_manifest(manifest.to_bytes(), manifest.digest(), trusted) == manifest


def test_its_digest_is_that_of_the_record_in_its_suites_hash(manifest: SnapshotManifest) -> None:
    hash_name = "sm3" if manifest.suite is SuiteName.GM else "sha256"
    assert manifest.digest() == digest_of_record(manifest.to_record(), hash_name=hash_name)
    assert manifest_name(manifest.digest()) == f"manifests/{hash_name}-{manifest.digest()[-64:]}"
    assert replace(manifest, signature=UNSIGNED).digest() == manifest.digest()
    assert replace(manifest, owner="other").digest() != manifest.digest()


def test_counts_are_sealed(manifest: SnapshotManifest) -> None:
    key = derive_snapshot_key(suite(manifest.suite), SNAPSHOT, b"p" * 32, b"o" * 32)
    assert open_facts(key, manifest) == FACTS
    assert FACTS[0].rows == 999
    # Not within a longer run of such digits: ids are random and may hold any three.
    for count in (b"999", b"499", b"chunks", b"units"):
        assert re.search(rb"(?<![0-9a-zA-Z+/])" + count + rb"(?![0-9a-zA-Z+/])", manifest.to_bytes()) is None


@pytest.mark.parametrize("halves", [(b"q" * 32, b"o" * 32), (b"p" * 32, b"q" * 32)])
def test_facts_do_not_open_under_another_key(manifest: SnapshotManifest, halves: tuple[bytes, bytes]) -> None:
    other = derive_snapshot_key(suite(manifest.suite), SNAPSHOT, *halves)
    with pytest.raises(SealBrokenError, match="has a sealed part that does not open") as caught:
        open_facts(other, manifest)
    assert caught.value.code == "vault.seal_broken.facts"


def test_facts_do_not_open_in_another_manifest(manifest: SnapshotManifest) -> None:
    key = derive_snapshot_key(suite(manifest.suite), SNAPSHOT, b"p" * 32, b"o" * 32)
    with pytest.raises(SealBrokenError) as caught:
        open_facts(key, replace(manifest, dataset="transport"))
    assert caught.value.code == "vault.seal_broken.facts"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SANDBOX])
def test_only_a_sandbox_key_signs(manifest: SnapshotManifest, role: Role) -> None:
    with pytest.raises(SignatureError, match="the key `someone` may not sign snapshots") as caught:
        sign_manifest(manifest, generate_key("someone", role, SuiteName.INTL))
    assert caught.value.code == "policy.signature.role"


def test_a_signature_by_a_key_that_is_not_trusted_is_refused(
    manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey]
) -> None:
    signer = signers[manifest.suite]
    same_but_operator = replace(signer.public, role=Role.OPERATOR)
    stranger = generate_key("stranger", Role.SANDBOX, manifest.suite)
    for trusted in ([], [stranger.public], [same_but_operator]):
        with pytest.raises(SealBrokenError, match="is signed by a key that is not trusted here") as caught:
            read_manifest(manifest.to_bytes(), manifest.digest(), trusted)
        assert caught.value.code == "vault.seal_broken.signature"
        assert caught.value.details["object"] == manifest_name(manifest.digest())


def test_an_operators_signature_is_refused_even_if_its_key_is_in_the_list(manifest: SnapshotManifest) -> None:
    operator = generate_key("operator", Role.OPERATOR, SuiteName.INTL)
    signature = sign(operator, SIGNING_CONTEXT, canonical_bytes(manifest.to_record()))
    raw = replace(manifest, signature=signature).to_bytes()
    with pytest.raises(SealBrokenError, match="is signed by a key that is not trusted here"):
        read_manifest(raw, manifest.digest(), [operator.public])


def test_a_signature_in_another_context_is_refused(
    manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey]
) -> None:
    signer = signers[manifest.suite]
    signature = sign(signer, "saggar/agreement/1", canonical_bytes(manifest.to_record()))
    with pytest.raises(SealBrokenError, match="has a signature that does not verify") as caught:
        read_manifest(replace(manifest, signature=signature).to_bytes(), manifest.digest(), [signer.public])
    assert caught.value.code == "vault.seal_broken.signature"


def _first(record: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {**record, "objects": [{**record["objects"][0], **changes}, *record["objects"][1:]]}


MALFORMED = {
    "more fields": lambda r: {**r, "more": 1},
    "no version": lambda r: {name: value for name, value in r.items() if name != "v"},
    "another version": lambda r: {**r, "v": 2},
    "unknown suite": lambda r: {**r, "suite": "rot13"},
    "no partitions": lambda r: {**r, "partitions": 0, "objects": []},
    "partitions as text": lambda r: {**r, "partitions": "2"},
    "too few objects": lambda r: {**r, "objects": r["objects"][1:]},
    "objects out of order": lambda r: {**r, "objects": r["objects"][::-1]},
    "an object twice": lambda r: _first(r, id=r["objects"][1]["id"]),
    "an object of another column": lambda r: _first(r, column="age"),
    "an object's name leads elsewhere": lambda r: _first(r, id="../../../etc/passwd0000000000000"),
    "an object without bytes": lambda r: _first(r, bytes=0),
    "an object with a short digest": lambda r: _first(r, digest="sm3:00"),
    "an object's key is not base64": lambda r: _first(r, key="!"),
    "an object's extra field": lambda r: _first(r, extra=1),
    "no rank": lambda r: {**r, "columns": [r["columns"][0], r["columns"][2], r["columns"][1]]},
    "unknown type": lambda r: {**r, "columns": [*r["columns"][:2], {"name": "age", "type": "float"}]},
    "a column's extra field": lambda r: {**r, "columns": [*r["columns"][:2], {**r["columns"][2], "extra": 1}]},
    "columns as text": lambda r: {**r, "columns": "age"},
    "no time": lambda r: {**r, "at": "today"},
    "no owner": lambda r: {**r, "owner": ""},
    "snapshot id too short": lambda r: {**r, "snapshot": "a1"},
    "a list": lambda r: [r],
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_manifest_is_refused_even_if_signed(
    manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey], change: Any
) -> None:
    record = change(manifest.to_record())
    signer = signers[manifest.suite]
    signature = sign(signer, SIGNING_CONTEXT, canonical_bytes(record))
    raw = canonical_bytes({"manifest": record, "signature": signature.to_record()})
    digest = digest_of_record(record, hash_name=suite(manifest.suite).hash_name)
    with pytest.raises(SealBrokenError, match="does not have the form of a manifest") as caught:
        read_manifest(raw, digest, [signer.public])
    assert caught.value.code == "vault.seal_broken.manifest"


def test_a_snapshot_has_one_name_only(manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey]) -> None:
    other = digest_of_record(manifest.to_record(), hash_name="sha256" if manifest.suite is SuiteName.GM else "sm3")
    with pytest.raises(SealBrokenError, match="is named in another hash than its suite's") as caught:
        read_manifest(manifest.to_bytes(), other, [signers[manifest.suite].public])
    assert caught.value.code == "vault.seal_broken.manifest"


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[]", b'{"manifest":1,"signature":2}', b'{"a":NaN}'])
def test_bytes_that_are_no_manifest_are_refused(
    manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey], raw: bytes
) -> None:
    with pytest.raises(SealBrokenError, match="is not the manifest of this snapshot") as caught:
        read_manifest(raw, manifest.digest(), [signers[manifest.suite].public])
    assert caught.value.code == "vault.seal_broken.manifest"


def test_another_spelling_of_the_same_manifest_is_refused(
    manifest: SnapshotManifest, signers: dict[SuiteName, PrivateKey]
) -> None:
    raw = manifest.to_bytes().replace(b'"manifest":', b'"manifest": ')
    assert parse_canonical(manifest.to_bytes())["manifest"]["dataset"] == "hospital"
    with pytest.raises(SealBrokenError, match="is not the manifest of this snapshot"):
        read_manifest(raw, manifest.digest(), [signers[manifest.suite].public])


def test_the_vaults_manifest_matches_the_description(
    vault: Any, description: Any, tools: SimpleNamespace, signers: dict[SuiteName, PrivateKey], suite_name: SuiteName
) -> None:
    made = vault.seal(
        description,
        tools.make_batches(50),
        suite=suite_name,
        signer=signers[suite_name],
        owner="health",
        at=tools.at,
        partitions=3,
    )
    assert (made.dataset, made.description, made.owner, made.at) == (
        "hospital",
        description.digest(),
        "health",
        tools.at,
    )
    assert made.columns[:3] == (("_unit", "int64"), ("_rank", "int32"), ("age", "int64"))
    assert [name for name, _ in made.columns[2:]] == [column.name for column in description.columns]
    assert dict(made.columns)["day"] == "date"
    assert (made.partitions, len(made.objects)) == (3, 3 * len(made.columns))
