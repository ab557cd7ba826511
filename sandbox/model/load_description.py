"""From the file that a department writes to a `DatasetDescription`; its form is in docs/reference/description.md.

What is checked here is checked before any row is read: that names are usable, that every number has public bounds on a
public step, that a public domain is complete enough to be shown to people.  Nothing is filled in from data.
"""

from __future__ import annotations

import re
from datetime import date
from fractions import Fraction

from sandbox.errors import BoundError
from sandbox.model.description import Column, ColumnKind, DatasetDescription, DomainValue, ExclusionRule
from sandbox.model.document import Node, description_error, read_document
from sandbox.model.unit import ContributionBound, OtherUnit, PrivacyUnit

COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
COLUMN_RULE = "start with a lower-case letter, go on with lower-case letters, digits and `_`, at most 63 in all"
DATASET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
DATASET_RULE = "start with a lower-case letter, go on with lower-case letters, digits, `_` and `-`, at most 63 in all"
UNIT_KIND = re.compile(r"[a-z][a-z-]{0,62}")
UNIT_RULE = "write the singular in lower case, as in patient or vehicle-day"

CLASSIFICATIONS = ("L1", "L2", "L3", "L4")
MAX_ROWS = 10**12
MAX_BOUND = 1_000_000
MAX_OTHER_UNITS = 3
MAX_COUNT = 2**53 - 1
"""The most steps between zero and a bound, so that every tool on the way reads a stored number exactly."""

_EPOCH = date(1970, 1, 1).toordinal()
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_NUMBERS = (ColumnKind.INTEGER, ColumnKind.DECIMAL)


def load_description(text: str, file_name: str) -> DatasetDescription:
    """Return the description that a file writes.

    Args:
        text: the file's content.
        file_name: what messages call it.

    Raises:
        DescriptionError: with the line, what is wrong there and what to write.
    """
    top = read_document(text, file_name)
    top.only(
        "dataset", "table", "label", "department_zh", "catalogue_id", "unit", "bound", "columns", "exclusions",
        "max_broken_share", "budget", "max_rows", "source_licence", "also_protects",
    )  # fmt: skip
    label_en, label_zh = top.field("label").labels()
    unit = _unit(top.field("unit"))
    columns = _columns(top.field("columns"), unit)
    share = top.field("max_broken_share")
    if not 0 <= share.exact() < 1:
        share.refuse(
            "`max_broken_share` is out of range", hint="it is 0 or more and below 1, as in 1/1000", kind="range"
        )
    budget = top.field("budget")
    if budget.loss().rho == 0 or budget.loss().delta >= 1:
        budget.refuse("`budget` is out of range", hint="rho is above 0 and delta below 1", kind="range")
    others = top.optional("also_protects")
    exclusions, licence = top.optional("exclusions"), top.optional("source_licence")
    return DatasetDescription(
        dataset=top.field("dataset").matching(DATASET_NAME, DATASET_RULE),
        table=top.field("table").matching(COLUMN_NAME, COLUMN_RULE),
        label_en=label_en,
        label_zh=label_zh,
        department_zh=top.field("department_zh").text(),
        catalogue_id=top.field("catalogue_id").text(),
        unit=unit,
        bound=_bound(top.field("bound")),
        columns=columns,
        exclusions=() if exclusions is None else tuple(_exclusion(node, columns) for node in exclusions.items()),
        max_broken_share=share.exact(),
        budget=budget.loss(),
        max_rows=top.field("max_rows").integer(1, MAX_ROWS),
        source_licence="" if licence is None else licence.text(),
        also_protects=() if others is None else _others(others, unit, columns),
    )


def _unit(node: Node) -> PrivacyUnit:
    node.only("kind", "column", "zh")
    return PrivacyUnit(
        kind=node.field("kind").matching(UNIT_KIND, UNIT_RULE),
        column=node.field("column").text().strip(),
        label_zh=node.field("zh").text(),
    )


