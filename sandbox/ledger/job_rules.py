"""The rules of `account.apply` for jobs: from submitted to released, refused, failed or recovered."""

from __future__ import annotations

from typing import Any

from sandbox.errors import BudgetExhaustedError, ExpiredError
from sandbox.ledger.bodies import refused_entry
from sandbox.ledger.founding_rules import sealed_dataset
from sandbox.ledger.state import AgreementFacts, GrantFacts, JobFacts, State, agreement_account, changed
from sandbox.model.entry import Entry
from sandbox.model.job import JobState, check_transition
from sandbox.model.loss import NO_LOSS, PrivacyLoss


def job_submitted(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """Record a job that was submitted."""
    if body["job"] in state.jobs:
        raise refused_entry(
            "duplicate", "this job was submitted before", "read its result, or change the nonce to ask and pay again"
        )
    if body["agreement"] not in state.agreements:
        raise refused_entry(
            "unknown_agreement",
            f"no agreement is called `{body['agreement']}`",
            "register it with `saggar agree register`",
        )
    if body["submitter"] not in state.keys:
        raise refused_entry(
            "unknown_key", f"submitter `{body['submitter']}` is not a registered key", "register the key first"
        )
    job = JobFacts(
        job=body["job"],
        state=JobState.SUBMITTED,
        kind=body["kind"],
        name=body["name"],
        agreement=body["agreement"],
        product=body["product"],
        purpose=body["purpose"],
        code=body["code"],
        submitter=body["submitter"],
        submitted_seq=entry.seq,
    )
    return changed(state, jobs=state.jobs.with_item(job.job, job))


def job_decided(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record the policy's decision; an allowing one admits the job."""
    job = _job(state, body["job"])
    if state.policy is None or body["policy"] != state.policy:
        raise refused_entry("wrong_policy", "the decision is not under the policy in force", "decide again")
    if job.allowed is not None:
        raise refused_entry("duplicate", "this job is already decided", "a decision stands; submit a new job")
    check_transition(job.state, JobState.ADMITTED)
    if not body["allowed"]:
        return _with_job(state, changed(job, allowed=False))
    return _with_job(state, changed(job, state=JobState.ADMITTED, allowed=True, admitted=body["loss"]))


def job_refused(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """Refuse a job before the vault was opened; what it had reserved is void."""
    job = _moved(_job(state, body["job"]), JobState.REFUSED)
    state = _settled_accounts(state, job, NO_LOSS)
    return _with_job(state, changed(job, ending=body["code"], ended_seq=entry.seq))


def budget_reserved(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """Reserve the job's loss on every account, or nothing."""
    job = _moved(_job(state, body["job"]), JobState.RESERVED)
    agreement = state.agreements[job.agreement]
    _check_term(agreement, entry.at)
    if job.submitter != agreement.operator:
        raise refused_entry(
            "wrong_operator",
            f"the submitter is not the operator of agreement `{agreement.name}`",
            "submit with the key that the agreement names",
        )
    accounts = tuple(reservation["account"] for reservation in body["reservations"])
    loss: PrivacyLoss = body["reservations"][0]["loss"]
    if any(reservation["loss"] != loss for reservation in body["reservations"]):
        raise refused_entry(
            "unequal_reservations", "a job is charged the same loss on each account", "reserve the job's whole loss"
        )
    if not loss.fits(job.admitted):
        raise refused_entry("above_admitted", "the reservation is above the loss admitted", "reserve what was decided")
    for dataset, grant in _reserved_datasets(state, agreement, accounts).items():
        if not loss.fits(grant.job_limit):
            raise BudgetExhaustedError(
                f"one job may not ask for this much of `{dataset}` under agreement `{agreement.name}`",
                hint="ask for less loss in one job",
                code="privacy.budget.job_limit",
                account=agreement_account(agreement.name, dataset),
                requested=loss.to_record(),
                remaining=grant.job_limit.to_record(),
            )
    table = state.accounts
    for account_id in accounts:
        table = table.with_item(account_id, table[account_id].reserve(loss))
    return changed(_with_job(state, changed(job, accounts=accounts, reserved=loss)), accounts=table)


def _reserved_datasets(state: State, agreement: AgreementFacts, accounts: tuple[str, ...]) -> dict[str, GrantFacts]:
    """Return the grants behind a reservation: it names the agreement's and all accounts of each dataset, once each."""
    grants: dict[str, GrantFacts] = {}
    expected: set[str] = set()
    for dataset, grant in agreement.grants.items():
        account_id = agreement_account(agreement.name, dataset)
        if account_id in accounts and dataset in state.datasets:
            grants[dataset] = grant
            expected |= {account_id, *state.datasets[dataset].accounts}
    if set(accounts) != expected or len(accounts) != len(expected):
        raise refused_entry(
            "wrong_accounts",
            "a reservation names the agreement's account and the dataset's accounts of each dataset, and no other",
            "reserve on all accounts of every dataset that the job reads",
        )
    return grants


def vault_opened(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """Open admitted columns; from here the reservation can no longer be voided whole."""
    job = _moved(_job(state, body["job"]), JobState.OPENED)
    agreement = state.agreements[job.agreement]
    _check_term(agreement, entry.at)
    for name, snapshot, columns in body["reads"]:
        dataset = sealed_dataset(state, name, snapshot)
        if not set(dataset.accounts) <= set(job.accounts):
            raise refused_entry(
                "not_reserved", f"the job has no reservation on `{name}`", "reserve on every dataset that the job reads"
            )
        beyond = set(columns) - agreement.grants[name].columns
        if beyond:
            raise refused_entry(
                "column_not_granted",
                f"column `{min(beyond)}` of `{name}` is not granted by agreement `{agreement.name}`",
                "read only the columns of the agreement",
            )
    return _with_job(state, job)


def question_answered(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Count one answer against the reservation."""
    job = _job(state, body["job"])
    if job.state is not JobState.OPENED:
        raise refused_entry("not_open", f"a job that is `{job.state.value}` gets no answers", "answer only an open job")
    if body["index"] != job.questions:
        raise refused_entry("out_of_order", f"answer {body['index']} came as number {job.questions}", "number from 0")
    answered = job.answered + body["loss"]
    if not answered.fits(job.reserved):
        raise BudgetExhaustedError(
            "the answers of this job would cost more than it reserved",
            hint="ask fewer or cheaper questions, or submit a job with more loss",
            code="privacy.budget.job",
            account=f"job:{job.job}",
            requested=body["loss"].to_record(),
            remaining=job.reserved.minus(job.answered).to_record(),
        )
    return _with_job(state, changed(job, answered=answered, questions=job.questions + 1))


def job_gated(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record that the output passed the gate."""
    return _with_job(state, changed(_moved(_job(state, body["job"]), JobState.GATED), output=body["output"]))


def job_settled(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """End a job: what was spent is posted on each account, the rest is void."""
    released = body["outcome"] == "released"
    if released != (body["release"] is not None) or released != (body["code"] is None):
        raise refused_entry(
            "malformed", "a released job has a release and no code, a failed job a code and no release", "settle again"
        )
    job = _moved(_job(state, body["job"]), JobState.RELEASED if released else JobState.FAILED)
    posted: PrivacyLoss = body["posted"]
    if not posted.fits(job.reserved):
        raise refused_entry(
            "settled_above_reserved", "the loss posted is more than was reserved", "post what was answered"
        )
    if not job.answered.fits(posted):
        raise refused_entry(
            "settled_below_answered", "the loss posted is less than was answered", "post what was answered"
        )
    state = _settled_accounts(state, job, posted)
    return _with_job(
        state, changed(job, posted=posted, release=body["release"], ending=body["code"], ended_seq=entry.seq)
    )


def job_recovered(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """End a job that a crash left open: everything reserved is posted."""
    job = _moved(_job(state, body["job"]), JobState.RECOVERED)
    if body["posted"] != job.reserved:
        raise refused_entry(
            "recovered_not_all", "a recovery posts everything that was reserved", "post the whole reservation"
        )
    state = _settled_accounts(state, job, job.reserved)
    return _with_job(state, changed(job, posted=job.reserved, ending=body["reason"], ended_seq=entry.seq))


def _job(state: State, job: str) -> JobFacts:
    if job not in state.jobs:
        raise refused_entry("unknown_job", f"no job `{job}` was submitted", "submit it first")
    return state.jobs[job]


def _moved(job: JobFacts, to: JobState) -> JobFacts:
    check_transition(job.state, to)
    return changed(job, state=to)


def _with_job(state: State, job: JobFacts) -> State:
    return changed(state, jobs=state.jobs.with_item(job.job, job))


def _settled_accounts(state: State, job: JobFacts, posted: PrivacyLoss) -> State:
    """Return the state with the job's reservation ended: `posted` is spent on each account, the rest is void."""
    table = state.accounts
    for account_id in job.accounts:
        table = table.with_item(account_id, table[account_id].settle(job.reserved, posted))
    return changed(state, accounts=table)


def _check_term(agreement: AgreementFacts, at: str) -> None:
    if not agreement.not_before <= at < agreement.not_after:
        raise ExpiredError(
            f"agreement `{agreement.name}` is outside its term",
            hint="sign a new agreement",
            agreement=agreement.name,
            not_before=agreement.not_before,
            not_after=agreement.not_after,
        )
