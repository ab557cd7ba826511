"""Admit and reserve: what the checked code asks for, whether the policies permit it, and the loss held for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from policies.decide import DecisionRequest, check_decision, decide, described_columns
from sandbox.errors import LedgerError, PolicyError, PrivacyError, QueryError, SaggarError
from sandbox.jobs.engine import Engine, Records
from sandbox.jobs.models import check_model
from sandbox.jobs.registry import agreement_of, description_of, snapshot_of, tables_of
from sandbox.jobs.stages import Admitted, Reserved, Submitted
from sandbox.ledger.state import agreement_account, dataset_account
from sandbox.model.agreement import Agreement
from sandbox.model.canonical import canonical_bytes
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.keys import Role
from sandbox.model.question import Question
from sandbox.privacy.check import check_question
from sandbox.privacy.joined import Reads
from sandbox.privacy.plan import plan_query
from sandbox.privacy.query import CheckedQuery

NO_PROGRAM: dict[str, Any] = {"level": "no-program"}


def admit(engine: Engine, submitted: Submitted) -> Admitted:
    """Return the job once its code is in the language and the policy set permits it; a denial is logged.

    Raises:
        QueryError, ProgramError: the code is not in the language.
        DeniedError, ExpiredError: a clause denies it; the error names the clause.
    """
    spec = submitted.spec
    with refused_at(engine, submitted.job, "admit"):
        agreement = agreement_of(engine, spec.agreement).agreement
        query, isolation = check_code(engine, spec, submitted.code)
        if query is not None:
            plan_query(query, spec.loss)  # A loss that cannot pay for the question is told before anything is held.
        reads: Reads = spec.reads if query is None else query.reads
        descriptions = check_reads(engine, spec, reads)
        if not engine.trusted(Role.AUDITOR):
            raise PolicyError(
                "no auditor's key is registered, so nobody could check this job",
                hint="register one with `saggar keys add AUDITOR.pub`",
                code="policy.no_auditor",
            )
        operator = engine.state().jobs[submitted.job].submitter
        request = decision_request(
            spec, agreement, descriptions, reads, isolation, operator=operator, at=engine.clock.now()
        )
        decided = _decide(engine, submitted.job, request)
    reservations = tuple(
        reservation
        for description in descriptions
        for reservation in (
            (agreement_account(agreement.agreement, description.dataset), spec.loss),
            *((dataset_account(description.dataset, kind), spec.loss) for kind in description.unit_kinds),
        )
    )
    return Admitted(submitted, agreement, descriptions, query, reads, reservations, isolation, decided)


def reserve(engine: Engine, admitted: Admitted) -> Reserved:
    """Log the decision and hold the job's loss on every account, in one commit, before any data is opened.

    Raises:
        BudgetExhaustedError: an account has less left than the job asks for; the decision is in the log.
    """
    job = admitted.submitted.job
    decided = (EntryKind.JOB_DECIDED, admitted.decided)
    with refused_at(engine, job, "reserve"):
        body = {
            "job": job,
            "reservations": [{"account": account, "loss": loss.to_record()} for account, loss in admitted.reservations],
        }
        try:
            entry = engine.append_all(decided, (EntryKind.BUDGET_RESERVED, body))[-1]
        except (PrivacyError, PolicyError, LedgerError):
            engine.append_all(decided)
            raise
    return Reserved(admitted, entry.at, engine.clock.monotonic_s())


def check_code(records: Records, spec: JobSpec, code: str) -> tuple[CheckedQuery | None, dict[str, Any]]:
    """Return the checked question of an SQL job, or None and the walls' level for a program that compiles.

    A model's questions are checked as well; its spec declares what they read.
    """
    if spec.kind is JobKind.SQL:
        question = Question(code, spec.loss, spec.rows, spec.groups)
        return check_question(question, tables_of(records)), NO_PROGRAM
    if spec.kind is JobKind.MODEL:
        check_model(spec, code, tables_of(records))
        return None, NO_PROGRAM
    guests = records.guests()
    guests.check(code)
    return None, guests.report_for(code).to_record()


def check_reads(records: Records, spec: JobSpec, reads: Reads) -> tuple[DatasetDescription, ...]:
    """Return the descriptions of the datasets read; every column must exist, every snapshot be the current one.

    Raises:
        QueryError: a column does not exist, a snapshot is not the current one, or a table's name stands for two
            datasets (`input.query.ambiguous_table`).
    """
    _check_tables(records, spec, [dataset for dataset, _ in reads])
    named = dict(spec.snapshots)
    descriptions = []
    for dataset, columns in reads:
        description = description_of(records, dataset)
        check_columns(description, columns)
        if named.get(dataset) != snapshot_of(records, dataset):
            raise QueryError(
                f"the job names another snapshot of `{dataset}` than the current one",
                hint="submit the job file again; it takes the current snapshot",
                code="input.query.snapshot",
            )
        descriptions.append(description)
    return tuple(descriptions)


def _check_tables(records: Records, spec: JobSpec, read: Sequence[str]) -> None:
    """Refuse a table name that stands for two datasets, whichever of them would be meant.

    SQL names a table among all sealed datasets; a program declares its datasets, and names a table among those.
    """
    known = read if spec.kind is JobKind.PYTHON else sorted(records.state().datasets)
    by_table: dict[str, list[str]] = {}
    for dataset in known:
        by_table.setdefault(description_of(records, dataset).table, []).append(dataset)
    for table, datasets in by_table.items():
        if len(datasets) > 1 and not set(datasets).isdisjoint(read):
            raise QueryError(
                f"the table name `{table}` stands for the datasets {' and '.join(f'`{name}`' for name in datasets)}",
                hint="ask the department to seal one of them again under another table name, or read one of them",
                code="input.query.ambiguous_table",
                datasets=datasets,
            )


def check_columns(description: DatasetDescription, columns: tuple[str, ...]) -> None:
    """Raise `QueryError` where a dataset has no such column."""
    for column in columns:
        if description.column(column) is None and column != description.unit.column:
            raise QueryError(
                f"dataset `{description.dataset}` has no column `{column}`",
                hint=f"its columns are {', '.join(c.name for c in description.columns)}",
                code="input.query.unknown_column",
            )


def decision_request(
    spec: JobSpec,
    agreement: Agreement,
    descriptions: tuple[DatasetDescription, ...],
    reads: Reads,
    isolation: dict[str, Any],
    *,
    operator: str,
    at: str,
) -> DecisionRequest:
    """Return what the policies are asked: facts of the checked code and of the log, nothing the caller says."""
    return DecisionRequest(
        operator=operator,
        agreement=agreement,
        product=spec.product,
        purpose=spec.purpose,
        reads=reads,
        description_columns=tuple(described_columns(description) for description in descriptions),
        loss=spec.loss,
        raw_rows=False,
        at=at,
        isolation=isolation["level"],
    )


def _decide(engine: Engine, job: Digest, request: DecisionRequest) -> dict[str, Any]:
    """Return an allowing decision as the log shall have it; log a denying one and raise it."""
    decision = decide(request)
    body = {
        "job": job,
        "allowed": decision.allowed,
        "policy": decision.policy,
        "clauses": sorted(decision.clauses),
        "request": engine.documents.put(canonical_bytes(request.to_record())),
        "loss": request.loss.to_record(),
    }
    if not decision.allowed:
        engine.append(EntryKind.JOB_DECIDED, body)
    check_decision(decision)
    return body


@contextmanager
def refused_at(engine: Engine, job: Digest, stage: str) -> Iterator[None]:
    """Log a refusal before any data was opened, and raise it on; an open reservation is voided by the entry."""
    try:
        yield
    except SaggarError as error:
        clauses = error.details.get("clauses")
        named = sorted(clauses) if isinstance(clauses, list) else []
        body = {"job": job, "stage": stage, "code": error.code, "clauses": named}
        engine.append(EntryKind.JOB_REFUSED, body)
        error.details["job"] = job
        raise