def _others(node: Node, unit: PrivacyUnit, columns: tuple[Column, ...]) -> tuple[OtherUnit, ...]:
    """Return the further kinds of units; kinds and headers differ from each other and from all else."""
    found: list[OtherUnit] = []
    for place in node.items():
        place.only("kind", "column", "zh", "rows")
        other = OtherUnit(
            kind=place.field("kind").matching(UNIT_KIND, UNIT_RULE),
            column=place.field("column").text().strip(),
            label_zh=place.field("zh").text(),
            rows=place.field("rows").integer(1, MAX_BOUND),
        )
        if other.kind in {unit.kind, *(known.kind for known in found)}:
            place.refuse(f"the kind `{other.kind}` is protected twice", hint="keep one of them", kind="duplicate")
        taken = {unit.column, *(known.column for known in found)}
        taken |= {name for column in columns for name in (column.source, column.name)}
        if other.column in taken:
            place.refuse(
                f"`{other.column}` names a {other.kind} and cannot be a column or another unit too",
                hint="leave it out of `columns`; it is sealed as a keyed token",
                kind="unit_column",
            )
        found.append(other)
    if not 1 <= len(found) <= MAX_OTHER_UNITS:
        node.refuse(
            f"`also_protects` names 1 to {MAX_OTHER_UNITS} kinds of units", hint="leave it out for none", kind="range"
        )
    return tuple(found)


def _bound(node: Node) -> ContributionBound:
    node.only("rows", "groups")
    rows, groups = node.field("rows").integer(1, MAX_BOUND), node.field("groups").integer(1, MAX_BOUND)
    try:
        return ContributionBound(rows, groups)
    except BoundError as error:
        raise description_error(
            node.file, node.line, node.path, error.message, hint=error.hint, kind="range"
        ) from error


def _columns(node: Node, unit: PrivacyUnit) -> tuple[Column, ...]:
    columns: list[Column] = []
    for place in node.items():
        column = _column(place)
        if any(column.name == other.name for other in columns):
            place.refuse(f"column `{column.name}` is described twice", hint="keep one of them", kind="duplicate")
        if any(column.source == other.source for other in columns):
            place.refuse(f"source header `{column.source}` is used twice", hint="one column a header", kind="duplicate")
        if unit.column == column.source or unit.sql_name == column.name:
            place.refuse(
                f"`{unit.column}` names the privacy unit and cannot be a column too",
                hint="leave it out of `columns`; it is sealed as a keyed token",
                kind="unit_column",
            )
        columns.append(column)
    if not columns:
        node.refuse("`columns` is empty", hint="describe at least one column", kind="missing_value")
    return tuple(columns)


def _column(node: Node) -> Column:
    node.only(
        "name", "source", "kind", "label", "classification", "nullable", "null_values", "lower", "upper", "resolution",
        "domain", "measure",
    )  # fmt: skip
    name = node.field("name").matching(COLUMN_NAME, COLUMN_RULE)
    kind = ColumnKind(node.field("kind").choice(*(kind.value for kind in ColumnKind)))
    label_en, label_zh = node.field("label").labels()
    source, nullable, measure = node.optional("source"), node.optional("nullable"), node.optional("measure")
    measure_en, measure_zh = ("", "") if measure is None else measure.labels()
    null_values = _texts(node.optional("null_values"))
    lower, upper, resolution = _limits(node, name, kind)
    domain = _domain(node, name, kind, null_values)
    may_miss = False if nullable is None else nullable.boolean()
    if null_values and not may_miss:
        node.field("null_values").refuse(
            f"`null_values` of column `{name}` has no use here", hint="add `nullable: true`, or remove it"
        )
    return Column(
        name=name,
        source=name if source is None else source.text().strip(),
        kind=kind,
        label_en=label_en,
        label_zh=label_zh,
        classification=node.field("classification").choice(*CLASSIFICATIONS),
        nullable=may_miss,
        null_values=null_values,
        lower=lower,
        upper=upper,
        resolution=resolution,
        domain=domain,
        measure_en=measure_en,
        measure_zh=measure_zh,
    )


