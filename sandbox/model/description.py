"""What a department says about a dataset before any row of it arrives.

Everything here is public: bounds, resolutions and domains are declared by people and never read off the data, since a
bound that is computed from rows tells about rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.errors import DescriptionError, SaggarError
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.exact import format_exact, parse_exact
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, OtherUnit, PrivacyUnit


class ColumnKind(StrEnum):
    """What a column holds, and so how it is stored.

    INTEGER and DECIMAL are stored as int64 counts of `resolution`; DATE as days (date32); BOOLEAN as bool; CATEGORY
    (a closed public domain or none) and TEXT as UTF-8.
    """

    INTEGER = "integer"
    DECIMAL = "decimal"
    CATEGORY = "category"
    TEXT = "text"
    DATE = "date"
    BOOLEAN = "boolean"


def sealed_text(raw: str) -> str:
    """Return a text as it is sealed: without spaces around, and otherwise as the source wrote it, letter by letter.

    Readers of rows seal texts in this form and questions compare with it, so both take it from here.
    """
    return raw.strip()


@dataclass(frozen=True, slots=True)
class DomainValue:
    """One value of a public domain: as stored, and as people read it."""

    value: str
    label_en: str
    label_zh: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset.

    Attributes:
        name: its name in SQL (lower case letters, digits, underscore).
        source: its header in the source file.
        kind: what it holds.
        label_en, label_zh: for people.
        classification: `L1` to `L4` (GB/T 43697-2024).
        nullable: whether a value may be missing.
        null_values: source texts that mean missing, besides the empty one.
        lower, upper: public bounds (INTEGER, DECIMAL: in the column's own measure; DATE: days since 1970-01-01).
        resolution: the step values are rounded to (INTEGER: 1 unless said otherwise).
        domain: the public domain of a CATEGORY, or None where the keys themselves are private.
        measure_en, measure_zh: the unit of measure for people (`day`, `天`), or empty.
    """

    name: str
    source: str
    kind: ColumnKind
    label_en: str
    label_zh: str
    classification: str
    nullable: bool
    null_values: tuple[str, ...]
    lower: Fraction | None
    upper: Fraction | None
    resolution: Fraction | None
    domain: tuple[DomainValue, ...] | None
    measure_en: str = ""
    measure_zh: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the column as a canonical record."""
        return {
            "name": self.name,
            "source": self.source,
            "kind": self.kind.value,
            "label": {"en": self.label_en, "zh": self.label_zh},
            "classification": self.classification,
            "nullable": self.nullable,
            "null_values": list(self.null_values),
            "lower": None if self.lower is None else format_exact(self.lower),
            "upper": None if self.upper is None else format_exact(self.upper),
            "resolution": None if self.resolution is None else format_exact(self.resolution),
            "domain": None
            if self.domain is None
            else [{"value": v.value, "en": v.label_en, "zh": v.label_zh} for v in self.domain],
            "measure": {"en": self.measure_en, "zh": self.measure_zh},
        }

    @classmethod
    def parse(cls, record: Any) -> Column:
        """Return the column that a canonical record writes."""
        domain = record["domain"]
        return cls(
            name=record["name"],
            source=record["source"],
            kind=ColumnKind(record["kind"]),
            label_en=record["label"]["en"],
            label_zh=record["label"]["zh"],
            classification=record["classification"],
            nullable=record["nullable"],
            null_values=tuple(record["null_values"]),
            lower=_exact_or_none(record["lower"]),
            upper=_exact_or_none(record["upper"]),
            resolution=_exact_or_none(record["resolution"]),
            domain=None if domain is None else tuple(DomainValue(v["value"], v["en"], v["zh"]) for v in domain),
            measure_en=record["measure"]["en"],
            measure_zh=record["measure"]["zh"],
        )


@dataclass(frozen=True, slots=True)
class ExclusionRule:
    """A closed rule for rows that may never be sealed: source column value is one of `values`.

    Attributes:
        column: the header in the source file.
        values: the source texts that exclude a row.
        reason_en, reason_zh: why, with the clause.
    """

    column: str
    values: tuple[str, ...]
    reason_en: str
    reason_zh: str


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """A dataset as its department describes it: one table, the unit that bounds its rows, and perhaps further units.

    Attributes:
        dataset: the identifier in agreements and accounts (`hospital`).
        table: the name in SQL (`encounters`).
        label_en, label_zh, department_zh, catalogue_id: for people.
        unit: whom the promise protects.
        bound: the largest contribution of one unit to one answer.
        columns: in order, without the unit's key.
        exclusions: rows that may never be sealed.
        max_broken_share: the share of broken rows above which a batch is refused.
        budget: the loss that all operators together may spend on this dataset.
        max_rows: a public ceiling on the rows of a snapshot, from which overflow is excluded.
        source_licence: attribution that travels with the data, or empty.
        also_protects: further kinds of units that the promise holds for.
    """

    dataset: str
    table: str
    label_en: str
    label_zh: str
    department_zh: str
    catalogue_id: str
    unit: PrivacyUnit
    bound: ContributionBound
    columns: tuple[Column, ...]
    exclusions: tuple[ExclusionRule, ...]
    max_broken_share: Fraction
    budget: PrivacyLoss
    max_rows: int
    source_licence: str = ""
    also_protects: tuple[OtherUnit, ...] = ()

    @property
    def unit_kinds(self) -> tuple[str, ...]:
        """Every kind of unit that it protects, each with an account of its own; the one that bounds rows first."""
        return (self.unit.kind, *(other.kind for other in self.also_protects))

    def column(self, name: str) -> Column | None:
        """Return the column called `name`, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def to_record(self) -> dict[str, Any]:
        """Return the description as a canonical record."""
        return {
            "v": 1,
            "dataset": self.dataset,
            "table": self.table,
            "label": {"en": self.label_en, "zh": self.label_zh},
            "department_zh": self.department_zh,
            "catalogue_id": self.catalogue_id,
            "unit": {"kind": self.unit.kind, "column": self.unit.column, "zh": self.unit.label_zh},
            "bound": self.bound.to_record(),
            "columns": [column.to_record() for column in self.columns],
            "exclusions": [
                {"column": r.column, "values": list(r.values), "reason": {"en": r.reason_en, "zh": r.reason_zh}}
                for r in self.exclusions
            ],
            "max_broken_share": format_exact(self.max_broken_share),
            "budget": self.budget.to_record(),
            "max_rows": self.max_rows,
            "source_licence": self.source_licence,
            **({"also_protects": [other.to_record() for other in self.also_protects]} if self.also_protects else {}),
        }

    def digest(self) -> Digest:
        """Return the digest of the canonical record."""
        return digest_of_record(self.to_record())

    @classmethod
    def parse(cls, record: Any) -> DatasetDescription:
        """Return the description that a canonical record writes; strict about its fields."""
        try:
            description = cls(
                dataset=record["dataset"],
                table=record["table"],
                label_en=record["label"]["en"],
                label_zh=record["label"]["zh"],
                department_zh=record["department_zh"],
                catalogue_id=record["catalogue_id"],
                unit=PrivacyUnit(record["unit"]["kind"], record["unit"]["column"], record["unit"]["zh"]),
                bound=ContributionBound(record["bound"]["rows"], record["bound"]["groups"]),
                columns=tuple(Column.parse(column) for column in record["columns"]),
                exclusions=tuple(
                    ExclusionRule(r["column"], tuple(r["values"]), r["reason"]["en"], r["reason"]["zh"])
                    for r in record["exclusions"]
                ),
                max_broken_share=parse_exact(record["max_broken_share"]),
                budget=PrivacyLoss.parse(record["budget"]),
                max_rows=record["max_rows"],
                source_licence=record["source_licence"],
                also_protects=tuple(
                    OtherUnit(other["kind"], other["column"], other["zh"], other["rows"])
                    for other in record.get("also_protects", ())
                ),
            )
        except (KeyError, TypeError, ValueError, SaggarError) as error:
            raise DescriptionError(
                "a dataset description record is malformed", hint="see docs/reference/description.md"
            ) from error
        if description.to_record() != record:
            raise DescriptionError(
                "a dataset description record has unknown fields", hint="see docs/reference/description.md"
            )
        return description


def _exact_or_none(text: str | None) -> Fraction | None:
    return None if text is None else parse_exact(text)
