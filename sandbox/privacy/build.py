"""Build expressions with exact types: interval arithmetic on integers, resolutions as rationals.

Each function returns the expression and proves its interval from its arguments'.  Messages name no place: the caller
(`expression.py`) knows where in the SQL it stands and adds line and column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from sandbox.errors import BoundError, QueryError
from sandbox.model.description import Column, ColumnKind
from sandbox.privacy.algebra import (
    WIDEST,
    DateType,
    Expr,
    NothingType,
    NumberType,
    Op,
    TextType,
    TruthType,
    ValueType,
)
from sandbox.privacy.calendar import FIRST_DAY, LAST_DAY, part_range, start_of
from sandbox.privacy.hints import mixed_hint

INT64_LOWER = -(2**63)
INT64_UPPER = 2**63 - 1
TRUTH = TruthType()
_FINEST = Fraction(1, 10**60)


def column(described: Column, *, nullable: bool) -> Expr:
    """Return the expression that reads a column."""
    return Expr(Op.COLUMN, (), column_type(described), nullable, described.name)


def column_type(described: Column) -> ValueType:
    """Return the type of a column; a number without bounds may be any 64-bit integer."""
    match described.kind:
        case ColumnKind.INTEGER | ColumnKind.DECIMAL:
            resolution = Fraction(1) if described.resolution is None else described.resolution
            lower = INT64_LOWER if described.lower is None else math.floor(described.lower / resolution)
            upper = INT64_UPPER if described.upper is None else math.ceil(described.upper / resolution)
            return NumberType(max(lower, INT64_LOWER), min(upper, INT64_UPPER), resolution)
        case ColumnKind.CATEGORY:
            return TextType(None if described.domain is None else tuple(value.value for value in described.domain))
        case ColumnKind.TEXT:
            return TextType()
        case ColumnKind.DATE:
            first = FIRST_DAY if described.lower is None else max(FIRST_DAY, math.floor(described.lower))
            last = LAST_DAY if described.upper is None else min(LAST_DAY, math.ceil(described.upper))
            return DateType(first, last)
        case ColumnKind.BOOLEAN:
            return TRUTH


def number(amount: Fraction) -> Expr:
    """Return a literal number: plus or minus one step of its own size, so scaling by it costs nothing."""
    if amount == 0:
        return Expr(Op.LITERAL, (), NumberType(0, 0, Fraction(1)), nullable=False, value=0)
    sign = 1 if amount > 0 else -1
    return Expr(Op.LITERAL, (), _number_type(sign, sign, abs(amount)), nullable=False, value=sign)


def text(value: str) -> Expr:
    """Return a literal text."""
    return Expr(Op.LITERAL, (), TextType((value,)), nullable=False, value=value)


def date(day: int) -> Expr:
    """Return a literal date."""
    return Expr(Op.LITERAL, (), DateType(day, day), nullable=False, value=day)


def truth(value: bool) -> Expr:  # noqa: FBT001 (a literal is its value)
    """Return a literal truth value."""
    return Expr(Op.LITERAL, (), TRUTH, nullable=False, value=value)


def nothing() -> Expr:
    """Return a bare NULL."""
    return Expr(Op.LITERAL, (), NothingType(), nullable=True, value=None)


def literal_amount(expr: Expr) -> Fraction | None:
    """Return the exact amount of a literal number, or None where the expression is no literal number."""
    if expr.op is Op.LITERAL and isinstance(expr.type, NumberType) and isinstance(expr.value, int):
        return expr.value * expr.type.resolution
    return None


def number_type(expr: Expr, what: str) -> NumberType:
    """Return the type of a numeric expression, or refuse it."""
    if isinstance(expr.type, NumberType):
        return expr.type
    hint = "use a numeric column or a CASE of numbers"
    hint = hint if isinstance(expr.type, TextType) else mixed_hint(type_name(expr.type))
    raise type_error(f"{what} needs a number, got {type_name(expr.type)}", hint)


def type_error(message: str, hint: str) -> QueryError:
    """Return the refusal of an expression of the wrong type."""
    return QueryError(message, hint=hint, code="input.query.type")


def type_name(of: ValueType) -> str:
    """Return what people call a type."""
    match of:
        case NumberType():
            return "a number"
        case TextType():
            return "a text"
        case DateType():
            return "a date"
        case TruthType():
            return "a truth value"
        case NothingType():
            return "NULL"


def add(left: Expr, right: Expr) -> Expr:
    """Return `left + right`, over the coarsest resolution that writes both."""
    number_type(left, "addition")
    number_type(right, "addition")
    left, right = _aligned((left, right))
    a, b = number_type(left, "addition"), number_type(right, "addition")
    if left.op is Op.LITERAL and right.op is Op.LITERAL:
        return number((a.lower + b.lower) * a.resolution)
    of = _number_type(a.lower + b.lower, a.upper + b.upper, a.resolution)
    return Expr(Op.ADD, (left, right), of, left.nullable or right.nullable)


def multiply(left: Expr, right: Expr) -> Expr:
    """Return `left * right`; by a literal, only the resolution (and perhaps the sign) changes."""
    number_type(left, "multiplication")
    number_type(right, "multiplication")
    for factor, other in ((left, right), (right, left)):
        amount = literal_amount(factor)
        if amount is not None:
            return _by_literal(other, amount)
    a, b = number_type(left, "multiplication"), number_type(right, "multiplication")
    corners = [x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
    if left == right:
        corners = [0 if a.lower <= 0 <= a.upper else min(a.lower**2, a.upper**2), a.lower**2, a.upper**2]
    of = _number_type(min(corners), max(corners), a.resolution * b.resolution)
    return Expr(Op.MULTIPLY, (left, right), of, left.nullable or right.nullable)


def _by_literal(expr: Expr, amount: Fraction) -> Expr:
    of = number_type(expr, "multiplication")
    own = literal_amount(expr)
    if own is not None:
        return number(own * amount)
    if amount == 0:
        # Kept strict: NULL times zero is NULL, as in SQL.
        return Expr(Op.SCALE, (expr,), NumberType(0, 0, Fraction(1)), expr.nullable, 0)
    scaled = _number_type(of.lower, of.upper, of.resolution * abs(amount))
    kept = Expr(Op.SCALE, (expr,), scaled, expr.nullable, 1)
    return kept if amount > 0 else negate(kept)


def divide(left: Expr, right: Expr) -> Expr:
    """Return `left / right` for a literal `right` that is not zero, exactly."""
    number_type(left, "division")
    amount = literal_amount(right)
    if amount is None or amount == 0:
        raise QueryError(
            "division is by a literal number that is not zero",
            hint="ask for the two totals as two columns and divide the answers",
            code="input.query.division",
        )
    return _by_literal(left, 1 / amount)


def negate(expr: Expr) -> Expr:
    """Return `-expr`."""
    of = number_type(expr, "negation")
    amount = literal_amount(expr)
    if amount is not None:
        return number(-amount)
    return Expr(Op.NEGATE, (expr,), _number_type(-of.upper, -of.lower, of.resolution), expr.nullable)


def absolute(expr: Expr) -> Expr:
    """Return `ABS(expr)`."""
    of = number_type(expr, "ABS")
    lower = 0 if of.lower <= 0 <= of.upper else min(abs(of.lower), abs(of.upper))
    upper = max(abs(of.lower), abs(of.upper))
    return Expr(Op.ABSOLUTE, (expr,), _number_type(lower, upper, of.resolution), expr.nullable)


def extreme(op: Op, args: Sequence[Expr]) -> Expr:
    """Return `LEAST` or `GREATEST` of numbers; NULL where any argument is NULL."""
    for argument in args:
        number_type(argument, op.value.upper())
    aligned = _aligned(args)
    types = [number_type(argument, op.value.upper()) for argument in aligned]
    choose = min if op is Op.LEAST else max
    of = _number_type(choose(t.lower for t in types), choose(t.upper for t in types), types[0].resolution)
    return Expr(op, tuple(aligned), of, any(argument.nullable for argument in aligned))


def floor(expr: Expr) -> Expr:
    """Return the largest whole number that is not above `expr`."""
    of = number_type(expr, "FLOOR")
    p, q = of.resolution.numerator, of.resolution.denominator
    _number_type(2 * of.lower * p, 2 * of.upper * p, Fraction(1))
    _check_factor(max(p, q))
    if q == 1:
        return _rescaled(expr, Fraction(1))
    whole = _number_type(of.lower * p // q, of.upper * p // q, Fraction(1))
    return Expr(Op.FLOOR, (expr,), whole, expr.nullable, f"{p}/{q}")


def coalesce(args: Sequence[Expr]) -> Expr:
    """Return the first argument that is not NULL."""
    aligned, of = _united(args, "COALESCE")
    return Expr(Op.COALESCE, tuple(aligned), of, all(argument.nullable for argument in aligned))


def case(branches: Sequence[tuple[Expr, Expr]], otherwise: Expr) -> Expr:
    """Return the result of the first branch whose condition is true."""
    for condition, _ in branches:
        check_truth(condition, "WHEN")
    results, of = _united([*(result for _, result in branches), otherwise], "CASE")
    args = [part for (condition, _), result in zip(branches, results, strict=False) for part in (condition, result)]
    return Expr(Op.CASE, (*args, results[-1]), of, any(result.nullable for result in results))


def date_part(part: str, expr: Expr) -> Expr:
    """Return the year, quarter, month, day or ISO day of the week of a date."""
    of = _date_type(expr, part.upper())
    lower, upper = part_range(part, of.lower, of.upper)
    return Expr(Op.DATE_PART, (expr,), NumberType(lower, upper, Fraction(1)), expr.nullable, part)


def date_start(step: str, expr: Expr) -> Expr:
    """Return the first day of the week, month, quarter or year of a date."""
    of = _date_type(expr, "date_trunc")
    lower, upper = start_of(step, of.lower), start_of(step, of.upper)
    return Expr(Op.DATE_START, (expr,), DateType(lower, upper, step), expr.nullable, step)


def _date_type(expr: Expr, what: str) -> DateType:
    if isinstance(expr.type, DateType):
        return expr.type
    raise type_error(f"{what} needs a date, got {type_name(expr.type)}", "use a column of kind date")


def check_truth(expr: Expr, what: str) -> None:
    """Refuse an expression that is not a condition."""
    if not isinstance(expr.type, TruthType):
        raise type_error(
            f"{what} needs a condition, got {type_name(expr.type)}", "write a comparison, as in `age >= 18`"
        )


def compare(op: Op, left: Expr, right: Expr) -> Expr:
    """Return `left = right`, `left < right` or `left <= right`."""
    (left, right), of = _united((left, right), "a comparison")
    if isinstance(left.type, NothingType) or isinstance(right.type, NothingType):
        raise type_error("a comparison with NULL is never true", "write IS NULL or IS NOT NULL")
    if op is not Op.EQUAL and isinstance(of, (TextType, TruthType)):
        raise type_error(f"{type_name(of)} has no order here", "compare with =, <> or IN; order numbers and dates")
    return Expr(op, (left, right), TRUTH, left.nullable or right.nullable)


def both(op: Op, args: Sequence[Expr]) -> Expr:
    """Return the AND or the OR of conditions."""
    for argument in args:
        check_truth(argument, op.value.upper())
    return args[0] if len(args) == 1 else Expr(op, tuple(args), TRUTH, any(argument.nullable for argument in args))


def negated(expr: Expr) -> Expr:
    """Return `NOT expr`."""
    check_truth(expr, "NOT")
    return Expr(Op.NOT, (expr,), TRUTH, expr.nullable)


def is_null(expr: Expr) -> Expr:
    """Return `expr IS NULL`."""
    return Expr(Op.IS_NULL, (expr,), TRUTH, nullable=False)


def one_of(expr: Expr, values: Sequence[Expr]) -> Expr:
    """Return `expr IN (values)`: equality with one of them."""
    if isinstance(expr.type, TextType) and all(isinstance(value.value, str) for value in values):
        texts = tuple(sorted({str(value.value) for value in values}))
        return Expr(Op.IN, (expr,), TRUTH, expr.nullable, texts)
    return both(Op.OR, [compare(Op.EQUAL, expr, value) for value in values])


def prefix(expr: Expr, start: str) -> Expr:
    """Return whether a text starts with `start`."""
    if not isinstance(expr.type, TextType):
        raise type_error(f"LIKE needs a text, got {type_name(expr.type)}", "compare numbers and dates with <, = or >")
    return Expr(Op.PREFIX, (expr,), TRUTH, expr.nullable, start)


def _check_factor(factor: int) -> None:
    if factor >= 2**62:
        raise BoundError(
            "two resolutions are further apart than 62 bits",
            hint="use literals nearer to one",
            code="privacy.bound.resolution",
        )


def _number_type(lower: int, upper: int, resolution: Fraction) -> NumberType:
    if max(abs(lower), abs(upper)) >= WIDEST:
        raise BoundError(
            "an expression can grow beyond 126 bits",
            hint="narrow its columns first, as in LEAST(GREATEST(x, 0), 1000)",
            code="privacy.bound.overflow",
        )
    if not _FINEST <= resolution <= 1 / _FINEST:
        raise BoundError(
            "the resolution of an expression is beyond 1e-60 or 1e60",
            hint="use literals nearer to one",
            code="privacy.bound.resolution",
        )
    return NumberType(lower, upper, resolution)


def _common(resolutions: Sequence[Fraction]) -> Fraction:
    denominator = math.lcm(*(resolution.denominator for resolution in resolutions))
    whole = math.gcd(*(int(resolution * denominator) for resolution in resolutions))
    return Fraction(whole, denominator)


def _rescaled(expr: Expr, resolution: Fraction) -> Expr:
    of = number_type(expr, "a number")
    amount = literal_amount(expr)
    if amount is not None:
        steps = int(amount / resolution)
        return Expr(Op.LITERAL, (), _number_type(steps, steps, resolution), nullable=False, value=steps)
    factor = int(of.resolution / resolution)
    if factor == 1:
        return expr
    _check_factor(factor)
    scaled = _number_type(of.lower * factor, of.upper * factor, resolution)
    return Expr(Op.SCALE, (expr,), scaled, expr.nullable, factor)


def _aligned(args: Sequence[Expr]) -> list[Expr]:
    """Bring numbers to one resolution; a literal zero fits any."""
    resolutions = [
        argument.type.resolution
        for argument in args
        if isinstance(argument.type, NumberType) and literal_amount(argument) != 0
    ]
    common = _common(resolutions) if resolutions else Fraction(1)
    return [_rescaled(argument, common) for argument in args]


def _united(args: Sequence[Expr], what: str) -> tuple[list[Expr], ValueType]:
    """Bring arguments to one type; NULL fits any."""
    typed = [argument for argument in args if not isinstance(argument.type, NothingType)]
    if not typed:
        return list(args), NothingType()
    for one, other in pairwise(typed):
        if type(one.type) is not type(other.type):
            raise type_error(
                f"{what} mixes {type_name(one.type)} and {type_name(other.type)}",
                mixed_hint(type_name(one.type), type_name(other.type)),
            )
    if isinstance(typed[0].type, NumberType):
        aligned = iter(_aligned(typed))
        args = [a if isinstance(a.type, NothingType) else next(aligned) for a in args]
        typed = [a for a in args if not isinstance(a.type, NothingType)]
    return list(args), _union([argument.type for argument in typed])


def _union(types: Sequence[ValueType]) -> ValueType:
    numbers = [of for of in types if isinstance(of, NumberType)]
    if numbers:
        return NumberType(min(n.lower for n in numbers), max(n.upper for n in numbers), numbers[0].resolution)
    dates = [of for of in types if isinstance(of, DateType)]
    if dates:
        steps = {of.step for of in dates}
        step = steps.pop() if len(steps) == 1 else "day"
        return DateType(min(d.lower for d in dates), max(d.upper for d in dates), step)
    texts = [of for of in types if isinstance(of, TextType)]
    if texts:
        if any(of.domain is None for of in texts):
            return TextType()
        return TextType(tuple(dict.fromkeys(value for of in texts for value in of.domain or ())))
    return TRUTH
