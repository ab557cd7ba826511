"""Replay level 3: the answers from the sealed part, and the release from the answers.

For each settled job, in this order:
1. the submitter's signature holds over the spec whose digest is the job;
2. each recorded question gives the recorded plan, and the losses add to what was posted;
3. each answer is the sealed exact integers plus sealed noise, and the noise fits its mechanism;
4. the program or the model, run again on the recorded answers with the recorded seed, hands over the recorded outputs,
   and a model that refused for want of rows refuses again;
5. the outputs are what the permit let pass and what the release says, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.crypto.envelope import open_sealed
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import verify_signature
from sandbox.errors import BoundError, SaggarError
from sandbox.jobs.blocks import blocks_question
from sandbox.jobs.gate import check_permit, gate_outputs
from sandbox.jobs.measuring import program_seed
from sandbox.jobs.models import learn_again
from sandbox.jobs.questions import loss_of_request, question_of
from sandbox.jobs.replay_bundle import Bundle, mismatch
from sandbox.jobs.replay_decision import tables_for
from sandbox.model.blocks_question import BlocksQuestion
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes, parse_canonical
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import digest_of_record, short
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.job import SIGNING_CONTEXT, JobKind, JobSpec
from sandbox.model.keys import Role, Signature, decode_base64
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.model.release import Release
from sandbox.model.transcript import SEALING_CONTEXT, Exchange, Transcript, parse_secret
from sandbox.privacy.blocks import plan_blocks
from sandbox.privacy.blocks_measure import verify_blocks
from sandbox.privacy.check import check_question
from sandbox.privacy.measure import verify_measured
from sandbox.privacy.plan import plan_query
from sandbox.runtime.host.guests import GuestHost, Program

Guests = Callable[[], GuestHost]


def replay_transcript(
    bundle: Bundle, settled: Entry, auditor: PrivateKey, guests: Guests | None
) -> list[tuple[str, str]]:
    """Return `(subject, verdict)` for a settled job whose record holds.

    Raises:
        ReplayMismatchError: a numbered step does not hold; `details["place"]` names the document.
    """
    job = settled.body["job"]
    subject = f"job {short(job)}"
    spec = _spec(bundle, job)
    transcript = Transcript.parse(bundle.document(settled.body["transcript"]))
    if transcript.job != job or transcript.code != spec.code or transcript.seed != program_seed(transcript.job).hex():
        raise mismatch(subject, "the transcript is another job's")
    _replay_answers(bundle, settled, spec, transcript, _open(bundle, transcript, auditor, subject), subject)
    verdicts = [(subject, f"{len(transcript.exchanges)} answers are exact integers plus noise that fits")]
    if spec.kind is JobKind.MODEL:
        verdicts += _learn_again(bundle, settled, spec, transcript, subject)
    if settled.body["release"] is None:
        return [*verdicts, (subject, f"ended without a release (`{settled.body['code']}`)")]
    if spec.kind is JobKind.PYTHON:
        _rerun(bundle, spec, transcript, guests, subject)
        verdicts.append((subject, "the program, run again on the recorded answers, hands over the same bytes"))
    _replay_release(bundle, settled, spec, transcript, subject)
    return [*verdicts, (subject, "the release is those outputs, let pass by a signed permit")]


def _spec(bundle: Bundle, job: str) -> JobSpec:
    raw = bundle.document(job)
    spec = JobSpec.parse(parse_canonical(raw))
    submitted = _entry(bundle, EntryKind.JOB_SUBMITTED, job)
    signer = next((key for key in bundle.key(Role.OPERATOR) if key.key_id == submitted.actor), None)
    if signer is None:
        raise mismatch(f"log entry {submitted.seq}", "the job's submitter is not a trusted operator")
    signature = Signature(signer.key_id, decode_base64(submitted.body["signature"]))
    verify_signature(signer, SIGNING_CONTEXT, canonical_bytes(spec.to_record()), signature)
    return spec


def _open(bundle: Bundle, transcript: Transcript, auditor: PrivateKey, subject: str) -> list[dict[str, Any]]:
    sealed = transcript.sealed.get(auditor.public.key_id)
    if sealed is None:
        raise mismatch(subject, f"nothing of {subject} is sealed to key `{auditor.public.key_id}`")
    secret = open_sealed(auditor, bundle.document(sealed), f"{SEALING_CONTEXT}/{transcript.job}")
    questions: list[dict[str, Any]] = parse_secret(secret)["questions"]
    return questions


def _replay_answers(
    bundle: Bundle,
    settled: Entry,
    spec: JobSpec,
    transcript: Transcript,
    sealed: list[dict[str, Any]],
    subject: str,
) -> None:
    tables = tables_for(bundle, spec)
    if len(sealed) != len(transcript.exchanges):
        raise mismatch(subject, "the sealed part has another number of questions than the transcript")
    _check_logged(bundle, settled, transcript, subject)
    total = NO_LOSS
    for exchange, secret in zip(transcript.exchanges, sealed, strict=True):
        total += _replay_answer(exchange, secret, tables, subject)
    if settled.body["release"] is not None and total.to_record() != settled.body["posted"]:
        raise mismatch(f"log entry {settled.seq}", "the answers cost another loss than was posted")


def _check_logged(bundle: Bundle, settled: Entry, transcript: Transcript, subject: str) -> None:
    """Raise unless the log has the transcript's questions, and posts what they cost.

    A question that was paid for and then failed (a broken seal) is in the log and has no answer: only in a job that
    failed, and only as its last.
    """
    logged = [e for e in bundle.entries if e.kind is EntryKind.QUESTION_ANSWERED and e.body["job"] == transcript.job]
    asked = [digest_of_record(exchange.question.to_record()) for exchange in transcript.exchanges]
    unanswered = len(logged) - len(asked)
    if [entry.body["question"] for entry in logged][: len(asked)] != asked or not 0 <= unanswered <= 1:
        raise mismatch(subject, "the log has other questions than the transcript")
    if unanswered and settled.body["release"] is not None:
        raise mismatch(subject, "a released job has a question without an answer")
    total = NO_LOSS
    for entry in logged:
        total += PrivacyLoss.parse(entry.body["loss"])
    if total.to_record() != settled.body["posted"]:
        raise mismatch(f"log entry {settled.seq}", "the questions in the log cost another loss than was posted")


def _replay_answer(
    exchange: Exchange, secret: dict[str, Any], tables: dict[str, DatasetDescription], subject: str
) -> PrivacyLoss:
    """Return what an answer cost, once its plan, its integers and its noise hold."""
    question = exchange.question
    if isinstance(question, BlocksQuestion):
        blocks_plan = plan_blocks(question, tables)
        _check_plan(blocks_plan.digest(), exchange, subject)
        verify_blocks(blocks_plan, exchange.answer, secret)
        return blocks_plan.loss
    plan = plan_query(check_question(question, tables), question.loss)
    _check_plan(plan.digest(), exchange, subject)
    verify_measured(plan, exchange.answer, secret)
    return plan.loss


def _check_plan(digest: str, exchange: Exchange, subject: str) -> None:
    if digest != exchange.plan:
        raise mismatch(subject, "a recorded question gives another plan than the recorded one")


def _rerun(bundle: Bundle, spec: JobSpec, transcript: Transcript, guests: Guests | None, subject: str) -> None:
    if guests is None:
        raise mismatch(subject, "a program can only be run again behind walls, and none were offered")
    source = bundle.document(spec.code).decode()
    program = Program(source, dict(spec.parameters), program_seed(transcript.job))
    recorded = _Recorded(spec, transcript, tables_for(bundle, spec))
    lacking = transcript.guest.keys() - guests().report_for(source).versions.keys()
    if lacking:
        named = ", ".join(f"{name} {transcript.guest[name]}" for name in sorted(lacking))
        raise mismatch(subject, f"the program ran with {named}, which this machine does not have to run it again")
    outcome = guests().run(program, recorded.answer)
    if outcome.outputs is None:
        raise mismatch(subject, f"the program does not run again: {outcome.message or outcome.status}")
    if canonical_release_bytes(outcome.outputs) != canonical_release_bytes(transcript.outputs):
        raise mismatch(subject, "the program hands over other outputs than the recorded ones")
    if not recorded.used_up:
        raise mismatch(subject, "the program asks fewer questions than the recorded ones")


def _learn_again(
    bundle: Bundle, settled: Entry, spec: JobSpec, transcript: Transcript, subject: str
) -> list[tuple[str, str]]:
    """Return what holds of a model made again; nothing where the job ended for another reason than the model's own."""
    code, ended = bundle.document(spec.code).decode(), settled.body["code"]
    answered = [(exchange.question, exchange.answer) for exchange in transcript.exchanges]
    if ended is not None and not ended.startswith(BoundError.code):
        return []
    try:
        outputs = learn_again(spec, code, tables_for(bundle, spec), answered, seed=program_seed(transcript.job))
    except BoundError as error:
        if error.code != ended:
            raise mismatch(subject, f"the model refuses the recorded answers: {error.message}") from error
        return [(subject, "the model, made again from the recorded answers, refuses for the same reason")]
    except SaggarError as error:
        raise mismatch(subject, f"the model cannot be made again: {error.message}") from error
    if ended is not None or canonical_release_bytes(outputs) != canonical_release_bytes(transcript.outputs):
        raise mismatch(subject, "the model, made again from the recorded answers, is another than the recorded one")
    return [(subject, "the model, made again from the recorded answers, gives the same bytes")]


