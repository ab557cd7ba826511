"""Log entries: what is recorded, and nothing more.

No entry ever holds a row value, an exact aggregate, noise, a seed, an exact row count, raw error text or fine timing.
An entry is under 64 KiB: it carries digests of documents, not documents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes, parse_canonical

MAX_ENTRY_BYTES = 65_535
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class EntryKind(StrEnum):
    """What happened.  Each kind's body is described in `docs/reference/entries.md`."""

    LOG_OPENED = "log.opened"
    KEY_REGISTERED = "key.registered"
    POLICY_ADOPTED = "policy.adopted"
    DATASET_SEALED = "dataset.sealed"
    DATASET_PROFILED = "dataset.profiled"
    DATASET_DESTROYED = "dataset.destroyed"
    BATCH_RECEIVED = "batch.received"
    EPOCH_CLOSED = "epoch.closed"
    AGREEMENT_REGISTERED = "agreement.registered"
    JOB_SUBMITTED = "job.submitted"
    JOB_DECIDED = "job.decided"
    JOB_REFUSED = "job.refused"
    BUDGET_RESERVED = "budget.reserved"
    VAULT_OPENED = "vault.opened"
    QUESTION_ANSWERED = "question.answered"
    JOB_GATED = "job.gated"
    JOB_SETTLED = "job.settled"
    JOB_RECOVERED = "job.recovered"
    EXPORT_MADE = "export.made"


_KINDS = frozenset(kind.value for kind in EntryKind)


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the log.

    Attributes:
        seq: its index in the log, from 0.
        at: UTC time in whole seconds, `YYYY-MM-DDTHH:MM:SSZ`; never earlier than the entry before.
        kind: what happened.
        actor: the key id of who caused it.
        body: the facts, by kind; a canonical record.
    """

    seq: int
    at: str
    kind: EntryKind
    actor: str
    body: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the entry: the leaf's data."""
        raw = canonical_bytes(
            {"v": 1, "seq": self.seq, "at": self.at, "kind": self.kind.value, "actor": self.actor, "body": self.body}
        )
        if len(raw) > MAX_ENTRY_BYTES:
            raise CanonicalError(
                f"a `{self.kind}` entry would be over {MAX_ENTRY_BYTES} bytes", hint="log a digest, not the document"
            )
        return raw

    @classmethod
    def parse(cls, raw: bytes) -> Entry:
        """Return the entry that canonical bytes write; strict about its fields."""
        if len(raw) > MAX_ENTRY_BYTES:
            raise CanonicalError("an entry is over the size limit", hint="it is not an entry of this log")
        record = parse_canonical(raw)
        fields = {"v", "seq", "at", "kind", "actor", "body"}
        if not isinstance(record, dict) or set(record) != fields or record["v"] != 1:
            raise CanonicalError("an entry has unknown or missing fields", hint=f"it has exactly {sorted(fields)}")
        seq, at, actor, body = record["seq"], record["at"], record["actor"], record["body"]
        well_formed = (
            isinstance(seq, int)
            and not isinstance(seq, bool)
            and seq >= 0
            and isinstance(at, str)
            and _TIME.fullmatch(at)
            and isinstance(actor, str)
            and isinstance(body, dict)
            and record["kind"] in _KINDS
        )
        if not well_formed:
            raise CanonicalError("an entry has a field of the wrong form", hint="see docs/reference/entries.md")
        return cls(seq, at, EntryKind(record["kind"]), actor, body)
