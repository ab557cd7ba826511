"""A bundle in an auditor's hands: every byte accounted for before anything in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.errors import CanonicalError, ReplayMismatchError, SaggarError
from sandbox.ledger.bundle import MANIFEST, SIGNATURE, verify_bundle
from sandbox.ledger.verify import Trusted
from sandbox.model.canonical import parse_canonical
from sandbox.model.digest import digest_of, short
from sandbox.model.entry import Entry
from sandbox.model.keys import PublicKey, Role


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked and held.

    Attributes:
        level: 0 to 3.
        subject: what (`log`, `job 0123456789ab`).
        verdict: a sentence.
    """

    level: int
    subject: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte is accounted for.

    Attributes:
        files: path -> bytes.
        origin: the log's name.
        keys: the keys that are trusted.
        entries: the log.
    """

    files: Mapping[str, bytes]
    origin: str
    keys: tuple[PublicKey, ...]
    entries: tuple[Entry, ...]

    def document(self, digest: str) -> bytes:
        """Return a document by digest; it must be there and be itself."""
        path = f"documents/{digest.partition(':')[2]}"
        data = self.files.get(path)
        if data is None or digest_of(data) != digest:
            raise mismatch(path, f"document `{short(digest)}` that the log names is missing or changed")
        return data

    def key(self, role: Role) -> tuple[PublicKey, ...]:
        """Return the trusted keys of a role."""
        return tuple(key for key in self.keys if key.role is role)


def open_bundle(
    files: Mapping[str, bytes], trusted: tuple[PublicKey, ...] | None, origin: str | None = None
) -> tuple[Bundle, list[Finding]]:
    """Return the bundle once every byte of it is accounted for by its signed manifest."""
    _check_trust_file(files)
    named, own = _read_trust(_file(files, "trust.json"))
    keys = own if trusted is None else trusted
    verify_bundle(files, [key for key in keys if key.role is Role.SANDBOX])
    if origin is not None and named != origin:
        raise mismatch("trust.json", f"the bundle is of the log `{named}` and not of `{origin}`")
    lines = _file(files, "log/entries.jsonl").split(b"\n")
    entries = tuple(Entry.parse(line) for line in lines[:-1])
    source = "the bundle's own keys; compare their fingerprints" if trusted is None else "keys you brought"
    verdict = f"{len(files)} files are as signed, under {source}"
    return Bundle(files, named, keys, entries), [Finding(0, "bundle", verdict)]


def _check_trust_file(files: Mapping[str, bytes]) -> None:
    """Raise if `trust.json` was touched: its keys are needed before the signature over it can be checked.

    This only serves to name the right file; what is wrong with the manifest or its signature, `verify_bundle` says.
    """
    try:
        manifest = files[MANIFEST]
        if parse_canonical(files[SIGNATURE])["manifest"] != digest_of(manifest):
            return
        named = {line["path"]: line["sm3"] for line in parse_canonical(manifest)["files"]}
    except (KeyError, TypeError, CanonicalError):
        return
    if named.get("trust.json") != digest_of(_file(files, "trust.json")):
        raise mismatch("trust.json", "file `trust.json` of the bundle is not the file that was signed for")


def _read_trust(raw: bytes) -> tuple[str, tuple[PublicKey, ...]]:
    try:
        record = parse_canonical(raw)
        return str(record["origin"]), tuple(PublicKey.parse(key) for key in record["keys"])
    except (KeyError, TypeError, SaggarError) as error:
        raise mismatch("trust.json", "file `trust.json` of the bundle is malformed") from error


def _file(files: Mapping[str, bytes], path: str) -> bytes:
    if path not in files:
        raise mismatch(path, f"`{path}` is missing from the bundle")
    return files[path]


def trusted_for(origin: str, keys: tuple[PublicKey, ...]) -> Trusted:
    """Return whom the offline verifier shall believe: of the keys given, each by its role."""
    by_role = {role: tuple(key for key in keys if key.role is role) for role in (Role.SANDBOX, Role.WITNESS)}
    return Trusted(origin, by_role[Role.SANDBOX], by_role[Role.WITNESS])


def mismatch(place: str, message: str) -> ReplayMismatchError:
    """Return the error that names the place where a replay differs from the record."""
    return ReplayMismatchError(message, hint=f"look at `{place}`; ask for the bundle again", place=place)
