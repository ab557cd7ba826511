"""An audit bundle: a set of files, each named, sized, hashed and signed for, so that none can change unseen.

`MANIFEST.json` is a canonical record of every other file; `MANIFEST.sig` holds the digest of the manifest and the
signature over it.  Files travel as they like (a folder, an archive, a mirror): a bundle is a mapping of path to bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import CanonicalError, LedgerError, SignatureError
from sandbox.ledger.bodies import check_time
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, digest_of
from sandbox.model.keys import PublicKey, Signature

MANIFEST = "MANIFEST.json"
SIGNATURE = "MANIFEST.sig"
SIGNING_CONTEXT = "saggar/bundle/1"
MAX_PATH = 300


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What a bundle proves: who vouched for these files, and when it says so.

    Attributes:
        signer: the trusted key that signed.
        at: the signer's time.
        digest: the digest of the manifest, which names the bundle.
        paths: the files, without the manifest and its signature, sorted.
    """

    signer: PublicKey
    at: str
    digest: Digest
    paths: tuple[str, ...]


def build_manifest(files: Mapping[str, bytes], signer: PrivateKey, at: str) -> dict[str, bytes]:
    """Return the two files, `MANIFEST.json` and `MANIFEST.sig`, that make a bundle of `files`.

    Args:
        files: path to bytes; relative paths with `/`, without `.` and `..`.
        signer: who vouches for them.
        at: the time, `YYYY-MM-DDTHH:MM:SSZ`.

    Raises:
        LedgerError: `ledger.bundle.path`: a path is unsafe, or is one of the two files' own.
    """
    check_time(at)
    for path in files:
        _check_path(path)
    manifest = canonical_bytes(
        {"v": 1, "at": at, "signer": signer.public.key_id, "files": [_line(p, files[p]) for p in sorted(files)]}
    )
    signature = canonical_bytes(
        {"manifest": digest_of(manifest), "signature": sign(signer, SIGNING_CONTEXT, manifest).to_record()}
    )
    return {MANIFEST: manifest, SIGNATURE: signature}


def verify_bundle(files: Mapping[str, bytes], trusted: Sequence[PublicKey]) -> BundleFacts:
    """Return what a bundle proves, or refuse it and name the file at fault.

    1. Both `MANIFEST.json` and `MANIFEST.sig` are there.
    2. The manifest is the one that a trusted key signed.
    3. Every file that it names is there, with the size and both digests that it names.
    4. There is no other file.

    Raises:
        LedgerError: `ledger.bundle.missing`, `.changed`, `.extra`, `.not_trusted`; `details["place"]` names the file.
    """
    for path in (MANIFEST, SIGNATURE):  # 1
        if path not in files:
            raise _refused("missing", path, "is missing")
    signer = _check_signature(files[MANIFEST], files[SIGNATURE], trusted)  # 2
    manifest = _parse_manifest(files[MANIFEST], signer)
    named = {line["path"]: line for line in manifest["files"]}
    for path, line in named.items():  # 3
        if path not in files:
            raise _refused("missing", path, "is missing")
        if _line(path, files[path]) != line:
            raise _refused("changed", path, "is not the file that was signed for")
    extra = sorted(files.keys() - named.keys() - {MANIFEST, SIGNATURE})
    if extra:  # 4
        raise _refused("extra", extra[0], "was not signed for")
    return BundleFacts(signer, manifest["at"], digest_of(files[MANIFEST]), tuple(sorted(named)))


def _check_signature(manifest: bytes, raw: bytes, trusted: Sequence[PublicKey]) -> PublicKey:
    try:
        record = parse_canonical(raw)
        if not isinstance(record, dict) or record.keys() != {"manifest", "signature"}:
            raise _refused("changed", SIGNATURE, "is not a signature of a bundle")
        signature = Signature.parse(record["signature"])
    except (CanonicalError, SignatureError) as error:
        raise _refused("changed", SIGNATURE, "is not a signature of a bundle") from error
    key = next((key for key in trusted if key.key_id == signature.key_id), None)
    if key is None:
        raise _refused("not_trusted", SIGNATURE, "is not by a key that you trust")
    try:
        verify_signature(key, SIGNING_CONTEXT, manifest, signature)
    except SignatureError as error:
        # The signature file repeats the manifest's digest, so that the one of the two that was touched can be named.
        if record["manifest"] == digest_of(manifest):
            raise _refused("changed", SIGNATURE, "does not hold for the manifest") from error
        raise _refused("changed", MANIFEST, "is not the manifest that was signed") from error
    if record["manifest"] != digest_of(manifest):
        raise _refused("changed", SIGNATURE, "names another manifest")
    return key


def _parse_manifest(raw: bytes, signer: PublicKey) -> dict[str, Any]:
    try:
        manifest = parse_canonical(raw)
        well_formed = (
            isinstance(manifest, dict)
            and manifest.keys() == {"v", "at", "signer", "files"}
            and manifest["v"] == 1
            and manifest["signer"] == signer.key_id
            and isinstance(manifest["files"], list)
            and all(isinstance(line, dict) and isinstance(line.get("path"), str) for line in manifest["files"])
        )
        if not well_formed:
            raise _refused("changed", MANIFEST, "is not a manifest")
        check_time(manifest["at"])
    except CanonicalError as error:
        raise _refused("changed", MANIFEST, "is not canonical") from error
    paths = [line["path"] for line in manifest["files"]]
    if paths != sorted(set(paths)):
        raise _refused("changed", MANIFEST, "does not name each file once, in order")
    for path in paths:
        _check_path(path)
    return dict(manifest)


def _line(path: str, data: bytes) -> dict[str, Any]:
    return {
        "path": path,
        "bytes": len(data),
        "sm3": digest_of(data, hash_name="sm3"),
        "sha256": digest_of(data, hash_name="sha256"),
    }


def _check_path(path: str) -> None:
    parts = path.split("/")
    safe = (
        0 < len(path) <= MAX_PATH
        and path.isprintable()
        and "\\" not in path
        and ":" not in path
        and all(part not in {"", ".", ".."} for part in parts)
        and path not in {MANIFEST, SIGNATURE}
    )
    if not safe:
        raise LedgerError(
            f"`{path}` cannot be a path in a bundle",
            hint="use relative paths with `/`, without `.` and `..`",
            code="ledger.bundle.path",
            place=path,
        )


def _refused(code: str, place: str, what: str) -> LedgerError:
    return LedgerError(
        f"file `{place}` of the bundle {what}",
        hint="ask for the bundle again and keep this one as evidence",
        code=f"ledger.bundle.{code}",
        place=place,
    )
