"""Rehearse: the very job, through check, quote, walls and gate, on rows made up from public facts; nothing is spent.

No sealed column is opened, no key is needed, nothing is logged, nothing is released.  Because the rows are made up, a
rehearsal may say what a job never says: the error of a function over blocks with its line, and how many blocks fell to
their default.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from sandbox.compute.mock_rows import UNITS, mock_rows
from sandbox.compute.order import part_of
from sandbox.compute.run import run_plan
from sandbox.compute.split import split_blocks
from sandbox.errors import GuestFailedError, PolicyError, QueryError, SaggarError
from sandbox.jobs.admit import check_columns
from sandbox.jobs.blocks import block_seed, blocks_question
from sandbox.jobs.engine import Records
from sandbox.jobs.gate import SQL_OUTPUT, gate_outputs
from sandbox.jobs.measuring import program_seed
from sandbox.jobs.models import check_model, learn
from sandbox.jobs.questions import loss_of_request, question_of
from sandbox.jobs.quoting import JobQuote, quote_job
from sandbox.jobs.registry import description_of
from sandbox.model.blocks_question import BlocksQuestion
from sandbox.model.description import DatasetDescription
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.question import Question
from sandbox.model.transcript import Exchange, Transcript
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.blocks import BlocksPlan, plan_blocks
from sandbox.privacy.blocks_measure import BlockVector, measure_blocks
from sandbox.privacy.check import check_question
from sandbox.privacy.joined import Reads
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import NoiseSource
from sandbox.privacy.plan import plan_query
from sandbox.runtime.block_image import BlockJob, ImageColumn, encode_image
from sandbox.runtime.host.guests import GuestHost, Program

MARK: Final = "MOCK 模拟"
BLOCKS_TRIED: Final = 64
_SPLIT_KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Mock:
    """How much of a rehearsal is made up.

    Attributes:
        units: how many made-up units each dataset has.
        blocks: how many blocks of a question are tried at most; the others count with what these gave.
    """

    units: int = UNITS
    blocks: int = BLOCKS_TRIED


@dataclass(frozen=True, slots=True)
class RehearsedBlocks:
    """What came of one question to blocks.

    Attributes:
        asked: how many blocks the question has.
        tried: how many of them were rehearsed.
        defaults: how many of these would count with their default.
        reasons: what went wrong, with the line, and how often; most frequent first.
        milliseconds: what a block is given.
        median_ms, slowest_ms: what blocks took here, the handing over included.
    """

    asked: int
    tried: int
    defaults: int
    reasons: tuple[tuple[str, int], ...]
    milliseconds: int
    median_ms: float
    slowest_ms: float

    def to_record(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "asked": self.asked,
            "tried": self.tried,
            "defaults": self.defaults,
            "reasons": [{"message": message, "blocks": count} for message, count in self.reasons],
            "milliseconds": self.milliseconds,
            "median_ms": round(self.median_ms, 1),
            "slowest_ms": round(self.slowest_ms, 1),
        }


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a job would go.

    Attributes:
        quote: as `saggar quote` gives it; None where there is no log that could say what is allowed.
        outputs: what would leave, made of made-up rows; None where the job would not end well.
        problem: why it would not, one sentence; empty otherwise.
        questions: how many answers it got.
        refusals: code, message and hint of each question that was refused.
        blocks: one item a question to blocks.
    """

    quote: JobQuote | None
    outputs: dict[str, Any] | None
    problem: str
    questions: int
    refusals: tuple[dict[str, Any], ...]
    blocks: tuple[RehearsedBlocks, ...]

    def to_record(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "mock": MARK,
            "quote": None if self.quote is None else self.quote.to_record(),
            "outputs": self.outputs,
            "problem": self.problem,
            "questions": self.questions,
            "refusals": list(self.refusals),
            "blocks": [blocks.to_record() for blocks in self.blocks],
        }


def rehearse_job(
    records: Records, spec: JobSpec, code: str, *, operator: str, noise: NoiseSource, mock: Mock = Mock()
) -> Rehearsal:
    """Return how a job would go; nothing is logged, opened or spent.

    Args:
        records: the log and its documents, and the walls.
        spec: the job's terms.
        code: its code.
        operator: who would submit it.
        noise: draws the noise of the made-up answers.
        mock: how much is made up.

    Raises:
        QueryError, ProgramError: the code is not in the language.
    """
    quote = quote_job(records, spec, code, operator=operator)
    described = {dataset: description_of(records, dataset) for dataset, _ in quote.reads}
    return _rehearsed(_Stage(records.guests, spec, quote.reads, described, noise, mock), code, quote)


