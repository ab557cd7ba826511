"""The frozen algebra of expressions: what a question may compute in one row.

An expression knows its type, and a number's type is an exact interval of integers: a value is `n * resolution` with
`lower <= n <= upper`.  Every operation is total: it gives a value or NULL for whatever stands in a row, so no data can
make a question fail, and no intermediate result leaves its interval, so none can overflow.

The interval rests on the leaves: whoever computes with a column clamps it to the column's type first (`render.py` does,
for DuckDB).  So the intervals hold for every table, not only for tables that were described truthfully.  A column that
is only compared is compared as it is stored, which cannot fail and says the same of every row within its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.model.exact import format_exact

WIDEST = 2**126
"""The largest magnitude of an intermediate integer; it fits DuckDB's HUGEINT with room for one sum of two."""

Plain = int | str | bool | None
"""A literal value; a date is the count of days since 1970-01-01."""


class Op(StrEnum):
    """Every operation there is."""

    COLUMN = "column"
    LITERAL = "literal"
    ADD = "add"
    MULTIPLY = "multiply"
    SCALE = "scale"
    NEGATE = "negate"
    ABSOLUTE = "absolute"
    LEAST = "least"
    GREATEST = "greatest"
    COALESCE = "coalesce"
    CASE = "case"
    FLOOR = "floor"
    DATE_PART = "date_part"
    DATE_START = "date_start"
    EQUAL = "equal"
    LESS = "less"
    LESS_EQUAL = "less_equal"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is_null"
    IN = "in"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class NumberType:
    """A number `n * resolution` with `lower <= n <= upper`, exactly."""

    lower: int
    upper: int
    resolution: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the type as a canonical record."""
        resolution = format_exact(self.resolution)
        return {"type": "number", "lower": str(self.lower), "upper": str(self.upper), "resolution": resolution}


@dataclass(frozen=True, slots=True)
class TextType:
    """A text; `domain` lists every value that it can be, in order, where that is public."""

    domain: tuple[str, ...] | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the type as a canonical record."""
        return {"type": "text", "domain": None if self.domain is None else list(self.domain)}


@dataclass(frozen=True, slots=True)
class DateType:
    """A date between two days (counted from 1970-01-01, both included) that starts a `step` (day, week, month …)."""

    lower: int
    upper: int
    step: str = "day"

    def to_record(self) -> dict[str, Any]:
        """Return the type as a canonical record."""
        return {"type": "date", "lower": self.lower, "upper": self.upper, "step": self.step}


@dataclass(frozen=True, slots=True)
class TruthType:
    """True or false."""

    def to_record(self) -> dict[str, Any]:
        """Return the type as a canonical record."""
        return {"type": "truth"}


@dataclass(frozen=True, slots=True)
class NothingType:
    """The type of a bare NULL."""

    def to_record(self) -> dict[str, Any]:
        """Return the type as a canonical record."""
        return {"type": "nothing"}


ValueType = NumberType | TextType | DateType | TruthType | NothingType


@dataclass(frozen=True, slots=True)
class Expr:
    """One node of the algebra.

    Attributes:
        op: what it does.
        args: what it does it to; for CASE condition, result, condition, result, …, else.
        type: what it gives.
        nullable: whether it can be NULL.
        value: a column's name, a literal (a number in units of its resolution), the factor of SCALE, the divisor and
            factor of FLOOR as `"p/q"`, a date part or step, a prefix, the texts of IN.
    """

    op: Op
    args: tuple[Expr, ...]
    type: ValueType
    nullable: bool
    value: Plain | tuple[Plain, ...] = None

    def to_record(self) -> dict[str, Any]:
        """Return the expression as a canonical record; equal records mean equal expressions."""
        return {
            "op": self.op.value,
            "args": [argument.to_record() for argument in self.args],
            "type": self.type.to_record(),
            "nullable": self.nullable,
            "value": _plain_record(self.value),
        }


def _plain_record(value: Plain | tuple[Plain, ...]) -> Any:
    if isinstance(value, tuple):
        return [_plain_record(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return {"integer": str(value)}
    return value


def column_names(expr: Expr) -> frozenset[str]:
    """Return the names of the columns that an expression reads."""
    return frozenset(str(part.value) for part in parts_of(expr) if part.op is Op.COLUMN)


def parts_of(expr: Expr) -> list[Expr]:
    """Return an expression and everything in it, what stands in several places once; arguments before their wholes.

    A column of a public table stands as one object wherever it is used, in the columns of the next table too: as text
    such a chain would grow with the product of their rows.
    """
    found: dict[int, Expr] = {}
    waiting = [expr]
    while waiting:
        part = waiting[-1]
        left = [argument for argument in part.args if id(argument) not in found]
        if left:
            waiting += left
            continue
        found[id(waiting.pop())] = part
    return list(found.values())


_STRICT = frozenset(
    {
        Op.COLUMN,
        Op.LITERAL,
        Op.ADD,
        Op.MULTIPLY,
        Op.SCALE,
        Op.NEGATE,
        Op.ABSOLUTE,
        Op.LEAST,
        Op.GREATEST,
        Op.FLOOR,
        Op.DATE_PART,
        Op.DATE_START,
        Op.EQUAL,
        Op.LESS,
        Op.LESS_EQUAL,
        Op.NOT,
        Op.IN,
        Op.PREFIX,
    }
)


def null_columns(expr: Expr) -> frozenset[str] | None:
    """Return the columns whose NULLs are exactly the NULLs of a strict expression, or None where it is not strict.

    Two strict expressions with the same set are NULL in the same rows, so they can share one count.
    """
    if expr.op not in _STRICT or (expr.op is Op.LITERAL and expr.nullable):
        return None
    if expr.op is Op.COLUMN:
        return frozenset({str(expr.value)}) if expr.nullable else frozenset()
    inner = [null_columns(argument) for argument in expr.args]
    known = [names for names in inner if names is not None]
    return None if len(known) < len(inner) else frozenset().union(*known)


_TESTS = frozenset({Op.EQUAL, Op.LESS, Op.LESS_EQUAL, Op.IN, Op.PREFIX})


def present_columns(condition: Expr) -> frozenset[str]:
    """Return the columns that are certainly not NULL in a row for which `condition` is true."""
    if condition.op is Op.AND:
        return frozenset().union(*(present_columns(argument) for argument in condition.args))
    if condition.op in _TESTS:
        return _read_strictly(condition)
    if condition.op is Op.NOT and condition.args[0].op in {*_TESTS, Op.IS_NULL}:
        return _read_strictly(condition.args[0])
    return frozenset()


def _read_strictly(expr: Expr) -> frozenset[str]:
    """Return the columns whose NULL makes the value of `expr` NULL (for IS NULL: makes it true)."""
    if expr.op is Op.COLUMN:
        return frozenset({str(expr.value)})
    if expr.op in {Op.COALESCE, Op.CASE, Op.AND, Op.OR}:
        return frozenset()
    return frozenset().union(*(_read_strictly(argument) for argument in expr.args if argument.op is not Op.IS_NULL))