class _Recorded:
    """Answers a program from its transcript, in order, refusals included; each question must be the recorded one."""

    def __init__(self, spec: JobSpec, transcript: Transcript, tables: dict[str, DatasetDescription]) -> None:
        self._tables = tables
        self._spec = spec
        self._exchanges: list[Exchange] = list(transcript.exchanges)
        self._refusals = list(transcript.refusals)
        self._answered = 0
        self._remaining = spec.loss

    @property
    def used_up(self) -> bool:
        """Whether everything on record was asked for."""
        return self._answered == len(self._exchanges) and not self._refusals

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the recorded reply to the next request."""
        if self._refusals and self._refusals[0]["after"] == self._answered:
            refusal = self._refusals.pop(0)
            return {"ok": False, **{name: refusal[name] for name in ("code", "message", "hint")}}
        if self._answered < len(self._exchanges):
            exchange = self._exchanges[self._answered]
            if self._is_asked(request, exchange):
                self._answered += 1
                self._remaining = self._remaining.minus(PrivacyLoss.parse(exchange.answer["loss"]))
                return {"ok": True, "answer": exchange.answer}
        return {"ok": False, "code": "job.replay_mismatch", "message": "no such answer on record", "hint": ""}

    def _is_asked(self, request: dict[str, Any], exchange: Exchange) -> bool:
        """Return whether a request stands for the recorded question, loss and bounds included."""
        if request.get("kind") != "blocks":
            return exchange.question == question_of(request, self._spec, self._remaining)
        loss = loss_of_request(request, self._spec, self._remaining)
        return exchange.question == blocks_question(request, self._tables, self._spec.reads, loss)


def _replay_release(bundle: Bundle, settled: Entry, spec: JobSpec, transcript: Transcript, subject: str) -> None:
    release = Release.parse(bundle.document(settled.body["release"]))
    sandbox = next((k for k in bundle.key(Role.SANDBOX) if k.key_id == release.permit.signature.key_id), None)
    if sandbox is None:
        raise mismatch(subject, "the permit is signed by no trusted sandbox key")
    check_permit(
        release.permit,
        job=transcript.job,
        outputs=release.outputs,
        transcript=transcript.digest(),
        key=sandbox,
    )
    gated = gate_outputs(spec, transcript)
    if canonical_release_bytes(gated) != canonical_release_bytes(release.outputs):
        raise mismatch(subject, "the release says other outputs than the gate lets pass")
    if release.loss.to_record() != settled.body["posted"]:
        raise mismatch(subject, "the release says another loss than was posted")


def _entry(bundle: Bundle, kind: EntryKind, job: str) -> Entry:
    for entry in bundle.entries:
        if entry.kind is kind and entry.body["job"] == job:
            return entry
    raise mismatch("log/entries.jsonl", f"job {short(job)} has no `{kind}` entry")
