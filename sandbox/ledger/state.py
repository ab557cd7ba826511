"""The state that a log folds to: frozen facts in tables that are never changed in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

from sandbox.errors import BudgetExhaustedError
from sandbox.ledger.table import Table
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.job import JobState
from sandbox.model.keys import PublicKey, SuiteName
from sandbox.model.loss import NO_LOSS, PrivacyLoss

Facts = TypeVar("Facts", "Account", "DatasetFacts", "JobFacts", "State")


def changed(facts: Facts, /, **changes: object) -> Facts:
    """Return a copy of frozen facts with some fields changed; `dataclasses.replace` at a third of its time.

    None of these classes has an `__init__` or a check of its own that a copy would skip.
    """
    copy = object.__new__(type(facts))
    for name in type(facts).__dataclass_fields__:
        object.__setattr__(copy, name, changes.pop(name) if name in changes else getattr(facts, name))
    if changes:
        raise AssertionError(f"{type(facts).__name__} has no field {min(changes)}")
    return copy


def agreement_account(agreement: str, dataset: str) -> str:
    """Return the account of what one agreement may spend on one dataset."""
    return f"agreement:{agreement}/{dataset}"


def dataset_account(dataset: str, unit_kind: str) -> str:
    """Return the account of what everyone together may spend on one dataset."""
    return f"dataset:{dataset}/{unit_kind}"


@dataclass(frozen=True, slots=True)
class Account:
    """A budget: what may be spent, what is held for jobs under way, what is spent for good.

    Invariant: nothing is reserved or posted unless `posted + pending + loss` is within `limit`; `posted` never falls.

    Attributes:
        account: `agreement:<name>/<dataset>` or `dataset:<dataset>/<unit kind>`.
        limit: the most that may ever be posted; it may be lowered and is never raised.
        pending: reserved by jobs that have not ended.
        posted: spent.
    """

    account: str
    limit: PrivacyLoss
    pending: PrivacyLoss = NO_LOSS
    posted: PrivacyLoss = NO_LOSS

    @property
    def remaining(self) -> PrivacyLoss:
        """What a job may still reserve; zero where a lowered limit lies below what is used."""
        used = self.posted + self.pending
        zero = Fraction(0)
        return PrivacyLoss(max(zero, self.limit.rho - used.rho), max(zero, self.limit.delta - used.delta))

    def reserve(self, loss: PrivacyLoss) -> Account:
        """Return the account with `loss` pending, or raise `BudgetExhaustedError`."""
        self._check_room(loss)
        return Account(self.account, self.limit, self.pending + loss, self.posted)

    def settle(self, reserved: PrivacyLoss, posted: PrivacyLoss) -> Account:
        """Return the account with `posted` out of `reserved` spent and the rest void."""
        return Account(self.account, self.limit, self.pending.minus(reserved), self.posted + posted)

    def post(self, loss: PrivacyLoss) -> Account:
        """Return the account with `loss` spent at once, or raise `BudgetExhaustedError`."""
        self._check_room(loss)
        return Account(self.account, self.limit, self.pending, self.posted + loss)

    def _check_room(self, loss: PrivacyLoss) -> None:
        if not (self.posted + self.pending + loss).fits(self.limit):
            raise BudgetExhaustedError(
                f"the privacy budget of `{self.account}` does not cover the loss asked for",
                hint="ask for less loss, or see which jobs used the budget with `saggar budget`",
                account=self.account,
                requested=loss.to_record(),
                remaining=self.remaining.to_record(),
            )

    def to_record(self) -> dict[str, Any]:
        """Return the account as a canonical record."""
        return {
            "account": self.account,
            "limit": self.limit.to_record(),
            "pending": self.pending.to_record(),
            "posted": self.posted.to_record(),
        }


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """What an agreement grants on one dataset."""

    columns: frozenset[str]
    budget: PrivacyLoss
    job_limit: PrivacyLoss

    def to_record(self) -> dict[str, Any]:
        """Return the grant as a canonical record."""
        return {
            "columns": sorted(self.columns),
            "budget": self.budget.to_record(),
            "job_limit": self.job_limit.to_record(),
        }


@dataclass(frozen=True, slots=True)
class AgreementFacts:
    """An agreement in the log; the term's end is exclusive."""

    name: str
    digest: Digest
    operator: str
    agency: str
    not_before: str
    not_after: str
    grants: dict[str, GrantFacts]

    def to_record(self) -> dict[str, Any]:
        """Return the agreement as a canonical record."""
        return {
            "name": self.name,
            "agreement": self.digest,
            "operator": self.operator,
            "agency": self.agency,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "grants": {dataset: grant.to_record() for dataset, grant in self.grants.items()},
        }


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A dataset in the log.

    Attributes:
        dataset, table, unit_kind: its names; dataset and unit kind never change.
        also_protects: further kinds of units that it protects; they never change either.
        suite: the suite of the current snapshot.
        snapshots: `(snapshot, description)` in the order of sealing; the last is current.
        profile: the digest of the latest profile of the current snapshot, or None.
        destroyed: `(snapshot, certificate)` of the snapshots whose keys were destroyed, in that order.
    """

    dataset: str
    table: str
    unit_kind: str
    suite: SuiteName
    snapshots: tuple[tuple[Digest, Digest], ...]
    profile: Digest | None
    destroyed: tuple[tuple[Digest, Digest], ...] = ()
    also_protects: tuple[str, ...] = ()

    @property
    def unit_kinds(self) -> tuple[str, ...]:
        """Every kind of unit that it protects, the one that bounds rows first."""
        return (self.unit_kind, *self.also_protects)

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that every answer about this dataset is charged to, one for each kind of unit."""
        return tuple(dataset_account(self.dataset, kind) for kind in self.unit_kinds)

    @property
    def snapshot(self) -> Digest:
        """The current snapshot."""
        return self.snapshots[-1][0]

    @property
    def account(self) -> str:
        """The account of the unit that bounds rows."""
        return dataset_account(self.dataset, self.unit_kind)

    @property
    def is_held(self) -> bool:
        """Whether any of its snapshots was not destroyed."""
        return len(self.destroyed) < len(self.snapshots)

    def has_snapshot(self, snapshot: str) -> bool:
        """Return whether `snapshot` was ever sealed for this dataset."""
        return any(known == snapshot for known, _ in self.snapshots)

    def certificate_of(self, snapshot: str) -> Digest | None:
        """Return the certificate of a destroyed snapshot, or None."""
        return next((certificate for known, certificate in self.destroyed if known == snapshot), None)

    def to_record(self) -> dict[str, Any]:
        """Return the dataset as a canonical record."""
        return {
            "dataset": self.dataset,
            "table": self.table,
            "unit_kind": self.unit_kind,
            "suite": self.suite.value,
            "snapshots": [list(pair) for pair in self.snapshots],
            "profile": self.profile,
            "destroyed": [list(pair) for pair in self.destroyed],
            **({"also_protects": list(self.also_protects)} if self.also_protects else {}),
        }


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job in the log.

    Attributes:
        job: the digest of its spec.
        state: where it stands.
        kind, name, agreement, product, purpose, code, submitter: as submitted.
        allowed: the decision, or None before it.
        admitted: the most that the decision lets it reserve.
        accounts: the accounts it has reserved on.
        reserved: what it holds on each of them while it runs.
        answered: the sum of the losses of its answers.
        questions: how many answers it got.
        posted: what it cost in the end, on each of its accounts.
        output: the digest of the output that passed the gate, or None.
        release: the digest of what was released, or None.
        ending: the code or reason of an end without release, or None.
        submitted_seq, ended_seq: the entries that began and ended it.
    """

    job: Digest
    state: JobState
    kind: str
    name: str
    agreement: str
    product: str
    purpose: str
    code: Digest
    submitter: str
    submitted_seq: int
    allowed: bool | None = None
    admitted: PrivacyLoss = NO_LOSS
    accounts: tuple[str, ...] = ()
    reserved: PrivacyLoss = NO_LOSS
    answered: PrivacyLoss = NO_LOSS
    questions: int = 0
    posted: PrivacyLoss = NO_LOSS
    output: Digest | None = None
    release: Digest | None = None
    ending: str | None = None
    ended_seq: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the job as a canonical record."""
        return {
            "job": self.job,
            "state": self.state.value,
            "kind": self.kind,
            "name": self.name,
            "agreement": self.agreement,
            "product": self.product,
            "purpose": self.purpose,
            "code": self.code,
            "submitter": self.submitter,
            "submitted_seq": self.submitted_seq,
            "allowed": self.allowed,
            "admitted": self.admitted.to_record(),
            "accounts": list(self.accounts),
            "reserved": self.reserved.to_record(),
            "answered": self.answered.to_record(),
            "questions": self.questions,
            "posted": self.posted.to_record(),
            "output": self.output,
            "release": self.release,
            "ending": self.ending,
            "ended_seq": self.ended_seq,
        }


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a log says, folded.

    Attributes:
        size: how many entries were folded; the next entry has this number.
        at: the time of the last entry, or empty.
        origin: the log's name, or empty before `log.opened`.
        suite: the log's default suite, or None before `log.opened`.
        policy: the digest of the policy set in force, or None.
        keys: by key id.
        accounts: by account id.
        agreements: by short name.
        datasets: by dataset.
        jobs: by job digest.
        exports: how many bundles were handed out.
        batches: the snapshots that batches sealed at the source became, by the batch's digest.
        certificates: the certificates of destruction, each with the number of the epoch that was closed over it, or 0.
        epoch: how often the epoch of master keys was closed.
    """

    size: int = 0
    at: str = ""
    origin: str = ""
    suite: SuiteName | None = None
    policy: Digest | None = None
    keys: Table[str, PublicKey] = field(default_factory=Table)
    accounts: Table[str, Account] = field(default_factory=Table)
    agreements: Table[str, AgreementFacts] = field(default_factory=Table)
    datasets: Table[str, DatasetFacts] = field(default_factory=Table)
    jobs: Table[str, JobFacts] = field(default_factory=Table)
    exports: int = 0
    batches: Table[str, Digest] = field(default_factory=Table)
    certificates: Table[str, int] = field(default_factory=Table)
    epoch: int = 0

    def to_record(self) -> dict[str, Any]:
        """Return the state as a canonical record; tables are objects keyed by id."""
        return {
            "v": 1,
            "size": self.size,
            "at": self.at,
            "origin": self.origin,
            "suite": None if self.suite is None else self.suite.value,
            "policy": self.policy,
            "keys": {key_id: key.to_record() for key_id, key in self.keys.items()},
            "accounts": {name: account.to_record() for name, account in self.accounts.items()},
            "agreements": {name: agreement.to_record() for name, agreement in self.agreements.items()},
            "datasets": {name: dataset.to_record() for name, dataset in self.datasets.items()},
            "jobs": {job: facts.to_record() for job, facts in self.jobs.items()},
            "exports": self.exports,
            "batches": dict(self.batches.items()),
            "certificates": dict(self.certificates.items()),
            "epoch": self.epoch,
        }


def state_digest(state: State) -> Digest:
    """Return the digest of the state's canonical record: two people with one log get the same."""
    return digest_of_record(state.to_record())
