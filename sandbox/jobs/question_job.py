"""One question without a job file: what `--sql` and a notebook cell stand for."""

from __future__ import annotations

from sandbox.errors import InputError
from sandbox.jobs.engine import Records
from sandbox.jobs.registry import agreement_of
from sandbox.model.job import JobKind
from sandbox.model.load_job import EpsilonDelta, JobFile


def question_job(records: Records, epsilon: str | None, delta: str, agreement: str | None, rows: int | None) -> JobFile:
    """Return the job file of one question: the only agreement, its first product and its first purpose.

    Raises:
        InputError: no loss is named, or there are several agreements and none is named.
    """
    if epsilon is None:
        raise InputError("a question needs a loss", hint="add for example `--epsilon 0.5`", code="input.usage")
    names = sorted(records.state().agreements)
    if agreement is None and len(names) != 1:
        raise InputError(
            "a question needs an agreement",
            hint=f"name one with --agreement; registered: {', '.join(names) or 'none'}",
            code="input.usage",
        )
    terms = agreement_of(records, agreement or names[0]).agreement
    return one_question(epsilon, delta, rows, terms=(terms.agreement, terms.products[0], terms.purposes[0]))


def one_question(epsilon: str, delta: str, rows: int | None, *, terms: tuple[str, str, str]) -> JobFile:
    """Return the job file of one question; `terms` are its agreement, product and purpose."""
    agreement, product, purpose = terms
    return JobFile(
        name="question",
        kind=JobKind.SQL,
        code="question.sql",
        agreement=agreement,
        product=product,
        purpose=purpose,
        loss=EpsilonDelta(epsilon, delta),
        reads=(),
        outputs=(),
        rows=rows,
        groups=None,
        parameters=(),
        nonce="",
    )
