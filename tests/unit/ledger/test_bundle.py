"""Audit bundles: whatever is changed, missing or added is refused and named."""

from __future__ import annotations

import json

import pytest

from sandbox.crypto.signing import sign
from sandbox.errors import LedgerError
from sandbox.ledger.bundle import MANIFEST, SIGNATURE, SIGNING_CONTEXT, build_manifest, verify_bundle
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import digest_of
from sandbox.model.keys import Role, SuiteName
from tests.support import ledger_world as city

FILES = {
    "log/entries.jsonl": b"one\ntwo\n",
    "checkpoints/0020.txt": "\u2014 a".encode(),
    "报告.md": b"",
    "keys.json": b"{}",
}


@pytest.fixture(params=list(SuiteName))
def suite(request):
    return request.param


def bundle(suite=SuiteName.GM, files=None):
    files = FILES if files is None else files
    return files | build_manifest(files, city.sandbox_key(suite), city.START)


def trusted(suite=SuiteName.GM):
    return (city.witness_key(suite).public, city.sandbox_key(suite).public)


def refusal(files, keys=None):
    with pytest.raises(LedgerError) as caught:
        verify_bundle(files, trusted() if keys is None else keys)
    return caught.value.code, caught.value.details["place"]


def test_a_whole_bundle_says_who_vouched_for_what_and_when(suite):
    files = bundle(suite)
    facts = verify_bundle(files, trusted(suite))
    assert (facts.signer, facts.at, facts.paths) == (city.sandbox_key(suite).public, city.START, tuple(sorted(FILES)))
    assert facts.digest == digest_of(files[MANIFEST])


def test_the_manifest_is_a_canonical_record_of_sizes_and_both_digests():
    record = json.loads(bundle()[MANIFEST])
    line = next(line for line in record["files"] if line["path"] == "log/entries.jsonl")
    assert line == {
        "path": "log/entries.jsonl",
        "bytes": 8,
        "sm3": digest_of(b"one\ntwo\n"),
        "sha256": digest_of(b"one\ntwo\n", hash_name="sha256"),
    }


@pytest.mark.parametrize("path", FILES)
def test_a_changed_or_missing_file_is_named(path):
    files = bundle()
    assert refusal(files | {path: files[path] + b"."}) == ("ledger.bundle.changed", path)
    if files[path]:
        flipped = bytes([files[path][0] ^ 1]) + files[path][1:]
        assert refusal(files | {path: flipped}) == ("ledger.bundle.changed", path)
    assert refusal({name: data for name, data in files.items() if name != path}) == ("ledger.bundle.missing", path)


def test_an_extra_file_is_named():
    assert refusal(bundle() | {"more.txt": b""}) == ("ledger.bundle.extra", "more.txt")


@pytest.mark.parametrize("path", [MANIFEST, SIGNATURE])
def test_a_missing_manifest_or_signature_is_named(path):
    assert refusal({name: data for name, data in bundle().items() if name != path}) == ("ledger.bundle.missing", path)


@pytest.mark.parametrize("path", [MANIFEST, SIGNATURE])
def test_every_changed_byte_of_the_manifest_and_of_its_signature_is_found(suite, path):
    files = bundle(suite)
    for place in range(0, len(files[path]), 5):
        changed = files[path][:place] + bytes([files[path][place] ^ 2]) + files[path][place + 1 :]
        with pytest.raises(LedgerError) as caught:
            verify_bundle(files | {path: changed}, trusted(suite))
        assert caught.value.details["place"] == path
        assert caught.value.code in {"ledger.bundle.changed", "ledger.bundle.not_trusted"}
    for shorter in (b"", files[path][:-1], files[path] + b" "):
        assert refusal(files | {path: shorter}, trusted(suite)) == ("ledger.bundle.changed", path)


def test_a_manifest_of_another_bundle_is_found():
    other = bundle(files={"a": b"b"})
    assert refusal(bundle() | {MANIFEST: other[MANIFEST]}) == ("ledger.bundle.changed", MANIFEST)
    assert refusal(bundle() | {SIGNATURE: other[SIGNATURE]}) == ("ledger.bundle.changed", MANIFEST)
    whole = bundle() | {MANIFEST: other[MANIFEST], SIGNATURE: other[SIGNATURE]}
    assert refusal(whole)[0] in {"ledger.bundle.missing", "ledger.bundle.extra"}


def test_a_signature_by_a_key_that_is_not_trusted_does_not_count():
    assert refusal(bundle(), (city.witness_key().public,)) == ("ledger.bundle.not_trusted", SIGNATURE)
    assert refusal(bundle(), ()) == ("ledger.bundle.not_trusted", SIGNATURE)
    same_name = city.key("sandbox", Role.AUDITOR).public
    assert refusal(bundle(), (same_name,)) == ("ledger.bundle.not_trusted", SIGNATURE)


def test_a_signature_file_that_names_another_manifest_is_found():
    files = bundle()
    record = json.loads(files[SIGNATURE]) | {"manifest": digest_of(b"other")}
    assert refusal(files | {SIGNATURE: canonical_bytes(record)}) == ("ledger.bundle.changed", SIGNATURE)


def signed(manifest):
    """Return the two files for manifest bytes that the trusted key did sign, whatever they are."""
    signature = sign(city.sandbox_key(), SIGNING_CONTEXT, manifest).to_record()
    return {MANIFEST: manifest, SIGNATURE: canonical_bytes({"manifest": digest_of(manifest), "signature": signature})}


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"path": "b"}, {"path": "a"}]},
        {"files": [{"path": "a"}, {"path": "a"}]},
        {"files": [{"path": 7}]},
        {"files": {}},
        {"files": ["a"]},
        {"signer": "0" * 32},
        {"v": 2},
        {"more": 1},
    ],
)
def test_a_signed_manifest_that_is_none_is_refused(change):
    record = json.loads(bundle(files={})[MANIFEST]) | change
    assert refusal(signed(canonical_bytes(record))) == ("ledger.bundle.changed", MANIFEST)


def test_a_signed_manifest_in_another_spelling_is_refused():
    spaced = json.dumps(json.loads(bundle(files={})[MANIFEST])).encode()
    assert refusal(signed(spaced)) == ("ledger.bundle.changed", MANIFEST)


def test_a_line_of_the_manifest_with_other_facts_refuses_the_file():
    record = json.loads(bundle(files={"a": b"b"})[MANIFEST])
    record["files"][0]["bytes"] = 2
    assert refusal({"a": b"b"} | signed(canonical_bytes(record))) == ("ledger.bundle.changed", "a")


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../up", "a/../b", "a//b", "./a", "a\\b", "c:evil", "a\nb", "x" * 301, MANIFEST, SIGNATURE],
)
def test_an_unsafe_path_is_neither_signed_nor_believed(path):
    for call in (
        lambda: build_manifest({path: b""}, city.sandbox_key(), city.START),
        lambda: verify_bundle(
            signed(canonical_bytes(json.loads(bundle(files={})[MANIFEST]) | {"files": [{"path": path}]})), trusted()
        ),
    ):
        with pytest.raises(LedgerError, match="cannot be a path in a bundle") as caught:
            call()
        assert (caught.value.code, caught.value.details["place"]) == ("ledger.bundle.path", path)


def test_an_empty_bundle_and_a_wrong_time():
    assert verify_bundle(bundle(files={}), trusted()).paths == ()
    with pytest.raises(LedgerError, match="time"):
        build_manifest({}, city.sandbox_key(), "today")
