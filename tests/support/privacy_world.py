"""A clinic for questions: one description, tables of any rows, noise that is none, and an oracle for expressions."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import pyarrow as pa

from sandbox.model.description import Column, ColumnKind, DatasetDescription, DomainValue
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.privacy.accounting import loss_from_epsilon
from sandbox.privacy.algebra import DateType, Expr, NumberType, Op
from sandbox.privacy.calendar import EPOCH, start_of, to_date
from sandbox.privacy.check import check_question
from sandbox.privacy.plan import Plan, plan_query
from sandbox.privacy.query import CheckedQuery

LOSS = loss_from_epsilon(Fraction(1), Fraction(1, 10**6))
DAY0 = (dt.date(2020, 1, 1) - EPOCH).days
DISTRICTS = ("east", "west", "north")


def column(name, kind, lower=None, upper=None, resolution=None, domain=None, *, nullable=False):
    return Column(
        name=name,
        source=name,
        kind=kind,
        label_en=f"the {name}",
        label_zh=f"{name}列",
        classification="L2",
        nullable=nullable,
        null_values=(),
        lower=None if lower is None else Fraction(lower),
        upper=None if upper is None else Fraction(upper),
        resolution=None if resolution is None else Fraction(resolution),
        domain=None if domain is None else tuple(DomainValue(value, value, value) for value in domain),
        measure_en="yuan" if name == "cost" else "",
        measure_zh="元" if name == "cost" else "",
    )


COLUMNS = (
    column("age", ColumnKind.INTEGER, 0, 120, 1),
    column("cost", ColumnKind.DECIMAL, 0, 1000, "1/100", nullable=True),
    column("delta", ColumnKind.DECIMAL, -50, 20, "1/3"),
    column("free", ColumnKind.INTEGER, None, None, 1),
    column("district", ColumnKind.CATEGORY, domain=DISTRICTS, nullable=True),
    column("diag", ColumnKind.TEXT, nullable=True),
    column("day", ColumnKind.DATE, DAY0, DAY0 + 730),
    column("seen", ColumnKind.DATE, None, None, nullable=True),
    column("urgent", ColumnKind.BOOLEAN, nullable=True),
)
ARROW = {
    "_unit": pa.int64(),
    "_rank": pa.int32(),
    "age": pa.int64(),
    "cost": pa.int64(),
    "delta": pa.int64(),
    "free": pa.int64(),
    "district": pa.string(),
    "diag": pa.string(),
    "day": pa.date32(),
    "seen": pa.date32(),
    "urgent": pa.bool_(),
}
PLAIN_ROW = {
    "age": 40,
    "cost": 5000,
    "delta": 0,
    "free": 7,
    "district": "east",
    "diag": "D1",
    "day": dt.date(2020, 5, 1),
    "seen": None,
    "urgent": True,
}


def describe(rows=4, groups=2, max_rows=100_000, columns=COLUMNS):
    return DatasetDescription(
        dataset="clinic",
        table="visits",
        label_en="Clinic",
        label_zh="门诊",
        department_zh="市卫健委",
        catalogue_id="D10",
        unit=PrivacyUnit("patient", "patient", "患者"),
        bound=ContributionBound(rows, groups),
        columns=columns,
        exclusions=(),
        max_broken_share=Fraction(0),
        budget=PrivacyLoss(Fraction(1), Fraction(1, 10**5)),
        max_rows=max_rows,
    )


def check(sql: str, description: DatasetDescription | None = None, **asked) -> CheckedQuery:
    question = Question(sql, LOSS, **asked)
    return check_question(question, {"visits": describe() if description is None else description})


def plan(sql: str, description: DatasetDescription | None = None, loss: PrivacyLoss = LOSS, **asked) -> Plan:
    return plan_query(check(sql, description, **asked), loss)


def table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a partition of rows; what a row leaves out is taken from `PLAIN_ROW`."""
    whole = [{**PLAIN_ROW, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in whole], kind) for name, kind in ARROW.items()})


def visits(units: Mapping[int, Sequence[Mapping[str, object]]]) -> list[dict[str, object]]:
    """Return the rows of units, ranked in the order given."""
    return [{"_unit": u, "_rank": rank, **row} for u, rows in units.items() for rank, row in enumerate(rows, start=1)]


class NoNoise:
    """A source of no noise, for tests of everything else."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return list(values)

    def laplace(self, values, *, noise, rho):
        return list(values)

    def thresholded(self, counts, *, sigma, threshold, rho):
        return {key: count for key, count in counts.items() if count >= threshold.value}

    def top(self, scores, *, count, scale, rho):
        return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]

    def best(self, groups, *, scale, sensitivity, rho):
        return [max(range(len(scores)), key=lambda place: (scores[place], -place)) for scores in groups]


def evaluate(expr: Expr, row: Mapping[str, object]):
    """Return what an expression means in a row, by a second implementation: integers, days, texts, truth or None."""
    op, args = expr.op, expr.args
    if op is Op.COLUMN:
        return _held(expr, row[str(expr.value)])
    if op is Op.LITERAL:
        return expr.value
    if op is Op.CASE:
        for condition, result in zip(args[0:-1:2], args[1:-1:2], strict=True):
            if evaluate(condition, row) is True:
                return evaluate(result, row)
        return evaluate(args[-1], row)
    values = [evaluate(argument, row) for argument in args]
    if op is Op.COALESCE:
        return next((value for value in values if value is not None), None)
    if op is Op.IS_NULL:
        return values[0] is None
    if op is Op.AND:
        return False if False in values else (None if None in values else True)
    if op is Op.OR:
        return True if True in values else (None if None in values else False)
    if None in values:
        return None
    return _strict(expr, values)


def _held(expr, value):
    if value is None or not isinstance(expr.type, (NumberType, DateType)):
        return value
    plain = (value - EPOCH).days if isinstance(value, dt.date) else value
    return min(max(plain, expr.type.lower), expr.type.upper)


def _strict(expr, values):
    first = values[0]
    match expr.op:
        case Op.ADD:
            return first + values[1]
        case Op.MULTIPLY:
            return first * values[1]
        case Op.SCALE:
            return first * expr.value
        case Op.NEGATE:
            return -first
        case Op.ABSOLUTE:
            return abs(first)
        case Op.LEAST:
            return min(values)
        case Op.GREATEST:
            return max(values)
        case Op.FLOOR:
            return math.floor(first * Fraction(expr.value))
        case Op.DATE_START:
            return start_of(expr.value, first)
        case Op.DATE_PART:
            date = to_date(first)
            parts = {"quarter": (date.month + 2) // 3, "isodow": date.isoweekday()}
            return parts.get(expr.value) or getattr(date, expr.value)
        case Op.EQUAL:
            return first == values[1]
        case Op.LESS:
            return first < values[1]
        case Op.LESS_EQUAL:
            return first <= values[1]
        case Op.NOT:
            return not first
        case Op.IN:
            return first in expr.value
        case Op.PREFIX:
            return first.startswith(expr.value)
    raise AssertionError(expr.op)
