"""A job: what an operator submits, and the states it goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sandbox.errors import InputError, TransitionError
from sandbox.model.digest import Digest, digest_of_record, parse_digest
from sandbox.model.loss import PrivacyLoss

SIGNING_CONTEXT = "saggar/job/1"


class JobKind(StrEnum):
    """`sql`: one question.  `python`: a program with `def analyze(data)`.  `model`: one of the engine's own recipes."""

    SQL = "sql"
    PYTHON = "python"
    MODEL = "model"


class OutputKind(StrEnum):
    """What a job may declare: a `table`, the data of a `figure`, or one `number`."""

    TABLE = "table"
    FIGURE = "figure"
    NUMBER = "number"


class CellKind(StrEnum):
    """What a column of an output holds."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class OutputDeclaration:
    """One output that may leave: its name, type and largest size, fixed before the job runs.

    Attributes:
        name: letters, digits, underscore.
        kind: what it is.
        columns: for a table or figure, `(name, cell kind)` in order; empty for a number.
        max_rows: the most rows (a number has 1).
        max_bytes: the most canonical bytes.
    """

    name: str
    kind: OutputKind
    columns: tuple[tuple[str, CellKind], ...]
    max_rows: int
    max_bytes: int

    def to_record(self) -> dict[str, Any]:
        """Return the declaration as a canonical record."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "columns": [[name, kind.value] for name, kind in self.columns],
            "max_rows": self.max_rows,
            "max_bytes": self.max_bytes,
        }


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything that decides what a job does; its digest is the job's identity.

    Attributes:
        name: for people.
        kind: SQL, Python or a model.
        code: the digest of the code's UTF-8 bytes; a model's code is its document (`model_document.py`).
        agreement: the short name of the agreement.
        product, purpose: what the answers are for.
        reads: `(dataset, columns)`, the columns whose keys are opened, sorted.
        snapshots: `(dataset, snapshot digest)`.
        loss: the most that the job may spend, in all.
        rows, groups: the contribution bound asked for, or None for the dataset's own.
        outputs: what may leave; empty for an SQL job (its one output is the answer).
        parameters: JSON scalars handed to the program.
        nonce: text that the submitter may change to ask the same question again, and pay again.
    """

    name: str
    kind: JobKind
    code: Digest
    agreement: str
    product: str
    purpose: str
    reads: tuple[tuple[str, tuple[str, ...]], ...]
    snapshots: tuple[tuple[str, Digest], ...]
    loss: PrivacyLoss
    rows: int | None
    groups: int | None
    outputs: tuple[OutputDeclaration, ...]
    parameters: tuple[tuple[str, str | int | bool | None], ...] = field(default=())
    nonce: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the spec as a canonical record; these bytes are what is signed."""
        return {
            "v": 1,
            "name": self.name,
            "kind": self.kind.value,
            "code": self.code,
            "agreement": self.agreement,
            "product": self.product,
            "purpose": self.purpose,
            "reads": [[dataset, list(columns)] for dataset, columns in self.reads],
            "snapshots": [[dataset, digest] for dataset, digest in self.snapshots],
            "loss": self.loss.to_record(),
            "rows": self.rows,
            "groups": self.groups,
            "outputs": [output.to_record() for output in self.outputs],
            "parameters": dict(self.parameters),
            "nonce": self.nonce,
        }

    def digest(self) -> Digest:
        """Return the digest of the canonical record: the job's identity."""
        return digest_of_record(self.to_record())

    @classmethod
    def parse(cls, record: object) -> JobSpec:
        """Return the spec that a canonical record writes; strict about its fields."""
        try:
            if not isinstance(record, dict):
                raise TypeError
            spec = cls(
                name=record["name"],
                kind=JobKind(record["kind"]),
                code=parse_digest(record["code"]),
                agreement=record["agreement"],
                product=record["product"],
                purpose=record["purpose"],
                reads=tuple((dataset, tuple(columns)) for dataset, columns in record["reads"]),
                snapshots=tuple((dataset, parse_digest(digest)) for dataset, digest in record["snapshots"]),
                loss=PrivacyLoss.parse(record["loss"]),
                rows=record["rows"],
                groups=record["groups"],
                outputs=tuple(
                    OutputDeclaration(
                        output["name"],
                        OutputKind(output["kind"]),
                        tuple((name, CellKind(kind)) for name, kind in output["columns"]),
                        output["max_rows"],
                        output["max_bytes"],
                    )
                    for output in record["outputs"]
                ),
                parameters=tuple(sorted(record["parameters"].items())),
                nonce=record["nonce"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("a job spec is malformed", hint="see docs/reference/job.md") from error
        if spec.to_record() != record:
            raise InputError("a job spec has unknown fields", hint="see docs/reference/job.md")
        return spec


class JobState(StrEnum):
    """Where a job stands.  The text is what people read."""

    SUBMITTED = "submitted"
    ADMITTED = "admitted"
    RESERVED = "reserved"
    OPENED = "opened"
    GATED = "gated"
    RELEASED = "released"
    REFUSED = "refused"
    FAILED = "failed"
    RECOVERED = "recovered"


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset({JobState.ADMITTED, JobState.REFUSED}),
    JobState.ADMITTED: frozenset({JobState.RESERVED, JobState.REFUSED}),
    JobState.RESERVED: frozenset({JobState.OPENED, JobState.REFUSED, JobState.RECOVERED}),
    JobState.OPENED: frozenset({JobState.GATED, JobState.FAILED, JobState.RECOVERED}),
    JobState.GATED: frozenset({JobState.RELEASED, JobState.FAILED, JobState.RECOVERED}),
    JobState.RELEASED: frozenset(),
    JobState.REFUSED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.RECOVERED: frozenset(),
}


def check_transition(before: JobState, after: JobState) -> None:
    """Raise `TransitionError` unless the table allows it."""
    if after not in TRANSITIONS[before]:
        raise TransitionError(
            f"a job cannot go from `{before}` to `{after}`",
            hint="a job that ended stays ended; submit a new one",
            from_state=before.value,
            to_state=after.value,
        )
