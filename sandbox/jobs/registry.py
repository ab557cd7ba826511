"""What the log says exists: descriptions, agreements, snapshots."""

from __future__ import annotations

from sandbox.errors import JobError, PolicyError, SnapshotNotFoundError
from sandbox.jobs.engine import Records
from sandbox.ledger.account import DatasetFacts
from sandbox.model.agreement import SignedAgreement
from sandbox.model.canonical import parse_canonical
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, short
from sandbox.model.entry import EntryKind
from sandbox.model.transcript import Transcript
from sandbox.privacy.profile import Profile


def description_of(records: Records, dataset: str) -> DatasetDescription:
    """Return the description a dataset was last sealed under."""
    known = records.state().datasets.get(dataset)
    if known is None:
        raise SnapshotNotFoundError(
            f"no dataset is called `{dataset}`",
            hint=f"sealed here: {', '.join(sorted(records.state().datasets)) or 'none; run `saggar ingest`'}",
        )
    return DatasetDescription.parse(parse_canonical(records.documents.get(known.snapshots[-1][1])))


def tables_of(records: Records) -> dict[str, DatasetDescription]:
    """Return the sealed datasets' descriptions by their table names in SQL."""
    descriptions = (description_of(records, dataset) for dataset in records.state().datasets)
    return {description.table: description for description in descriptions}


def snapshot_of(records: Records, dataset: str) -> Digest:
    """Return the digest of a dataset's current snapshot.

    Raises:
        SnapshotNotFoundError: there is no such dataset, or its current snapshot was destroyed (`….destroyed`).
    """
    description_of(records, dataset)
    known = records.state().datasets[dataset]
    certificate = known.certificate_of(known.snapshot)
    if certificate is not None:
        raise SnapshotNotFoundError(
            f"the current snapshot of `{dataset}` was destroyed",
            hint=f"no job can read it; its certificate is document `{certificate}`",
            code="vault.snapshot_not_found.destroyed",
            certificate=certificate,
        )
    return known.snapshot


def destroyed_before(dataset: DatasetFacts, snapshot: Digest) -> SnapshotNotFoundError:
    """Return the error of a snapshot whose certificate of destruction stands in the log."""
    return SnapshotNotFoundError(
        f"snapshot `{short(snapshot)}` of `{dataset.dataset}` was destroyed",
        hint=f"its certificate is document `{dataset.certificate_of(snapshot)}`; `saggar certificate` writes it again",
        code="vault.snapshot_not_found.destroyed",
        certificate=dataset.certificate_of(snapshot),
    )


def agreement_of(records: Records, name: str) -> SignedAgreement:
    """Return a registered agreement by its short name."""
    known = records.state().agreements.get(name)
    if known is None:
        raise PolicyError(
            f"no agreement is called `{name}`",
            hint=f"registered here: {', '.join(sorted(records.state().agreements)) or 'none; run `saggar agree`'}",
            code="policy.agreement_unknown",
        )
    return SignedAgreement.parse(parse_canonical(records.documents.get(known.digest)))


def profile_of(records: Records, dataset: str) -> Profile | None:
    """Return the newest released profile of rows a unit, or None."""
    known = records.state().datasets[dataset]
    if known.profile is None:
        return None
    return Profile.parse(parse_canonical(records.documents.get(known.profile)))


def transcript_of(records: Records, job: str) -> Transcript:
    """Return the transcript of a job that was settled."""
    facts = records.state().jobs.get(job)
    if facts is None or facts.ended_seq is None:
        raise JobError(f"job `{short(job)}` is not settled", hint="see `saggar jobs`", code="job.not_settled")
    entry = next(iter(records.ledger.entries(facts.ended_seq, facts.ended_seq + 1)))
    if entry.kind is not EntryKind.JOB_SETTLED:
        raise JobError(f"job `{short(job)}` has no transcript", hint="it ended before it began", code="job.not_settled")
    return Transcript.parse(records.documents.get(entry.body["transcript"]))
