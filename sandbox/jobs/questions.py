"""Answering questions: the one place where sealed columns meet the privacy engine."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

from sandbox.compute.run import run_plan
from sandbox.errors import PolicyError, QueryError, SaggarError
from sandbox.jobs.engine import Engine
from sandbox.jobs.registry import profile_of
from sandbox.jobs.stages import Reserved
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import digest_of_record
from sandbox.model.entry import EntryKind
from sandbox.model.exact import parse_exact
from sandbox.model.job import JobSpec
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.model.transcript import Exchange
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.check import check_question
from sandbox.privacy.measure import measure
from sandbox.privacy.plan import plan_query
from sandbox.privacy.query import CheckedQuery
from sandbox.vault.columns import SYSTEM_COLUMNS
from sandbox.vault.opened import OpenedSnapshot


class Questioner:
    """Answers the questions of one job over its opened columns, within its reservation.

    Every question is first checked against public facts only, then paid for (filter and log), and only then asked of
    the data: a refusal costs nothing and tells nothing, and whatever touches data was paid before.
    """

    def __init__(self, engine: Engine, reserved: Reserved) -> None:
        self._engine = engine
        self._reserved = reserved
        self._opened: dict[str, OpenedSnapshot] = {}
        self._spec = reserved.admitted.submitted.spec
        self._tables: dict[str, DatasetDescription] = {d.table: d for d in reserved.admitted.descriptions}
        self._filter = JobFilter(self._spec.loss)
        self._lock = threading.Lock()
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
            self._check_admitted(query)
            plan = plan_query(query, question.loss)
            self._filter.request(plan.loss)
            body = {
                "job": self._reserved.admitted.submitted.job,
                "index": len(self.exchanges),
                "question": digest_of_record(question.to_record()),
                "loss": plan.loss.to_record(),
            }
            self._engine.append(EntryKind.QUESTION_ANSWERED, body, at=self._reserved.at)
            tables = self._opened[query.dataset].partitions((*SYSTEM_COLUMNS, *plan.columns), dictionaries=True)
            partials = run_plan(plan, tables, threads=self._engine.threads)
            profile = profile_of(self._engine, query.dataset)
            measured = measure(plan, partials, self._engine.noise, profile=profile)
            record = measured.answer.to_record()
            self.exchanges.append(Exchange(question, plan.digest(), record))
            self.sealed.append(measured.sealed)
            return record

    def answer_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a program's request, as the wire carries it."""
        try:
            return {"ok": True, "answer": self.answer(question_of(request, self._spec, self._filter.remaining))}
        except SaggarError as error:
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            self.refusals.append({"after": len(self.exchanges), **refusal})
            return {"ok": False, **refusal}

    def _check_admitted(self, query: CheckedQuery) -> None:
        admitted = dict(self._reserved.admitted.reads).get(query.dataset)
        if admitted is None or query.dataset not in self._opened:
            raise QueryError(
                f"this job may not read dataset `{query.dataset}`",
                hint="declare it under `reads` in the job file",
                code="input.query.not_declared",
            )
        outside = [column for column in query.columns if column not in admitted]
        if outside:
            raise PolicyError(
                f"column `{outside[0]}` is not among the columns this job declared",
                hint="declare it under `reads` in the job file and submit again",
                code="policy.columns_not_declared",
            )


def question_of(request: dict[str, Any], spec: JobSpec, remaining: PrivacyLoss) -> Question:
    """Return the question that a program's request stands for; a pure function, so that an auditor can do it again.

    A request that names no share gets half of what remains, so that a program that never names one never runs dry.

    Args:
        request: `sql`, and where given `share`, `rows`, `groups`.
        spec: the job.
        remaining: what the job has left.

    Raises:
        ExactError: the share is not an exact amount between 0 and 1.
    """
    share, rows, groups = request.get("share"), request.get("rows"), request.get("groups")
    if share is not None:
        portion = parse_exact(share)
    else:
        portion = remaining.rho / spec.loss.rho / 2 if spec.loss.rho else Fraction(0)
    return Question(
        str(request["sql"]),
        spec.loss.scaled(portion),
        spec.rows if rows is None else rows,
        spec.groups if groups is None else groups,
    )