def rehearse_described(
    guests: Callable[[], GuestHost],
    descriptions: Sequence[DatasetDescription],
    spec: JobSpec,
    code: str,
    *,
    noise: NoiseSource,
    mock: Mock = Mock(),
) -> Rehearsal:
    """Return how a job would go on datasets of which there are descriptions and nothing else: no log, no agreement.

    Args:
        guests: the walls.
        descriptions: of every dataset that the job reads.
        spec: the job's terms (`spec_of`).
        code: its code.
        noise: draws the noise of the made-up answers.
        mock: how much is made up.

    Raises:
        QueryError, ProgramError: the code is not in the language, or reads what is not described.
        BoundError: the loss cannot pay for the question.
    """
    described = {description.dataset: description for description in descriptions}
    reads = _checked_reads(guests, {description.table: description for description in descriptions}, spec, code)
    for dataset, columns in reads:
        if dataset not in described:
            raise QueryError(
                f"the job reads dataset `{dataset}`, of which no description was given",
                hint="add it with `--description FILE`",
                code="input.query.not_described",
            )
        check_columns(described[dataset], columns)
    return _rehearsed(_Stage(guests, spec, reads, described, noise, mock), code, None)


def _checked_reads(
    guests: Callable[[], GuestHost], tables: Mapping[str, DatasetDescription], spec: JobSpec, code: str
) -> Reads:
    """Return the columns that checked code asks for."""
    if spec.kind is JobKind.SQL:
        query = check_question(Question(code, spec.loss, spec.rows, spec.groups), tables)
        plan_query(query, spec.loss)
        return query.reads
    if spec.kind is JobKind.MODEL:
        check_model(spec, code, tables)
    else:
        guests().check(code)
    return spec.reads


def _rehearsed(stage: _Stage, code: str, quote: JobQuote | None) -> Rehearsal:
    spec, problem, outputs = stage.spec, "", None
    try:
        transcript = _transcript(spec, stage, _run(spec, code, stage))
        outputs = gate_outputs(spec, transcript)
    except SaggarError as error:
        problem = f"{error.message}; {error.hint}" if error.hint else error.message
    return Rehearsal(quote, outputs, problem, len(stage.exchanges), tuple(stage.refusals), tuple(stage.blocks))


def _run(spec: JobSpec, code: str, stage: _Stage) -> dict[str, Any]:
    if spec.kind is JobKind.SQL:
        return {SQL_OUTPUT: {"kind": "answer", **stage.answer(Question(code, spec.loss, spec.rows, spec.groups))}}
    if spec.kind is JobKind.MODEL:
        return learn(spec, code, stage.tables(), stage, seed=program_seed(spec.digest()))
    program = Program(code, dict(spec.parameters), program_seed(spec.digest()))
    outcome = stage.guests().run(program, stage.answer_request)
    if outcome.status != "ok" or outcome.outputs is None:
        raise GuestFailedError(
            f"the program would end without outputs: {outcome.message or outcome.status}",
            hint="mend it and rehearse again",
        )
    return outcome.outputs


def _transcript(spec: JobSpec, stage: _Stage, outputs: dict[str, Any]) -> Transcript:
    job = spec.digest()
    seed = program_seed(job).hex()
    return Transcript(job, spec.code, seed, tuple(stage.exchanges), tuple(stage.refusals), outputs, {}, {})


