"""Export: everything an auditor needs to check the log and replay its jobs on another machine."""

from __future__ import annotations

from policies.policy_set import current_policies
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import publish, receipt_for
from sandbox.ledger.bundle import build_manifest
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import digest_of
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.transcript import Transcript

_REFERENCES = {
    EntryKind.DATASET_SEALED: ("description",),
    EntryKind.DATASET_PROFILED: ("profile",),
    EntryKind.DATASET_DESTROYED: ("certificate",),
    EntryKind.EPOCH_CLOSED: ("record",),
    EntryKind.AGREEMENT_REGISTERED: ("agreement",),
    EntryKind.JOB_SUBMITTED: ("job", "code"),
    EntryKind.JOB_DECIDED: ("request",),
    EntryKind.JOB_GATED: ("permit",),
    EntryKind.JOB_SETTLED: ("release", "transcript"),
    EntryKind.POLICY_ADOPTED: ("policy",),
}
"""Which fields of an entry's body name documents that travel in a bundle."""


def export_bundle(engine: Engine, *, by: str) -> dict[str, bytes]:
    """Return the bundle as path -> bytes: log, checkpoints, documents, receipts, trust, manifest and its signature.

    The export itself becomes an entry that names the bundle's manifest, so the log shows who took which copy.
    """
    publish(engine)
    size = engine.ledger.size
    entries = list(engine.ledger.entries(0, size))
    files: dict[str, bytes] = {"log/entries.jsonl": b"".join(entry.to_bytes() + b"\n" for entry in entries)}
    for number, note in enumerate(engine.ledger.checkpoints()):
        files[f"log/checkpoints/{number:06d}.note"] = note.encode()
    for entry in entries:
        for digest in (*named_documents(entry), *sealed_parts(engine, entry)):
            files[f"documents/{digest.partition(':')[2]}"] = engine.documents.get(digest)
        if entry.kind is EntryKind.JOB_SETTLED and entry.body["release"] is not None:
            name = entry.body["job"].partition(":")[2]
            files[f"receipts/{name}.tlog-proof"] = receipt_for(engine, entry.seq).encode()
    keys = [key.to_record() for key in engine.state().keys.values()]
    files["trust.json"] = canonical_bytes({"v": 1, "origin": engine.origin, "keys": keys})
    files.update(build_manifest(files, engine.key, engine.clock.now()))
    engine.append(EntryKind.EXPORT_MADE, {"bundle": digest_of(files["MANIFEST.json"]), "by": by})
    publish(engine)
    return files


def adopt_policies(engine: Engine) -> None:
    """Log the policy set in force, if it is not the one the log knows, and keep its text."""
    policies = current_policies()
    record = canonical_bytes(policies.to_record())
    if engine.state().policy != digest_of(record):
        engine.append(EntryKind.POLICY_ADOPTED, {"policy": engine.documents.put(record)})


def named_documents(entry: Entry) -> list[str]:
    """Return the digests of the documents that an entry names itself."""
    return [entry.body[name] for name in _REFERENCES.get(entry.kind, ()) if entry.body[name] is not None]


def sealed_parts(engine: Engine, entry: Entry) -> list[str]:
    """Return the digests of the sealed parts of the job that an entry settles, which its transcript names.

    Raises:
        VaultError: the transcript is not there or was changed.
    """
    if entry.kind is not EntryKind.JOB_SETTLED:
        return []
    return list(Transcript.parse(engine.documents.get(entry.body["transcript"])).sealed.values())
