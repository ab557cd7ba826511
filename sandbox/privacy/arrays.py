"""Which statistics an array can count or sum: those of products of single columns, which most questions are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sandbox.privacy.algebra import Expr, NumberType, Op, column_names, null_columns
from sandbox.privacy.statistics import Statistic, StatisticKind
from sandbox.privacy.tallies import EXACT, Count, Factor, Sum, Tally


def tally_of(statistic: Statistic) -> Tally | None:
    """Return how an array counts or sums a statistic, or None where only the statement can."""
    argument = statistic.argument
    match statistic.kind:
        case StatisticKind.UNITS:
            return Count("units")
        case StatisticKind.ROWS if argument is None:
            return Count("rows")
        case StatisticKind.ROWS if argument is not None and null_columns(argument) is not None:
            return Count("rows", tuple(sorted(column_names(argument))))
        case StatisticKind.SUM if argument is not None and isinstance(argument.type, NumberType):
            return _sum_of(argument, argument.type, statistic.centre)
        case _:
            return None


def _sum_of(argument: Expr, of: NumberType, centre: int) -> Sum | None:
    factors = [_factor_of(part) for part in _multiplied(argument)]
    known = tuple(factor for factor in factors if factor is not None)
    steps = [math.prod(factor.reach for factor in known), *map(abs, (of.lower, of.upper, centre))]
    if len(known) < len(factors) or max(steps) > EXACT // 2:
        return None
    if len(known) == 1:
        # The same number for every row, and the same factor as in a square of it.
        line = replace(known[0], plus=known[0].plus - centre)
        return Sum((line,), of.lower - centre, of.upper - centre, 0)
    return Sum(known, of.lower, of.upper, centre)


def _multiplied(expr: Expr) -> list[Expr]:
    """Return what a product is made of."""
    if expr.op is Op.SCALE and expr.value == 1:
        return _multiplied(expr.args[0])
    if expr.op is Op.MULTIPLY:
        return [part for argument in expr.args for part in _multiplied(argument)]
    return [expr]


@dataclass(frozen=True, slots=True)
class _Line:
    """A column times a number, plus a number; without a column, the number alone."""

    column: Expr | None
    times: int
    plus: int


def _factor_of(expr: Expr) -> Factor | None:
    line = _line_of(expr)
    if line is None or line.column is None or not isinstance(line.column.type, NumberType):
        return None
    of = line.column.type
    widest = max(abs(of.lower * line.times), abs(of.upper * line.times)) + abs(line.plus)
    if max(widest, abs(of.lower), abs(of.upper), abs(line.times)) > EXACT:
        return None
    return Factor(str(line.column.value), of.lower, of.upper, line.times, line.plus)


def _line_of(expr: Expr) -> _Line | None:
    """Return an expression as a line over one column, in units of its own resolution, or None where it is none."""
    match expr.op:
        case Op.COLUMN:
            return _Line(expr, 1, 0)
        case Op.LITERAL if isinstance(expr.value, int) and isinstance(expr.type, NumberType):
            return _Line(None, 0, expr.value)
        case Op.SCALE | Op.NEGATE:
            inner, by = _line_of(expr.args[0]), -1 if expr.op is Op.NEGATE else int(str(expr.value))
            return None if inner is None else _Line(inner.column, inner.times * by, inner.plus * by)
        case Op.ADD:
            left, right = (_line_of(argument) for argument in expr.args)
            if left is None or right is None or (left.column is not None and right.column is not None):
                return None
            return _Line(left.column or right.column, left.times + right.times, left.plus + right.plus)
        case _:
            return None
