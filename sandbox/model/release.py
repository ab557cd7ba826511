"""The permit and the release: why something may leave, and what left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes, parse_canonical_release
from sandbox.model.digest import Digest, digest_of, parse_digest
from sandbox.model.keys import Signature
from sandbox.model.loss import PrivacyLoss

PERMIT_CONTEXT = "saggar/permit/1"


@dataclass(frozen=True, slots=True)
class Permit:
    """The gate's word that one exact byte string may leave; without it nothing does.

    Attributes:
        job: the job's digest.
        output: the digest of the outputs' canonical bytes.
        transcript: the digest of the transcript that produced them.
        checks: the names of the checks that held, in order.
        signature: by the sandbox key over `signed_bytes`.
    """

    job: Digest
    output: Digest
    transcript: Digest
    checks: tuple[str, ...]
    signature: Signature

    @staticmethod
    def signed_bytes(job: Digest, output: Digest, transcript: Digest, checks: tuple[str, ...]) -> bytes:
        """Return the bytes that the sandbox key signs."""
        return canonical_bytes({"job": job, "output": output, "transcript": transcript, "checks": list(checks)})

    def to_record(self) -> dict[str, Any]:
        """Return the permit as a canonical record."""
        return {
            "job": self.job,
            "output": self.output,
            "transcript": self.transcript,
            "checks": list(self.checks),
            "signature": self.signature.to_record(),
        }

    @classmethod
    def parse(cls, record: Any) -> Permit:
        """Return the permit that a record writes."""
        try:
            return cls(
                parse_digest(record["job"]),
                parse_digest(record["output"]),
                parse_digest(record["transcript"]),
                tuple(record["checks"]),
                Signature.parse(record["signature"]),
            )
        except (KeyError, TypeError) as error:
            raise CanonicalError("a permit is malformed", hint="see docs/reference/release.md") from error


@dataclass(frozen=True, slots=True)
class Release:
    """What left: the outputs, what they cost, and where they come from.

    Attributes:
        job: the job's digest.
        name: the job's name, for people.
        agreement, product, purpose: under what.
        snapshots: `(dataset, snapshot digest)`.
        loss: what was posted.
        epsilon, delta: the same, for people, rounded up.
        outputs: name -> `{"kind": "answer" | "table" | "figure" | "number", …}`; numbers are finite.
        permit: the gate's permit.
        isolation: the level of the walls that held.
    """

    job: Digest
    name: str
    agreement: str
    product: str
    purpose: str
    snapshots: tuple[tuple[str, Digest], ...]
    loss: PrivacyLoss
    epsilon: str
    delta: str
    outputs: dict[str, Any]
    permit: Permit
    isolation: str

    def to_record(self) -> dict[str, Any]:
        """Return the release as a record with floats."""
        return {
            "v": 1,
            "job": self.job,
            "name": self.name,
            "agreement": self.agreement,
            "product": self.product,
            "purpose": self.purpose,
            "snapshots": [[dataset, digest] for dataset, digest in self.snapshots],
            "loss": self.loss.to_record(),
            "epsilon": self.epsilon,
            "delta": self.delta,
            "outputs": self.outputs,
            "permit": self.permit.to_record(),
            "isolation": self.isolation,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: exactly what leaves."""
        return canonical_release_bytes(self.to_record())

    def digest(self) -> Digest:
        """Return the digest of the canonical bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def parse(cls, raw: bytes) -> Release:
        """Return the release that canonical bytes write; strict about its fields."""
        record = parse_canonical_release(raw)
        try:
            release = cls(
                job=parse_digest(record["job"]),
                name=record["name"],
                agreement=record["agreement"],
                product=record["product"],
                purpose=record["purpose"],
                snapshots=tuple((dataset, parse_digest(digest)) for dataset, digest in record["snapshots"]),
                loss=PrivacyLoss.parse(record["loss"]),
                epsilon=record["epsilon"],
                delta=record["delta"],
                outputs=record["outputs"],
                permit=Permit.parse(record["permit"]),
                isolation=record["isolation"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CanonicalError("a release is malformed", hint="see docs/reference/release.md") from error
        if release.to_bytes() != raw:
            raise CanonicalError("a release has unknown fields", hint="see docs/reference/release.md")
        return release