def _limits(node: Node, name: str, kind: ColumnKind) -> tuple[Fraction | None, Fraction | None, Fraction | None]:
    lower, upper, resolution = node.optional("lower"), node.optional("upper"), node.optional("resolution")
    if kind not in {*_NUMBERS, ColumnKind.DATE}:
        for extra in (lower, upper, resolution):
            if extra is not None:
                extra.refuse(f"column `{name}` is {kind} and has no bounds", hint="remove this line", kind="bounds")
        return None, None, None
    if kind is ColumnKind.DATE:
        if resolution is not None:
            resolution.refuse(
                f"column `{name}` is a date and has no resolution", hint="remove this line", kind="bounds"
            )
        if lower is None and upper is None:
            return None, None, None
    if lower is None or upper is None:
        node.refuse(
            f"column `{name}` needs `lower` and `upper`",
            hint="public bounds from what is known about the subject, never from the data",
            kind="bounds",
        )
    if kind is ColumnKind.DATE:
        step, low, high = Fraction(1), _day(lower), _day(upper)
    else:
        step, low, high = _step(node, name, kind), lower.exact(), upper.exact()
        for place, amount in ((lower, low), (upper, high)):
            if (amount / step).denominator != 1:
                place.refuse(
                    f"bound of column `{name}` is not a multiple of its resolution",
                    hint="round the bound outwards to the resolution",
                    kind="bounds",
                )
            if abs(amount / step) > MAX_COUNT:
                place.refuse(
                    f"bound of column `{name}` is too far from zero", hint="use a coarser resolution", kind="bounds"
                )
    if low >= high:
        upper.refuse(f"`upper` of column `{name}` is not above `lower`", hint="lower < upper", kind="bounds")
    return low, high, None if kind is ColumnKind.DATE else step


def _step(node: Node, name: str, kind: ColumnKind) -> Fraction:
    place = node.optional("resolution")
    if place is None:
        if kind is ColumnKind.INTEGER:
            return Fraction(1)
        node.refuse(
            f"column `{name}` needs a `resolution`", hint="the step values are rounded to, as in 0.01", kind="bounds"
        )
    step = place.exact()
    if step <= 0 or (kind is ColumnKind.INTEGER and step.denominator != 1):
        whole = "a whole number above 0" if kind is ColumnKind.INTEGER else "above 0"
        place.refuse(f"`resolution` of column `{name}` is out of range", hint=f"it is {whole}", kind="bounds")
    return step


def _day(node: Node) -> Fraction:
    """Return the days since 1970-01-01 of a date."""
    text = node.text()
    match = _DATE.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        return Fraction(date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH)
    except ValueError as error:
        raise description_error(
            node.file, node.line, node.path, f"expected a date, got `{text}`", hint="write 2026-01-31", kind="type"
        ) from error


def _domain(node: Node, name: str, kind: ColumnKind, null_values: tuple[str, ...]) -> tuple[DomainValue, ...] | None:
    place = node.optional("domain")
    if place is None:
        return None
    if kind is not ColumnKind.CATEGORY:
        place.refuse(
            f"column `{name}` is {kind} and has no domain", hint="use kind category, or remove it", kind="domain"
        )
    values: list[DomainValue] = []
    for item in place.items():
        item.only("value", "en", "zh")
        value = item.field("value").text()
        if value != value.strip():
            item.refuse(f"domain value `{value}` has spaces around it", hint="remove them; so does the reader of rows")
        if any(value == other.value for other in values):
            item.refuse(f"domain value `{value}` is given twice", hint="keep one of them", kind="domain")
        if value in null_values:
            item.refuse(
                f"domain value `{value}` also means missing", hint="remove it from `null_values`", kind="domain"
            )
        values.append(DomainValue(value, item.field("en").text(), item.field("zh").text()))
    if not values:
        place.refuse(f"domain of column `{name}` is empty", hint="list its values, or remove `domain`", kind="domain")
    return tuple(values)


def _texts(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    values: list[str] = []
    for item in node.items():
        value = item.text().strip()
        if value in values:
            item.refuse(f"`{value}` is listed twice", hint="keep one of them", kind="duplicate")
        values.append(value)
    if not values:
        node.refuse(f"`{node.path}` is empty", hint="list a value, or remove the line", kind="missing_value")
    return tuple(values)


def _exclusion(node: Node, columns: tuple[Column, ...]) -> ExclusionRule:
    """Return the rule; its column is a header of the source file, described as a column or not."""
    node.only("column", "values", "reason")
    place = node.field("column")
    header = place.text().strip()
    renamed = next((c for c in columns if c.name == header and c.source != header), None)
    if renamed is not None and all(c.source != header for c in columns):
        # Rows are excluded before they become columns, so the rule reads the file's own header.
        place.refuse(
            f"`{header}` is a column's name, and an exclusion reads the source file",
            hint=f"write the source header `{renamed.source}`",
            kind="exclusion",
        )
    reason_en, reason_zh = node.field("reason").labels()
    return ExclusionRule(header, _texts(node.field("values")), reason_en, reason_zh)
