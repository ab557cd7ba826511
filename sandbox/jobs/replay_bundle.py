"""A bundle in an auditor's hands: every byte accounted for before anything in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.errors import ReplayMismatchError
from sandbox.ledger.bundle import verify_bundle
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


def open_bundle(files: Mapping[str, bytes], trusted: tuple[PublicKey, ...] | None) -> tuple[Bundle, list[Finding]]:
    """Return the bundle once every byte of it is accounted for by its signed manifest."""
    trust = parse_canonical(_file(files, "trust.json"))
    own = tuple(PublicKey.parse(record) for record in trust["keys"])
    keys = own if trusted is None else trusted
    verify_bundle(files, [key for key in keys if key.role is Role.SANDBOX])
    lines = _file(files, "log/entries.jsonl").split(b"\n")
    entries = tuple(Entry.parse(line) for line in lines[:-1])
    source = "the bundle's own keys; compare their fingerprints" if trusted is None else "keys you brought"
    verdict = f"{len(files)} files are as signed, under {source}"
    return Bundle(files, trust["origin"], keys, entries), [Finding(0, "bundle", verdict)]


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
