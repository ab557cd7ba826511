"""Submit: whose job it is, and that it is whole."""

from __future__ import annotations

from contextlib import suppress

from sandbox.crypto.signing import verify_signature
from sandbox.errors import AuthenticationError, InputError, JobError, SaggarError
from sandbox.jobs.engine import Engine
from sandbox.jobs.limits import check_room
from sandbox.jobs.registry import agreement_of
from sandbox.jobs.stages import SignedJob, Submitted
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import digest_of, short
from sandbox.model.entry import EntryKind
from sandbox.model.job import SIGNING_CONTEXT, JobKind, JobState
from sandbox.model.keys import PublicKey, Role


def submit(engine: Engine, signed: SignedJob) -> Submitted:
    """Return the job once its signature holds and the log has it.

    Raises:
        AuthenticationError: the signer is not a registered operator.
        SignatureError: the signature is wrong.
        InputError: the code is not the code that was signed.
        PolicyError: the agreement is unknown.
        JobError: this very job ended before without a release.
        LimitExceededError: as many jobs of this operator are under way as may be.
    """
    spec, code = signed.spec, signed.code.encode()
    signer = check_submitter(engine, signed)
    if digest_of(code) != spec.code:
        raise InputError("the code is not the code that was signed", hint="sign again after changing the code")
    agreement_of(engine, spec.agreement)
    _check_new(engine, signed)
    check_room(engine, signer.key_id)
    if spec.kind is JobKind.PYTHON:
        with suppress(SaggarError):  # `admit` meets it again, and logs it
            engine.guests().begin_check(signed.code)
    engine.documents.put_all(code, canonical_bytes(spec.to_record()))
    job = spec.digest()
    body = {
        "job": job,
        "kind": spec.kind.value,
        "name": spec.name,
        "agreement": spec.agreement,
        "product": spec.product,
        "purpose": spec.purpose,
        "code": spec.code,
        "submitter": signer.key_id,
        "signature": signed.signature.to_record()["value"],
    }
    engine.append(EntryKind.JOB_SUBMITTED, body, actor=signer.key_id)
    return Submitted(job, spec, signed.code)


def check_submitter(engine: Engine, signed: SignedJob) -> PublicKey:
    """Return the registered operator's key whose signature the job carries.

    Raises:
        AuthenticationError: the signer is not a registered operator.
        SignatureError: the signature is wrong.
    """
    signer = engine.state().keys.get(signed.signature.key_id)
    if signer is None or signer.role is not Role.OPERATOR:
        raise AuthenticationError(
            f"key `{signed.signature.key_id}` is not a registered operator's",
            hint="register the operator's public key with `saggar keys add`, or sign with `--as NAME`",
            code="service.authentication.unknown_key",
        )
    verify_signature(signer, SIGNING_CONTEXT, canonical_bytes(signed.spec.to_record()), signed.signature)
    return signer


def _check_new(engine: Engine, signed: SignedJob) -> None:
    known = engine.state().jobs.get(signed.spec.digest())
    if known is None:
        return
    ended = known.state in (JobState.REFUSED, JobState.FAILED, JobState.RECOVERED)
    raise JobError(
        f"job {short(signed.spec.digest())} is already in the log as `{known.state}`",
        hint="to ask again (and pay again), submit it with `--again`" if ended else "look at it with `saggar show`",
        code="job.known",
        job=signed.spec.digest(),
    )
