"""Write expressions as DuckDB SQL: quoted identifiers, literals encoded here, and no text of the question.

Columns are clamped where they are read, so every interval of the algebra holds for every table.  Integers are computed
in BIGINT where the interval proves that they fit and in HUGEINT elsewhere; casts between the two cannot fail.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.privacy.algebra import DateType, Expr, NumberType, Op, TextType, null_columns, parts_of
from sandbox.privacy.build import INT64_LOWER, INT64_UPPER
from sandbox.privacy.calendar import format_day


def quote_name(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text literal; characters that a reader could mistake are spelled by their code points."""
    if all(character.isprintable() and character != "\\" for character in text):
        return "'" + text.replace("'", "''") + "'"
    if not text:
        return "''"
    return "(" + " || ".join(f"chr({ord(c)})" for c in text) + ")"


def integer(value: int) -> str:
    """Return an integer literal of the narrowest of BIGINT and HUGEINT that holds it."""
    return f"CAST({value} AS {_width(value, value)})" if value >= 0 else f"(-{integer(-value)})"


def render(expr: Expr) -> str:
    """Return the SQL of an expression; numbers are integers in units of the expression's resolution."""
    return _RENDERERS[expr.op](expr)


def clamp(sql: str, of: NumberType) -> str:
    """Return `sql` held within an interval; NULL stays NULL."""
    low, high = integer(of.lower), integer(of.upper)
    return f"(CASE WHEN {sql} > {high} THEN {high} WHEN {sql} < {low} THEN {low} ELSE {sql} END)"


def as_text(expr: Expr, sql: str) -> str:
    """Return the SQL of a group key's canonical text."""
    return sql if isinstance(expr.type, TextType) else f"CAST({sql} AS VARCHAR)"


def _width(lower: int, upper: int) -> str:
    return "BIGINT" if lower > INT64_LOWER and upper <= INT64_UPPER else "HUGEINT"


def _width_of(expr: Expr) -> str:
    return _width(expr.type.lower, expr.type.upper) if isinstance(expr.type, NumberType) else ""


def _cast(expr: Expr, width: str) -> str:
    sql = render(expr)
    return sql if _width_of(expr) == width else f"CAST({sql} AS {width})"


def _widest(*exprs: Expr) -> str:
    return "HUGEINT" if "HUGEINT" in {_width_of(expr) for expr in exprs} else "BIGINT"


def _column(expr: Expr) -> str:
    name = quote_name(str(expr.value))
    match expr.type:
        case NumberType(lower, upper) as of:
            if upper - lower == INT64_UPPER - INT64_LOWER:
                return f"CAST({name} AS HUGEINT)"
            return clamp(name, of) if _width_of(expr) == "BIGINT" else clamp(f"CAST({name} AS HUGEINT)", of)
        case DateType(lower, upper):
            low, high = _day(lower), _day(upper)
            return f"(CASE WHEN {name} > {high} THEN {high} WHEN {name} < {low} THEN {low} ELSE {name} END)"
        case _:
            return name


def _day(day: int) -> str:
    return f"DATE '{format_day(day)}'"


def _literal(expr: Expr) -> str:
    match expr.value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if expr.value else "FALSE"
        case int():
            return _day(expr.value) if isinstance(expr.type, DateType) else integer(expr.value)
        case str():
            return quote_text(expr.value)
        case _:
            raise AssertionError("a literal holds one value")


def _binary(sign: str) -> Callable[[Expr], str]:
    def rendered(expr: Expr) -> str:
        width = _widest(expr, *expr.args)
        parts = [_cast(argument, width) for argument in expr.args]
        return _narrowed(expr, width, f"({f' {sign} '.join(parts)})")

    return rendered


def _narrowed(expr: Expr, width: str, sql: str) -> str:
    own = _width_of(expr)
    return sql if own == width else f"CAST({sql} AS {own})"


def _scale(expr: Expr) -> str:
    if expr.value == 1:
        return render(expr.args[0])
    width = _widest(expr, *expr.args)
    return _narrowed(expr, width, f"({_cast(expr.args[0], width)} * {integer(int(str(expr.value)))})")


def _negate(expr: Expr) -> str:
    width = _widest(expr, *expr.args)
    return _narrowed(expr, width, f"(-{_cast(expr.args[0], width)})")


def _absolute(expr: Expr) -> str:
    width = _widest(expr, *expr.args)
    return _narrowed(expr, width, f"abs({_cast(expr.args[0], width)})")


def _extreme(name: str) -> Callable[[Expr], str]:
    def rendered(expr: Expr) -> str:
        width = _widest(*expr.args)
        sql = f"{name}({', '.join(_cast(argument, width) for argument in expr.args)})"
        guards = [guard for argument in expr.args for guard in _null_guards(argument)]
        if guards:
            # DuckDB's own LEAST and GREATEST skip NULLs, so that a missing value would count as a bound.
            sql = f"(CASE WHEN {' OR '.join(guards)} THEN NULL ELSE {sql} END)"
        return _narrowed(expr, width, sql)

    return rendered


def _null_guards(expr: Expr) -> list[str]:
    if not expr.nullable:
        return []
    names = null_columns(expr)
    if names is None:
        return [f"{render(expr)} IS NULL"]
    return [f"{quote_name(name)} IS NULL" for name in sorted(names)]


