"""Quote: what a job would cost, whether it would be allowed, and how good its answers would be; costs nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from policies.decide import Decision, decide
from sandbox.errors import SaggarError
from sandbox.jobs.admit import check_code, check_reads, decision_request
from sandbox.jobs.blocks import blocks_question
from sandbox.jobs.engine import Records
from sandbox.jobs.models import model_plan
from sandbox.jobs.registry import agreement_of, profile_of, tables_of
from sandbox.ledger.state import agreement_account, dataset_account
from sandbox.model.description import DatasetDescription
from sandbox.model.exact import format_exact, parse_exact
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.model.question import Quote
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.accuracy import least_loss, proposals
from sandbox.privacy.blocks_quote import QuotedBlocks, quote_blocks
from sandbox.privacy.joined import Reads
from sandbox.privacy.models.expecting import QuotedModel, quote_model
from sandbox.privacy.plan import plan_query
from sandbox.privacy.quote import quote_plan


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One account a job would draw on: before and after."""

    account: str
    limit: PrivacyLoss
    remaining: PrivacyLoss
    asked: PrivacyLoss

    @property
    def enough(self) -> bool:
        """Whether the account has what the job asks for."""
        return self.asked.fits(self.remaining)


@dataclass(frozen=True, slots=True)
class NeededLoss:
    """The least loss for which every value of a cell of `cell` rows is within `within` of itself, 95 times of 100."""

    within: Fraction
    cell: int
    loss: PrivacyLoss

    def to_record(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        epsilon, delta = people_loss(self.loss)
        within = format_exact(self.within)
        return {"within": within, "cell": self.cell, "loss": self.loss.to_record(), "epsilon": epsilon, "delta": delta}


@dataclass(frozen=True, slots=True)
class JobQuote:
    """The whole quote of a job.

    Attributes:
        loss: what would be reserved.
        epsilon: the same for people at `delta`.
        reads: the columns whose keys would be opened.
        decision: what the policies say now.
        accounts: what the job would draw on.
        question: the expected error of an SQL job's answer; None for a program, whose questions are its own.
        blocks: for each question to blocks that a program spells out, the noise for several numbers of blocks.
        needed: the least loss for a wanted accuracy, where one was asked for.
        model: what a model would be worth, and how many rows it wants.
    """

    loss: PrivacyLoss
    epsilon: str
    delta: str
    reads: Reads
    decision: Decision
    accounts: tuple[AccountLine, ...]
    question: Quote | None
    blocks: tuple[tuple[QuotedBlocks, ...], ...] = ()
    needed: NeededLoss | None = None
    model: QuotedModel | None = None

    @property
    def allowed(self) -> bool:
        """Whether the job would be admitted and its loss reserved, as things stand."""
        return self.decision.allowed and all(line.enough for line in self.accounts)

    def to_record(self) -> dict[str, Any]:
        """Return the quote as `--json` prints it."""
        return {
            "allowed": self.allowed,
            "loss": self.loss.to_record(),
            "epsilon": self.epsilon,
            "delta": self.delta,
            "reads": [[dataset, list(columns)] for dataset, columns in self.reads],
            "decision": self.decision.to_record(),
            "accounts": [
                {
                    "account": line.account,
                    "limit": line.limit.to_record(),
                    "remaining": line.remaining.to_record(),
                    "asked": line.asked.to_record(),
                    "enough": line.enough,
                }
                for line in self.accounts
            ],
            "question": None if self.question is None else self.question.to_record(),
            "blocks": [[quoted.to_record() for quoted in quotes] for quotes in self.blocks],
            "needed": None if self.needed is None else self.needed.to_record(),
            "model": None if self.model is None else self.model.to_record(),
        }


def quote_job(
    records: Records, spec: JobSpec, code: str, *, operator: str, wanted: tuple[Fraction, int] | None = None
) -> JobQuote:
    """Return the quote of a job; nothing is logged, opened or spent.

    Args:
        records: the log and its documents.
        spec: the job's terms.
        code: its code.
        operator: who would submit it.
        wanted: for an SQL job, the accuracy as a share of each value, and rows of the cell that it is wanted for.

    Raises:
        QueryError, ProgramError: the code is not in the language.
    """
    agreement = agreement_of(records, spec.agreement).agreement
    query, isolation = check_code(records, spec, code)
    reads: Reads = spec.reads if query is None else query.reads
    descriptions = check_reads(records, spec, reads)
    now = records.clock.now()
    decision = decide(decision_request(spec, agreement, descriptions, reads, isolation, operator=operator, at=now))
    accounts = tuple(
        account_line(records, account, spec.loss)
        for d in descriptions
        for account in (
            agreement_account(agreement.agreement, d.dataset),
            *(dataset_account(d.dataset, kind) for kind in d.unit_kinds),
        )
    )
    question, needed = None, None
    if query is not None:
        profile = None if query.joined is not None else profile_of(records, query.dataset)
        question = quote_plan(plan_query(query, spec.loss), profile)
        question = replace(question, notes=(*question.notes, *proposals(query, spec.loss, profile)))
        if wanted is not None:
            needed = NeededLoss(*wanted, least_loss(query, *wanted, spec.loss.delta))
    epsilon, delta = people_loss(spec.loss)
    blocks = _quote_blocks(records, spec, code, descriptions) if spec.kind is JobKind.PYTHON else ()
    model = None
    if spec.kind is JobKind.MODEL:
        plan = model_plan(spec, code, tables_of(records))
        model = quote_model(plan, spec.loss, profile_of(records, plan.reads[0]))
    return JobQuote(spec.loss, epsilon, delta, reads, decision, accounts, question, blocks, needed, model)


def _quote_blocks(
    records: Records, spec: JobSpec, code: str, descriptions: tuple[DatasetDescription, ...]
) -> tuple[tuple[QuotedBlocks, ...], ...]:
    """Return what is known of a program's questions to blocks; one that would be refused is left out."""
    tables = {description.table: description for description in descriptions}
    quotes = []
    for request in records.guests().check(code):
        with contextlib.suppress(SaggarError):
            # A program that names no share spends half of what is left; here, of all.
            share = parse_exact("1/2" if request["share"] is None else request["share"])
            question = blocks_question(request, tables, spec.reads, spec.loss.scaled(share).on_grid())
            quotes.append(quote_blocks(question, tables))
    return tuple(quotes)


def account_line(records: Records, account: str, asked: PrivacyLoss) -> AccountLine:
    """Return an account as it stands; an account that does not exist has nothing."""
    known = records.state().accounts.get(account)
    if known is None:
        return AccountLine(account, NO_LOSS, NO_LOSS, asked)
    return AccountLine(account, known.limit, known.limit.minus(known.posted + known.pending), asked)
