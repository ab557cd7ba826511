"""Specify: a job file and its code become the spec that the submitter signs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from sandbox.errors import ExactError, SaggarError
from sandbox.jobs.engine import Records
from sandbox.jobs.models import model_plan
from sandbox.jobs.registry import snapshot_of, tables_of
from sandbox.model.digest import digest_of
from sandbox.model.exact import parse_exact
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.load_job import JobFile
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.privacy.accounting import loss_from_epsilon
from sandbox.privacy.check import check_question
from sandbox.privacy.models.planning import Tables


def specify(records: Records, job: JobFile, code: str, *, nonce: str | None = None) -> JobSpec:
    """Return the spec of a job file as things stand: current snapshots, exact loss."""
    tables = {} if job.kind is JobKind.PYTHON else tables_of(records)
    spec = spec_of(job, code, tables, nonce=nonce)
    datasets = _datasets(spec, code, tables)
    return replace(spec, snapshots=tuple((name, snapshot_of(records, name)) for name in datasets))


def spec_of(job: JobFile, code: str, tables: Tables, *, nonce: str | None = None) -> JobSpec:
    """Return the spec of a job file, on no snapshots yet.

    Args:
        job: the file.
        code: its code.
        tables: the descriptions by table; a program's job needs none.
        nonce: in place of the file's own.
    """
    spec = JobSpec(
        name=job.name,
        kind=job.kind,
        code=digest_of(code.encode()),
        agreement=job.agreement,
        product=job.product,
        purpose=job.purpose,
        reads=job.reads,
        snapshots=(),
        loss=loss_of(job),
        rows=job.rows,
        groups=job.groups,
        outputs=job.outputs,
        parameters=job.parameters,
        nonce=job.nonce if nonce is None else nonce,
    )
    return _declared(spec, code, tables) if spec.kind is JobKind.MODEL else spec


def loss_of(job: JobFile) -> PrivacyLoss:
    """Return the exact loss a job file asks for, from rho and delta or from epsilon and delta."""
    if isinstance(job.loss, PrivacyLoss):
        loss = job.loss
    else:
        loss = loss_from_epsilon(parse_exact(job.loss.epsilon), parse_exact(job.loss.delta))
    try:
        return PrivacyLoss.parse(loss.on_grid().to_record())
    except ExactError as error:
        raise ExactError(
            "the job's loss is larger or finer than an account can hold",
            hint="ask for a loss such as `rho: 0.01`, or `epsilon: 0.5` with `delta: 1e-7`",
        ) from error


def _declared(spec: JobSpec, code: str, tables: Tables) -> JobSpec:
    """Return the spec of a model job with what its questions read and what it lets out."""
    with suppress(SaggarError):  # It is refused at admission, with its reason, and the refusal is logged.
        plan = model_plan(spec, code, tables)
        return replace(spec, reads=(plan.reads,), outputs=plan.outputs)
    return spec


def _datasets(spec: JobSpec, code: str, tables: Tables) -> list[str]:
    if spec.kind is not JobKind.SQL:
        return [dataset for dataset, _ in spec.reads]
    try:
        query = check_question(Question(code, spec.loss, spec.rows, spec.groups), tables)
        return [dataset for dataset, _ in query.reads]
    except SaggarError:
        return []  # It is refused at admission, with its reason, and the refusal is logged.
