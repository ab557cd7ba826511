"""The first step of a two-step question: one row for each unit, computed from the unit's own rows.

`WITH p AS (SELECT patient, COUNT(*) AS visits FROM visits GROUP BY patient) SELECT AVG(visits) FROM p`: the inner
SELECT groups by the unit (and perhaps by more), so every row that it gives belongs to one unit and depends on that unit
alone.  The outer SELECT is then a question over a table like any other, in which a unit has one row, or with more keys
a few that are bounded as usual (`docs/proofs/step.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from sqlglot import exp

from sandbox.errors import BoundError, QueryError
from sandbox.model.description import Column, ColumnKind, DatasetDescription, DomainValue
from sandbox.model.unit import ContributionBound
from sandbox.privacy import build
from sandbox.privacy.aggregates import bare, is_aggregate
from sandbox.privacy.algebra import DateType, Expr, NumberType, TextType, TruthType, column_names, present_columns
from sandbox.privacy.build import INT64_LOWER, INT64_UPPER
from sandbox.privacy.expression import Translator
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.render import clamp, integer, quote_name, render

MAX_KEYS = 10

Made = tuple[str, NumberType, bool]
"""SQL of one value, its type, and whether it can be NULL."""


@dataclass(frozen=True, slots=True)
class UnitStep:
    """A checked first step.

    Attributes:
        base: the table whose rows it reads.
        table: what it gives, described as a table is.
        made: name of an output to its SQL and the columns that it reads.
        keys: the outputs that it groups by beside the unit.
        filter: which rows count, or None for all.
    """

    base: DatasetDescription
    table: DatasetDescription
    made: tuple[tuple[str, str, frozenset[str]], ...]
    keys: tuple[str, ...]
    filter: Expr | None

    def reads(self, used: frozenset[str]) -> frozenset[str]:
        """Return the columns of the base table that the used outputs and the filter read."""
        found = frozenset() if self.filter is None else column_names(self.filter)
        return found.union(*(columns for name, _, columns in self.made if name in used or name in self.keys))

    def sql(self, used: frozenset[str], partition: str = "t") -> str:
        """Return the statement that makes the rows of the used outputs from a partition."""
        kept = [(name, sql) for name, sql, _ in self.made if name in used or name in self.keys]
        inner = {name: f"_s{index}" for index, (name, _) in enumerate(kept)}
        rank = "CAST(1 AS BIGINT)"
        if self.keys:
            rank = "row_number() OVER (PARTITION BY _unit ORDER BY min(_rank))"
        computed = ", ".join(["_unit", f"{rank} AS _step", *(f"{sql} AS {inner[name]}" for name, sql in kept)])
        groups = ", ".join(["_unit", *(sql for name, sql in kept if name in self.keys)])
        where = "" if self.filter is None else f" WHERE {render(self.filter)}"
        # Outputs are named outside, so that no name of the question can stand for a column inside.
        shown = ", ".join(["_unit", "_step AS _rank", *(f"{inner[name]} AS {quote_name(name)}" for name, _ in kept)])
        return f"SELECT {shown} FROM (SELECT {computed} FROM {partition}{where} GROUP BY {groups})"  # noqa: S608 (our own SQL)


def read_step(
    text: Text, select: exp.Select, name: str, base: DatasetDescription, names: frozenset[str], bound: ContributionBound
) -> UnitStep:
    """Return the first step that an inner SELECT over a table writes.

    Args:
        text: the question.
        select: the inner SELECT.
        name: what the outer SELECT calls it.
        base: the table it reads.
        names: what may qualify its columns.
        bound: the contribution bound that holds: totals are held within what so many rows could bring.

    Raises:
        QueryError, BoundError: it is no such step; it reads a join.
    """
    if joins := select.args.get("joins"):
        raise text.refusal(
            joins[0],
            "feature",
            "a first step reads one table",
            "make a step of each table and join those, as in WITH p AS (…), q AS (…) … FROM p JOIN q "
            f"USING ({base.unit.sql_name})",
        )
    if having := select.args.get("having"):
        hint = "name what is compared, and filter units in the second step: … WHERE n > 3"
        raise text.refusal(having, "feature", "a first step has no HAVING", hint)
    known_arguments(text, select, "expressions", "from_", "where", "group")
    return _StepReader(text, select, name, base, Translator(text, base, names), bound).read()


@dataclass(slots=True)
class _StepReader:
    text: Text
    select: exp.Select
    name: str
    base: DatasetDescription
    translator: Translator
    bound: ContributionBound

    def read(self) -> UnitStep:
        where = self.select.args.get("where")
        filtered = None
        if where is not None:
            filtered = self.translator.condition(where.this)
            self.translator.present = present_columns(filtered)
        keys = self._keys()
        columns: list[Column] = []
        made: list[tuple[str, str, frozenset[str]]] = []
        named: list[str] = []
        for node in self.select.expressions:
            alias = node.alias if isinstance(node, exp.Alias) else None
            inner = bare(node.this if isinstance(node, exp.Alias) else node)
            if self._is_unit(inner):
                continue
            name = (alias or (inner.name if isinstance(inner, exp.Column) else "")).lower()
            if not name.isidentifier() or name.startswith("_") or name in {c.name for c in columns}:
                raise self.text.refusal(
                    node, "name", "every column of the first step needs a name of its own", "add AS"
                )
            if isinstance(inner, (exp.Min, exp.Max)) and (ordered := self._ordered(inner)) is not None:
                made.append((name, f"{inner.key}({render(ordered)})", column_names(ordered)))
                columns.append(_key_column(name, ordered))
                continue
            if is_aggregate(inner):
                sql, of, nullable, read = self._aggregate(inner)
                made.append((name, f"CAST({clamp(sql, of)} AS BIGINT)", read))
                columns.append(_number_column(name, of, nullable=nullable))
                continue
            if inner.find(exp.AggFunc) is not None:
                raise self.text.refusal(
                    node,
                    "aggregate_place",
                    "the aggregates of a first step stand by themselves",
                    "give each a name and compute in the second step, as in SUM(s - 2 * n); AVG(x) is a unit's mean",
                )
            expr = self.translator.translate(inner)
            if expr not in keys:
                raise self.text.refusal(
                    node, "raw_rows", "this column is neither a group key nor an aggregate", "put it into GROUP BY"
                )
            self._check_stored(node, expr)
            made.append((name, render(expr), column_names(expr)))
            columns.append(_key_column(name, expr))
            named.append(name)
        if not columns:
            raise self.text.refusal(self.select, "raw_rows", "the first step gives no column", "add COUNT(*) AS n")
        bound = self.bound if keys else ContributionBound(1, 1)
        if len(keys) > MAX_KEYS:
            raise self.text.refusal(
                self.select, "group_key", f"there are more than {MAX_KEYS} group keys", "ask several questions"
            )
        if len(named) < len(keys):
            raise self.text.refusal(self.select, "group_key", "a group key is not selected", "select it, with a name")
        table = replace(self.base, table=self.name, columns=tuple(columns), bound=bound)
        return UnitStep(self.base, table, tuple(made), tuple(named), filtered)

    def _is_unit(self, node: exp.Expr) -> bool:
        return isinstance(node, exp.Column) and node.name.lower() == self.base.unit.sql_name

    def _keys(self) -> list[Expr]:
        group = self.select.args.get("group")
        nodes = [] if group is None else list(group.expressions)
        if group is not None:
            if group.args.get("all"):
                raise self.text.refusal(
                    self.select, "group_key", "a first step names its keys", f"write GROUP BY {self.base.unit.column}"
                )
            known_arguments(self.text, group, "expressions")
        others = [node for node in nodes if not self._is_unit(bare(node))]
        if len(others) == len(nodes):
            unit = self.base.unit.column
            hint = f"write it as in SELECT {unit}, COUNT(*) AS n … GROUP BY {unit}"
            if not nodes and self.select.find(exp.AggFunc) is None:
                hint = f"to choose rows or columns alone ask the table: FROM {self.base.table} WHERE …; else {hint}"
            raise self.text.refusal(
                self.select, "subquery", f"the first step of a question groups by the {self.base.unit.kind}", hint
            )
        return [self.translator.translate(node) for node in others]

    def _check_stored(self, node: exp.Expr, key: Expr) -> None:
        """Refuse a key beyond 64 bits: the outer question takes every column to be within them."""
        if isinstance(key.type, NumberType) and not INT64_LOWER < key.type.lower <= key.type.upper < INT64_UPPER:
            error = BoundError(
                "a key of the first step could grow beyond 64 bits",
                hint="narrow it first, as in LEAST(GREATEST(x, 0), 1000)",
                code="privacy.bound.overflow",
            )
            raise self.text.placed(error, node)

    def _ordered(self, node: exp.Expr) -> Expr | None:
        """Return the argument of MIN or MAX where it is a text or a date, else None."""
        known_arguments(self.text, node, "this")
        expr = self.translator.translate(node.this)
        return expr if isinstance(expr.type, (TextType, DateType)) else None

    def _aggregate(self, node: exp.Expr) -> tuple[str, NumberType, bool, frozenset[str]]:
        condition = None
        if isinstance(node, exp.Filter):
            known_arguments(self.text, node, "this", "expression")
            condition, node = self.translator.condition(node.expression.this), node.this
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            argument: Expr = build.number(Fraction(1))
        else:
            inner = node.this
            if isinstance(node, exp.Count) and isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
                inner = inner.expressions[0]
            maker = _MAKERS.get(type(node))
            if maker is None or not isinstance(inner, exp.Expr):
                raise self.text.refusal(
                    node,
                    "unknown_function",
                    "this aggregate is not in the language of a first step",
                    _OF_TRUTH.get(self.text.called(node), f"known are {KNOWN}"),
                )
            known_arguments(self.text, node, "this", "expressions")
            argument = self.translator.translate(inner)
        if condition is not None:
            argument = build.case([(condition, argument)], build.nothing())
        try:
            sql, of, nullable = self._made(node, argument)
        except (QueryError, BoundError) as error:
            raise self.text.placed(error, node) from None
        return sql, of, nullable, column_names(argument)

    def _made(self, node: exp.Expr, argument: Expr) -> Made:
        top = self.bound.rows
        if isinstance(node, exp.Count):
            distinct = "DISTINCT " if isinstance(node.this, exp.Distinct) else ""
            counted = "*" if not argument.nullable and not distinct else f"{distinct}{render(argument)}"
            least = 0 if argument.nullable else 1
            return f"count({counted})", NumberType(least, top, Fraction(1)), False
        name = node.sql_name() if isinstance(node, exp.Func) else "an aggregate"
        if isinstance(argument.type, TruthType):
            raise build.type_error(f"{name} needs a number, got a truth value", f"write {name}{_TRUE_AS_ONE}")
        of = build.number_type(argument, name)
        _check_room(of, max(top, self.base.max_rows))
        value = f"CAST({clamp(render(argument), of)} AS BIGINT)"
        return (*_MAKERS[type(node)](value, of, top), argument.nullable)


def _check_room(of: NumberType, rows: int) -> None:
    if max(abs(of.lower), abs(of.upper), of.upper - of.lower) * rows >= 2**62:
        raise BoundError(
            "a total could grow beyond 62 bits",
            hint="narrow the values first, as in SUM(LEAST(GREATEST(x, 0), 1000))",
            code="privacy.bound.overflow",
        )


def _sum(value: str, of: NumberType, rows: int) -> tuple[str, NumberType]:
    low, high = min(of.lower, of.lower * rows), max(of.upper, of.upper * rows)
    return f"sum({value})", NumberType(low, high, of.resolution)


def _mean(value: str, of: NumberType, _rows: int) -> tuple[str, NumberType]:
    # `//` truncates, so values are shifted above zero first; the divisor is never zero, whatever is NULL.
    shifted = f"sum({value} - {integer(of.lower)}) // greatest(count({value}), 1)"
    return f"({shifted} + {integer(of.lower)})", of


def _extreme(name: str) -> Callable[[str, NumberType, int], tuple[str, NumberType]]:
    return lambda value, of, _rows: (f"{name}({value})", of)


def _counted(_value: str, of: NumberType, _rows: int) -> tuple[str, NumberType]:
    raise AssertionError(of)


_MAKERS: dict[type[exp.Expr], Callable[[str, NumberType, int], tuple[str, NumberType]]] = {
    exp.Count: _counted,
    exp.Sum: _sum,
    exp.Avg: _mean,
    exp.Min: _extreme("min"),
    exp.Max: _extreme("max"),
}
_TRUE_AS_ONE = "(CASE WHEN c THEN 1 ELSE 0 END)"
_OF_TRUTH = {
    name: f"write {extreme}{_TRUE_AS_ONE}"
    for one, extreme in (("bool_or", "MAX"), ("bool_and", "MIN"))
    for name in (one, one.upper())
}
KNOWN = "COUNT, COUNT(DISTINCT x), SUM, AVG, MIN and MAX"


def _number_column(name: str, of: NumberType, *, nullable: bool) -> Column:
    kind = ColumnKind.INTEGER if of.resolution == 1 else ColumnKind.DECIMAL
    lower, upper = of.lower * of.resolution, of.upper * of.resolution
    return _column(name, kind, lower, upper, of.resolution, nullable=nullable)


def _key_column(name: str, expr: Expr) -> Column:
    match expr.type:
        case NumberType() as of:
            return _number_column(name, of, nullable=expr.nullable)
        case DateType(lower, upper):
            return _column(name, ColumnKind.DATE, Fraction(lower), Fraction(upper), None, nullable=expr.nullable)
        case TruthType():
            return _column(name, ColumnKind.BOOLEAN, None, None, None, nullable=expr.nullable)
        case TextType(domain) if domain is not None:
            values = tuple(DomainValue(value, value, value) for value in domain)
            return replace(_column(name, ColumnKind.CATEGORY, None, None, None, nullable=expr.nullable), domain=values)
        case _:
            return _column(name, ColumnKind.TEXT, None, None, None, nullable=expr.nullable)


def _column(
    name: str,
    kind: ColumnKind,
    lower: Fraction | None,
    upper: Fraction | None,
    resolution: Fraction | None,
    *,
    nullable: bool,
) -> Column:
    return Column(name, name, kind, name, name, "L3", nullable, (), lower, upper, resolution, None)