def weight(expr: Expr) -> int:
    """Return about how many nodes the SQL of an expression has; `check.py` refuses what would grow without end."""
    known: dict[int, int] = {}
    for part in parts_of(expr):
        inner = sum(known[id(argument)] for argument in part.args)
        if part.op in {Op.LEAST, Op.GREATEST}:
            twice = [argument for argument in part.args if argument.nullable and null_columns(argument) is None]
            inner += sum(known[id(argument)] for argument in twice)
        known[id(part)] = 1 + inner
    return known[id(expr)]


def _coalesce(expr: Expr) -> str:
    width = _widest(*expr.args)
    parts = [_cast(a, width) if isinstance(a.type, NumberType) else render(a) for a in expr.args]
    sql = f"coalesce({', '.join(parts)})"
    return _narrowed(expr, width, sql) if isinstance(expr.type, NumberType) else sql


def _case(expr: Expr) -> str:
    results = [*expr.args[1:-1:2], expr.args[-1]]
    width = _widest(*results)
    shown = [_cast(r, width) if isinstance(r.type, NumberType) else render(r) for r in results]
    conditions = [render(condition) for condition in expr.args[0:-1:2]]
    whens = " ".join(f"WHEN {c} THEN {r}" for c, r in zip(conditions, shown, strict=False))
    sql = f"(CASE {whens} ELSE {shown[-1]} END)"
    return _narrowed(expr, width, sql) if isinstance(expr.type, NumberType) else sql


def _floor(expr: Expr) -> str:
    of = expr.args[0].type
    assert isinstance(of, NumberType)
    p, q = (int(part) for part in str(expr.value).split("/"))
    # `//` truncates, so the interval is shifted above zero first, by a multiple of q.
    steps = max(0, -(of.lower * p // q))
    top = of.upper * p + steps * q
    width = "BIGINT" if max(top, abs(of.lower * p), steps * q) <= INT64_UPPER // 2 else "HUGEINT"
    width = "HUGEINT" if _width_of(expr.args[0]) == "HUGEINT" else width
    shifted = f"({_cast(expr.args[0], width)} * {integer(p)} + {integer(steps * q)})"
    sql = f"(CAST({shifted} AS {width}) // CAST({q} AS {width}) - CAST({steps} AS {width}))"
    return _narrowed(expr, width, sql)


def _date_part(expr: Expr) -> str:
    return f"CAST({expr.value}({render(expr.args[0])}) AS BIGINT)"


def _date_start(expr: Expr) -> str:
    return f"CAST(date_trunc('{expr.value}', {render(expr.args[0])}) AS DATE)"


def _compare(sign: str) -> Callable[[Expr], str]:
    def rendered(expr: Expr) -> str:
        left, right = expr.args
        if isinstance(left.type, NumberType):
            width = _widest(left, right)
            return f"({_bare(left, width)} {sign} {_bare(right, width)})"
        return f"({_bare(left, '')} {sign} {_bare(right, '')})"

    return rendered


def _bare(expr: Expr, width: str) -> str:
    """Return a column as it is stored, for a comparison, which is total without a clamp; anything else as usual."""
    if expr.op is Op.SCALE and expr.value == 1:
        return _bare(expr.args[0], width)
    if expr.op is Op.COLUMN:
        return quote_name(str(expr.value))
    return _cast(expr, width) if width else render(expr)


def _logic(sign: str) -> Callable[[Expr], str]:
    def rendered(expr: Expr) -> str:
        return "(" + f" {sign} ".join(render(argument) for argument in expr.args) + ")"

    return rendered


def _not(expr: Expr) -> str:
    return f"(NOT {render(expr.args[0])})"


def render_is_null(expr: Expr) -> str:
    """Return the SQL of whether an expression is NULL."""
    return f"({_bare(expr, '')} IS NULL)"


def _is_null(expr: Expr) -> str:
    return render_is_null(expr.args[0])


def _in(expr: Expr) -> str:
    assert isinstance(expr.value, tuple)
    return f"({render(expr.args[0])} IN ({', '.join(quote_text(str(value)) for value in expr.value)}))"


def _prefix(expr: Expr) -> str:
    return f"starts_with({render(expr.args[0])}, {quote_text(str(expr.value))})"


_RENDERERS: dict[Op, Callable[[Expr], str]] = {
    Op.COLUMN: _column,
    Op.LITERAL: _literal,
    Op.ADD: _binary("+"),
    Op.MULTIPLY: _binary("*"),
    Op.SCALE: _scale,
    Op.NEGATE: _negate,
    Op.ABSOLUTE: _absolute,
    Op.LEAST: _extreme("least"),
    Op.GREATEST: _extreme("greatest"),
    Op.COALESCE: _coalesce,
    Op.CASE: _case,
    Op.FLOOR: _floor,
    Op.DATE_PART: _date_part,
    Op.DATE_START: _date_start,
    Op.EQUAL: _compare("="),
    Op.LESS: _compare("<"),
    Op.LESS_EQUAL: _compare("<="),
    Op.AND: _logic("AND"),
    Op.OR: _logic("OR"),
    Op.NOT: _not,
    Op.IS_NULL: _is_null,
    Op.IN: _in,
    Op.PREFIX: _prefix,
}
