"""Answering questions: the one place where sealed columns meet the privacy engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from sandbox.compute.sealed import SealedTables
from sandbox.errors import CancelledError, PolicyError, QueryError, SaggarError
from sandbox.jobs.blocks import answer_blocks, block_seed, blocks_question, check_pace
from sandbox.jobs.engine import Computing, Engine
from sandbox.jobs.registry import profile_of
from sandbox.jobs.stages import Reserved
from sandbox.model.blocks_question import BlocksQuestion
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.entry import EntryKind
from sandbox.model.exact import parse_exact
from sandbox.model.job import JobSpec
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.model.transcript import AnyQuestion, Exchange
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.blocks import plan_blocks
from sandbox.privacy.blocks_measure import MeasuredBlocks
from sandbox.privacy.check import check_question
from sandbox.privacy.measure import Measured, measure
from sandbox.privacy.plan import Plan, plan_query
from sandbox.privacy.query import CheckedQuery
from sandbox.vault.opened import OpenedSnapshot


class Questioner:
    """Answers the questions of one job over its opened columns, within its reservation.

    Every question is first checked against public facts only, then paid for (filter and log), and only then asked of
    the data: a refusal costs nothing and tells nothing, and whatever touches data was paid before.
    """

    def __init__(
        self,
        engine: Engine,
        reserved: Reserved,
        computing: Computing,
        *,
        seed: bytes,
        cancel: threading.Event | None = None,
    ) -> None:
        self._engine = engine
        self._computing = computing
        self._seed = seed
        self._cancel = cancel
        self._reserved = reserved
        self._opened: dict[str, OpenedSnapshot] = {}
        self._spec = reserved.admitted.submitted.spec
        self._tables: dict[str, DatasetDescription] = {d.table: d for d in reserved.admitted.descriptions}
        self._filter = JobFilter(self._spec.loss)
        self._lock = threading.Lock()
        self._failed: SaggarError | None = None
        self.exchanges: list[Exchange] = []
        self.sealed: list[dict[str, Any]] = []
        self.refusals: list[dict[str, Any]] = []

    def hand(self, dataset: str, snapshot: OpenedSnapshot) -> None:
        """Hand over a dataset's opened columns."""
        self._opened[dataset] = snapshot

    @property
    def spent(self) -> PrivacyLoss:
        """The loss of the answers given so far."""
        return self._filter.spent

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the released answer's record.

        Raises:
            SaggarError: the question is refused, on public facts and released answers alone.
        """
        with self._lock:
            query = check_question(question, self._tables)
            for dataset, columns in query.reads:
                self._check_admitted(dataset, columns)
            plan = plan_query(query, question.loss)
            self._charge(question, plan.loss)
            with self._paid():
                measured = self._measure(query, plan)
            return self._keep(question, plan.digest(), measured)

    def answer_blocks(self, question: BlocksQuestion) -> dict[str, Any]:
        """Return the released answer's record of a question to blocks.

        Raises:
            SaggarError: the question is refused, on public facts and released answers alone.
        """
        with self._lock:
            plan = plan_blocks(question, self._tables)
            self._check_admitted(plan.dataset, question.columns)
            self._engine.guests().check(question.program, entry="block")
            check_pace(self._engine, plan)
            self._charge(question, plan.loss)
            seed = block_seed(self._seed, len(self.exchanges))
            with self._paid():
                measured = answer_blocks(self._engine, plan, self._opened[plan.dataset], seed=seed, cancel=self._cancel)
            return self._keep(question, plan.digest(), measured)

    def _charge(self, question: AnyQuestion, loss: PrivacyLoss) -> None:
        """Pay for a question, in the filter and durably in the log, before any data is asked."""
        self._check_cancelled()
        self._filter.request(loss)
        body = {
            "job": self._reserved.admitted.submitted.job,
            "index": len(self.exchanges),
            "question": digest_of_record(question.to_record()),
            "loss": loss.to_record(),
        }
        self._engine.append(EntryKind.QUESTION_ANSWERED, body, at=self._reserved.at)

    @contextmanager
    def _paid(self) -> Iterator[None]:
        """End the job where a question fails that was paid for: whether data can be measured is no refusal.

        A program that heard of it could go on with an answer that has no noise, and the log would count a question
        more than the transcript has; so it is the last one of a job that failed.
        """
        try:
            yield
        except SaggarError as error:
            self._failed = error
            raise

    def _measure(self, query: CheckedQuery, plan: Plan) -> Measured:
        parts = SealedTables.of(plan, self._opened)
        partials = self._computing.map_partitions(plan, parts, cancel=self._cancel)
        profile = None if plan.joined is not None else profile_of(self._engine, query.dataset)
        return measure(plan, partials, self._engine.noise, profile=profile)

    def _keep(self, question: AnyQuestion, plan: Digest, measured: Measured | MeasuredBlocks) -> dict[str, Any]:
        record = measured.answer.to_record()
        self.exchanges.append(Exchange(question, plan, record))
        self.sealed.append(measured.sealed)
        return record

    def _check_cancelled(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise CancelledError("the job was cancelled", hint="what it had been answered is spent")

    def answer_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a program's request, as the wire carries it.

        Raises:
            SaggarError: the job was cancelled, or a question failed that was paid for; the job ends with it.
        """
        try:
            remaining = self._filter.remaining
            if request.get("kind") == "blocks":
                loss = loss_of_request(request, self._spec, remaining)
                asked = blocks_question(request, self._tables, self._reserved.admitted.reads, loss)
                return {"ok": True, "answer": self.answer_blocks(asked)}
            return {"ok": True, "answer": self.answer(question_of(request, self._spec, remaining))}
        except CancelledError:
            raise
        except SaggarError as error:
            if error is self._failed:
                raise
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            self.refusals.append({"after": len(self.exchanges), **refusal})
            return {"ok": False, **refusal}

    def _check_admitted(self, dataset: str, columns: tuple[str, ...]) -> None:
        admitted = dict(self._reserved.admitted.reads).get(dataset)
        if admitted is None or dataset not in self._opened:
            raise QueryError(
                f"this job may not read dataset `{dataset}`",
                hint="declare it under `reads` in the job file",
                code="input.query.not_declared",
            )
        outside = [column for column in columns if column not in admitted]
        if outside:
            raise PolicyError(
                f"column `{outside[0]}` is not among the columns this job declared",
                hint="declare it under `reads` in the job file and submit again",
                code="policy.columns_not_declared",
            )


def question_of(request: dict[str, Any], spec: JobSpec, remaining: PrivacyLoss) -> Question:
    """Return the question that a program's request stands for; a pure function, so that an auditor can do it again.

    Args:
        request: `sql`, and where given `share`, `rows`, `groups`.
        spec: the job.
        remaining: what the job has left.

    Raises:
        ExactError: the share is not an exact amount between 0 and 1.
    """
    rows, groups = request.get("rows"), request.get("groups")
    return Question(
        str(request["sql"]),
        loss_of_request(request, spec, remaining),
        spec.rows if rows is None else rows,
        spec.groups if groups is None else groups,
    )


def loss_of_request(request: dict[str, Any], spec: JobSpec, remaining: PrivacyLoss) -> PrivacyLoss:
    """Return the loss that a request may spend: its share of the job's.

    A request that names no share gets half of what remains, so that a program that never names one never runs dry.
    """
    share = request.get("share")
    if share is not None:
        portion = parse_exact(share)
    else:
        portion = remaining.rho / spec.loss.rho / 2 if spec.loss.rho else Fraction(0)
    return spec.loss.scaled(portion).on_grid()
