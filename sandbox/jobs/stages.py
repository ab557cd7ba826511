"""The stages of a job as frozen types; each verb of the line takes one and returns the next.

What a stage says is true when it exists: a `Reserved` cannot be made without an `Admitted`, nor a `Gated` without a
permit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.model.agreement import Agreement
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.job import JobSpec, OutputDeclaration
from sandbox.model.keys import Signature
from sandbox.model.loss import PrivacyLoss
from sandbox.model.release import Permit, Release
from sandbox.model.transcript import Transcript
from sandbox.privacy.joined import Reads
from sandbox.privacy.query import CheckedQuery


@dataclass(frozen=True, slots=True)
class SignedJob:
    """What arrives: the spec, its code, and the submitter's signature over the spec's bytes."""

    spec: JobSpec
    code: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class Submitted:
    """The signature holds and the log has it."""

    job: Digest
    spec: JobSpec
    code: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """The code is in the language and the policy set permits its columns and loss.

    Attributes:
        submitted: the stage before.
        agreement: the agreement it runs under.
        descriptions: the datasets it reads.
        query: the checked question of an SQL job, else None.
        reads: the columns whose keys will be opened.
        reservations: `(account, loss)` to reserve.
        isolation: the level of the walls for a program, or `no-program`.
        decided: the allowing decision, as the log gets it together with the reservation.
    """

    submitted: Submitted
    agreement: Agreement
    descriptions: tuple[DatasetDescription, ...]
    query: CheckedQuery | None
    reads: Reads
    reservations: tuple[tuple[str, PrivacyLoss], ...]
    isolation: dict[str, Any]
    decided: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reserved:
    """The loss is held durably on every account; no data was opened yet."""

    admitted: Admitted
    at: str
    started_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The program ended; what it was told, and what it handed over.

    Attributes:
        reserved: the stage before.
        transcript: every question and answer.
        spent: the loss of the answers given.
        envelopes: the sealed parts that the transcript names by digest, one for each auditor; not kept yet.
    """

    reserved: Reserved
    transcript: Transcript
    spent: PrivacyLoss
    envelopes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Gated:
    """The outputs are exactly what was declared, and a signed permit says so."""

    measured: Measured
    outputs: dict[str, Any]
    permit: Permit


@dataclass(frozen=True, slots=True)
class Settled:
    """The loss is posted and the release is fixed in the log; nothing has left yet."""

    job: Digest
    release: Release
    seq: int


@dataclass(frozen=True, slots=True)
class Released:
    """What leaves: the release's exact bytes, and the receipt that proves them.

    Attributes:
        release: the parsed release.
        raw: its canonical bytes.
        receipt: text that `saggar verify receipt` checks offline.
    """

    release: Release
    raw: bytes
    receipt: str


def declared_outputs(spec: JobSpec) -> dict[str, OutputDeclaration]:
    """Return a job's declarations by name."""
    return {output.name: output for output in spec.outputs}