@dataclass(slots=True)
class _Stage:
    """Answers a job's questions from made-up rows, by the rules by which the real ones are answered."""

    guests: Callable[[], GuestHost]
    spec: JobSpec
    reads: Reads
    described: Mapping[str, DatasetDescription]
    noise: NoiseSource
    mock: Mock
    exchanges: list[Exchange] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[RehearsedBlocks] = field(default_factory=list)
    _filter: JobFilter | None = None
    _rows: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def account(self) -> JobFilter:
        """The job's own account; the ledger's are not touched."""
        if self._filter is None:
            self._filter = JobFilter(self.spec.loss)
        return self._filter

    def answer_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a program's request, as the wire carries it."""
        try:
            remaining = self.account.remaining
            if request.get("kind") != "blocks":
                return {"ok": True, "answer": self.answer(question_of(request, self.spec, remaining))}
            loss = loss_of_request(request, self.spec, remaining)
            return {
                "ok": True,
                "answer": self.answer_blocks(blocks_question(request, self.tables(), self.reads, loss)),
            }
        except SaggarError as error:
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            self.refusals.append({"after": len(self.exchanges), **refusal})
            return {"ok": False, **refusal}

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the made-up answer to a question in SQL."""
        query = check_question(question, self.tables())
        for dataset, columns in query.reads:
            self._check_declared(dataset, columns)
        plan = plan_query(query, question.loss)
        self.account.request(plan.loss)
        # Made-up units are numbered from 1 in every dataset, so those of a join meet.
        rows = part_of([self._mock(dataset) for dataset in plan.datasets])
        measured = measure(plan, run_plan(plan, [rows]), self.noise)
        record = measured.answer.to_record()
        self.exchanges.append(Exchange(question, plan.digest(), record))
        return record

    def answer_blocks(self, question: BlocksQuestion) -> dict[str, Any]:
        """Return the made-up answer to a question to blocks, and keep what each block did."""
        plan = plan_blocks(question, self.tables())
        self._check_declared(plan.dataset, question.columns)
        self.guests().check(question.program, entry="block")
        self.account.request(plan.loss)
        vectors = self._try_blocks(plan)
        repeated = [vectors[number % len(vectors)] for number in range(question.blocks)]
        record = measure_blocks(plan, repeated, self.noise, split="00").answer.to_record()
        self.exchanges.append(Exchange(question, plan.digest(), record))
        return record

    def _try_blocks(self, plan: BlocksPlan) -> list[BlockVector]:
        question, guests = plan.question, self.guests()
        names = tuple(output.name for output in question.outputs)
        seed = block_seed(program_seed(self.spec.digest()), len(self.exchanges)).hex()
        job = BlockJob(question.program, json.loads(question.parameters), names, seed)
        table = split_blocks([self._mock(plan.dataset)], plan.columns, blocks=question.blocks, key=_SPLIT_KEY)
        vectors: list[BlockVector] = []
        told: dict[str, int] = {}
        times = []
        for number in range(min(question.blocks, self.mock.blocks)):
            rows, columns = table.block(number)
            image = encode_image(job, rows, [ImageColumn(c.name, c.kind, c.values) for c in columns])
            tried = guests.rehearse_block(question.program, image, wall_s=question.milliseconds / 1000)
            vectors.append(tried.numbers)
            times.append(tried.took_s * 1000)
            reason = tried.reason or _outside(plan, tried.numbers)
            if reason:
                told[reason] = told.get(reason, 0) + 1
        reasons = tuple(sorted(told.items(), key=lambda item: -item[1]))
        median, slowest = statistics.median(times), max(times)
        self.blocks.append(
            RehearsedBlocks(
                question.blocks, len(vectors), sum(told.values()), reasons, question.milliseconds, median, slowest
            )
        )
        return vectors

    def tables(self) -> dict[str, DatasetDescription]:
        """Return the descriptions of what the job reads, by table."""
        described = [self.described[dataset] for dataset, _ in self.reads]
        return {description.table: description for description in described}

    def _mock(self, dataset: str) -> pa.Table:
        if dataset not in self._rows:
            self._rows[dataset] = mock_rows(self.described[dataset], units=self.mock.units)
        return self._rows[dataset]

    def _check_declared(self, dataset: str, columns: tuple[str, ...]) -> None:
        declared = dict(self.reads).get(dataset, ())
        outside = [column for column in columns if column not in declared]
        if outside:
            raise PolicyError(
                f"column `{outside[0]}` is not among the columns this job declared",
                hint="declare it under `reads` in the job file and submit again",
                code="policy.columns_not_declared",
            )


def _outside(plan: BlocksPlan, vector: BlockVector) -> str:
    """Return which number of a block that ended well lies outside its bounds, or an empty text."""
    if vector is None:
        return ""
    for output, number in zip(plan.question.outputs, vector, strict=True):
        if not output.lower <= number <= output.upper:
            return f"`{output.name}` lies outside its bounds {float(output.lower):g} to {float(output.upper):g}"
    return ""
