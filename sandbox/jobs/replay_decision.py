"""Replay level 2: every decision comes out the same under the policy set of its day, about the job that was signed.

For each `job.decided` entry, in this order:
1. the request is the one that the signed spec, its code, the registered agreement and descriptions, and the log's time
   give: a decision about another request would say nothing about this job; both parties signed the agreement;
2. the policy set that was in force decides it the same, clause by clause;
3. the vault opened what the request reads, and nothing else.
"""

from __future__ import annotations

from policies.decide import DecisionRequest, decide, described_columns
from policies.policy_set import PolicySet
from sandbox.jobs.admit import NO_PROGRAM
from sandbox.jobs.agree import check_parties
from sandbox.jobs.models import model_plan
from sandbox.jobs.replay_bundle import Bundle, mismatch
from sandbox.model.agreement import Agreement, SignedAgreement
from sandbox.model.canonical import parse_canonical
from sandbox.model.description import DatasetDescription
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.question import Question
from sandbox.privacy.check import check_question
from sandbox.privacy.joined import Reads


def replay_decision(bundle: Bundle, decided: Entry) -> None:
    """Raise `ReplayMismatchError` unless a decision is the one that the record gives."""
    body, place = decided.body, f"log entry {decided.seq}"
    request = DecisionRequest.parse(parse_canonical(bundle.document(body["request"])))
    spec = JobSpec.parse(parse_canonical(bundle.document(body["job"])))
    wrong = _differences(bundle, decided, spec, request)  # 1
    if wrong:
        raise mismatch(place, f"the decision was about another request than the job's, in its {wrong[0]}")
    policies = PolicySet.parse(parse_canonical(bundle.document(body["policy"])))
    again = decide(request, policies)  # 2
    if [again.allowed, sorted(again.clauses)] != [body["allowed"], body["clauses"]]:
        raise mismatch(place, "the decision comes out differently under the policy of its day")
    for entry in bundle.entries:  # 3
        if entry.kind is EntryKind.VAULT_OPENED and entry.body["job"] == body["job"]:
            opened = tuple((dataset, tuple(columns)) for dataset, _, columns in entry.body["reads"])
            if opened != request.reads:
                raise mismatch(f"log entry {entry.seq}", "other columns were opened than the decision was about")


def tables_for(bundle: Bundle, spec: JobSpec) -> dict[str, DatasetDescription]:
    """Return the descriptions of the snapshots that a job names, by table."""
    named = dict(spec.snapshots)
    tables = {}
    for entry in bundle.entries:
        if entry.kind is EntryKind.DATASET_SEALED and named.get(entry.body["dataset"]) == entry.body["snapshot"]:
            description = DatasetDescription.parse(parse_canonical(bundle.document(entry.body["description"])))
            tables[description.table] = description
    return tables


def _differences(bundle: Bundle, decided: Entry, spec: JobSpec, request: DecisionRequest) -> list[str]:
    tables = tables_for(bundle, spec)
    reads = _reads(bundle, spec, tables)
    described = {description.dataset: described_columns(description) for description in tables.values()}
    submitted = next(
        entry
        for entry in bundle.entries
        if entry.kind is EntryKind.JOB_SUBMITTED and entry.body["job"] == decided.body["job"]
    )
    pairs = {
        "operator": (request.operator, submitted.actor),
        "agreement": (request.agreement, _agreement(bundle, spec.agreement, before=decided.seq)),
        "product": (request.product, spec.product),
        "purpose": (request.purpose, spec.purpose),
        "columns": (request.reads, reads),
        "classes": (request.description_columns, tuple(described.get(dataset) for dataset, _ in reads)),
        "loss": (request.loss.to_record(), spec.loss.to_record()),
        "logged loss": (decided.body["loss"], spec.loss.to_record()),
        "rows": (request.raw_rows, False),
        "walls": (request.isolation == NO_PROGRAM["level"], spec.kind is not JobKind.PYTHON),
    }
    wrong = [name for name, (said, is_so) in pairs.items() if said != is_so]
    return wrong if request.at <= decided.at else [*wrong, "time"]


def _reads(bundle: Bundle, spec: JobSpec, tables: dict[str, DatasetDescription]) -> Reads:
    if spec.kind is JobKind.PYTHON:
        return spec.reads
    code = bundle.document(spec.code).decode()
    if spec.kind is JobKind.MODEL:
        return (model_plan(spec, code, tables).reads,)
    return check_question(Question(code, spec.loss, spec.rows, spec.groups), tables).reads


def _agreement(bundle: Bundle, name: str, *, before: int) -> Agreement | None:
    for entry in bundle.entries[:before]:
        if entry.kind is EntryKind.AGREEMENT_REGISTERED and entry.body["name"] == name:
            signed = SignedAgreement.parse(parse_canonical(bundle.document(entry.body["agreement"])))
            check_parties(signed, {key.key_id: key for key in bundle.keys})
            return signed.agreement
    return None
