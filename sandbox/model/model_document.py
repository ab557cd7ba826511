"""The document of a model job: what is learned, from which table, by which recipe.  It is the job's code.

Its canonical bytes are what the submitter signs (by digest) and what an auditor runs again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.errors import CanonicalError, SaggarError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.exact import format_exact, parse_exact

MODEL_VERSION = 1


class ModelKind(StrEnum):
    """`linear` and `logistic` regression, `scorecard`, or a `synthetic` table."""

    LINEAR = "linear"
    LOGISTIC = "logistic"
    SCORECARD = "scorecard"
    SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model reads of a row: a target, a feature, a characteristic, or a column of a synthetic table.

    Attributes:
        name: for the coefficients, the points and the card.
        sql: an expression of the language; a condition for the target of a logistic regression or a scorecard.
        lower, upper: public bounds that scale it; None for the expression's own.
        cuts: where a scorecard cuts a number into bins; empty for a category.
    """

    name: str
    sql: str
    lower: Fraction | None = None
    upper: Fraction | None = None
    cuts: tuple[Fraction, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the input as a canonical record."""
        return {
            "name": self.name,
            "sql": self.sql,
            "lower": None if self.lower is None else format_exact(self.lower),
            "upper": None if self.upper is None else format_exact(self.upper),
            "cuts": [format_exact(cut) for cut in self.cuts],
        }

    @classmethod
    def parse(cls, record: Any) -> ModelInput:
        """Return the input that a record writes."""
        lower, upper = (None if record[end] is None else parse_exact(record[end]) for end in ("lower", "upper"))
        return cls(record["name"], record["sql"], lower, upper, tuple(parse_exact(cut) for cut in record["cuts"]))


@dataclass(frozen=True, slots=True)
class ModelDocument:
    """A model to learn.

    Attributes:
        kind: the recipe.
        table: the table's name in SQL.
        filter: a condition of the language on the rows that count, or empty for all.
        target: what is predicted; None for a synthetic table.
        inputs: features, characteristics or columns, in order.
        max_rows: the most rows of a synthetic table.
    """

    kind: ModelKind
    table: str
    filter: str
    target: ModelInput | None
    inputs: tuple[ModelInput, ...]
    max_rows: int

    def to_record(self) -> dict[str, Any]:
        """Return the document as a canonical record."""
        return {
            "v": MODEL_VERSION,
            "kind": self.kind.value,
            "table": self.table,
            "filter": self.filter,
            "target": None if self.target is None else self.target.to_record(),
            "inputs": [found.to_record() for found in self.inputs],
            "max_rows": self.max_rows,
        }

    def to_text(self) -> str:
        """Return the canonical record as text: the code of the job."""
        return canonical_bytes(self.to_record()).decode()

    @classmethod
    def parse(cls, text: str) -> ModelDocument:
        """Return the document that a job's code writes; strict about its fields and their spelling.

        Raises:
            CanonicalError: it is not the canonical text of a document.
        """
        record = parse_canonical(text.encode())
        try:
            document = cls(
                kind=ModelKind(record["kind"]),
                table=str(record["table"]),
                filter=str(record["filter"]),
                target=None if record["target"] is None else ModelInput.parse(record["target"]),
                inputs=tuple(ModelInput.parse(found) for found in record["inputs"]),
                max_rows=int(record["max_rows"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, SaggarError) as error:
            raise CanonicalError("a model document is malformed", hint="see docs/reference/job.md") from error
        if document.to_record() != record:
            raise CanonicalError("a model document has unknown fields", hint="see docs/reference/job.md")
        return document
