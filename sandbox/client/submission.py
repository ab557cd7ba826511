"""Sign a job and check what came back, on the operator's own machine."""

from __future__ import annotations

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign
from sandbox.errors import InclusionError
from sandbox.ledger.verify import Trusted, verify_receipt
from sandbox.model.canonical import canonical_bytes
from sandbox.model.job import SIGNING_CONTEXT, JobSpec
from sandbox.model.keys import Signature
from sandbox.model.release import Release


def sign_spec(spec: JobSpec, key: PrivateKey) -> Signature:
    """Return the submitter's signature over the spec's canonical bytes."""
    return sign(key, SIGNING_CONTEXT, canonical_bytes(spec.to_record()))


def verify_release(raw: bytes, receipt: str, trusted: Trusted, *, spec: JobSpec) -> Release:
    """Return the release once its receipt proves that the log, cosigned by the witness, says exactly these bytes.

    Raises:
        LedgerError: the receipt does not hold.
        InclusionError: the release is another job's.
    """
    verify_receipt(receipt, raw, trusted)
    release = Release.parse(raw)
    if release.job != spec.digest():
        raise InclusionError("the release is for another job than the one submitted", hint="report this to the auditor")
    return release
