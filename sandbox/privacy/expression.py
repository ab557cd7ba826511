"""Translate the expressions of one row from sqlglot's tree into the algebra, type by type.

The table of translators is closed: a node of any other type is refused, and so is a known node with an argument that
its translator does not read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, NoReturn

from sqlglot import exp

from sandbox.errors import BoundError, ExactError, QueryError
from sandbox.model.description import DatasetDescription, sealed_text
from sandbox.model.exact import parse_exact
from sandbox.privacy import build
from sandbox.privacy.algebra import DateType, Expr, Op, TextType
from sandbox.privacy.calendar import FIRST_DAY, LAST_DAY, PARTS, STEPS, parse_day
from sandbox.privacy.hints import STEP, refusal_of, rewrite_of
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.sides import Side, name_in_join, unknown_column

MAX_DEPTH = 60
MAX_TEXT = 200  # A row may carry it as a key: long ones times many rows would exhaust the engine, and so count them.
FUNCTIONS = "ABS, LEAST, GREATEST, COALESCE, FLOOR, CEIL, YEAR, QUARTER, MONTH, DAY, ISODOW, DATE_TRUNC, CASE"

_AGGREGATES = (exp.AggFunc, exp.CountIf)
_PARTS: dict[type[exp.Expr], str] = {
    exp.Year: "year",
    exp.Quarter: "quarter",
    exp.Month: "month",
    exp.Day: "day",
    exp.DayOfWeekIso: "isodow",
}


@dataclass(slots=True)
class Translator:
    """Translates expressions over one table.

    Attributes:
        text: the question.
        description: the table.
        names: the names that may qualify a column.
        present: columns that the WHERE keeps only where they are not NULL.
        joined: name of a public table to its columns, as expressions of a row.
        sides: both sides where the table is a join.
    """

    text: Text
    description: DatasetDescription
    names: frozenset[str]
    present: frozenset[str] = frozenset()
    joined: dict[str, dict[str, Expr]] = field(default_factory=dict)
    sides: tuple[Side, ...] = ()
    _depth: int = field(default=0)

    def translate(self, node: exp.Expr) -> Expr:
        """Return the expression that `node` writes, or refuse it with its place."""
        translator = self._translators.get(type(node))
        if translator is None:
            self._refuse_unknown(node)
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise self.text.refusal(
                    node,
                    "too_deep",
                    f"an expression is nested deeper than {MAX_DEPTH}",
                    "split it into simpler questions",
                )
            return translator(self, node)
        except (QueryError, BoundError) as error:
            raise self.text.placed(error, node) from None
        finally:
            self._depth -= 1

    def condition(self, node: exp.Expr) -> Expr:
        """Return the condition that `node` writes."""
        expr = self.translate(node)
        try:
            build.check_truth(expr, "a condition")
        except QueryError as error:
            raise self.text.placed(error, node) from None
        return expr

    def _refuse_unknown(self, node: exp.Expr) -> NoReturn:
        if (known := refusal_of(node)) is not None:
            raise self.text.refusal(node, *known)
        if isinstance(node, _AGGREGATES):
            raise self.text.refusal(
                node,
                "aggregate_place",
                "an aggregate cannot stand inside a function, another aggregate, a WHERE or a GROUP BY",
                "only + - * / may stand between aggregates: compute with the answers; filter groups with HAVING",
            )
        if isinstance(node, exp.Func):
            name = self.text.called(node)
            if (inside := node.find(*_AGGREGATES)) is not None:
                self._refuse_unknown(inside)
            message = f"the function `{name[:40]}` is not in the language"
            raise self.text.refusal(node, "unknown_function", message, rewrite_of(name, FUNCTIONS))
        raise self.text.refusal(node, "feature", "this is not in the language", "see docs/reference/sql.md for what is")

    def _column(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "table")
        if not isinstance(node.this, exp.Identifier):
            raise self.text.refusal(node, "raw_rows", "`*` would release rows", "name what you want to know")
        name = str(node.this.this).lower()
        qualifier = node.text("table").lower() or None
        if (found := self._joined_column(name, qualifier)) is not None:
            return found
        if qualifier is not None and qualifier not in self.names:
            raise self.text.refusal(
                node,
                "unknown_table",
                f"there is no table `{node.text('table')}` here",
                "use the name that stands after FROM",
            )
        if name in self.hidden:
            raise self.text.refusal(node, "unit_column", f"`{name}` names a unit and cannot be asked", "leave it out")
        if self.sides:
            name = name_in_join(self.text, self.sides, node, (qualifier, name), self.description.unit.sql_name)
        if name == self.description.unit.sql_name:
            raise self.text.refusal(
                node,
                "unit_column",
                f"`{name}` names the {self.description.unit.kind} and can only be counted",
                f"write COUNT(DISTINCT {name})",
            )
        described = None if name.startswith("_") else self.description.column(name)
        if described is None:
            raise unknown_column(self.text, node, name, [column.name for column in self.description.columns])
        return build.column(described, nullable=described.nullable and name not in self.present)

    @property
    def hidden(self) -> set[str]:
        """The columns of further units, which no question reads."""
        return {other.column.lower() for other in self.description.also_protects}

    def has_column(self, name: str) -> bool:
        """Return whether a bare name is a column of the table, or of a side of it, or names the unit."""
        named = any(name in side.columns or name == side.unit for side in self.sides)
        return named or self.description.column(name) is not None or name == self.description.unit.sql_name

    def _joined_column(self, name: str, table: str | None) -> Expr | None:
        if table is None and self.has_column(name):
            return None
        places = [self.joined[table]] if table in self.joined else list(self.joined.values()) if table is None else []
        return next((columns[name] for columns in places if name in columns), None)

    def _literal(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "is_string")
        if node.args["is_string"]:
            if len(str(node.this)) > MAX_TEXT:
                raise self.text.refusal(node, "literal", f"a text is longer than {MAX_TEXT}", "write a shorter one")
            return build.text(str(node.this))
        return build.number(self.amount(node))

    def amount(self, node: exp.Expr) -> Fraction:
        """Return the exact amount of a number literal."""
        try:
            return parse_exact(str(node.this).replace("_", ""))
        except ExactError:
            raise self.text.refusal(
                node, "literal", "this number cannot be read exactly", "write it like 3, 0.05 or 1e-7"
            ) from None

    def _date(self, node: exp.Expr) -> Expr:
        inner = node.this
        of = node.args.get("to")
        is_date = isinstance(of, exp.DataType) and of.this is exp.DataType.Type.DATE
        if not is_date or not isinstance(inner, exp.Literal) or not inner.is_string:
            self._refuse_unknown(node)
        return self.day(inner)

    def day(self, node: exp.Expr) -> Expr:
        """Return the date that a text literal writes."""
        day = parse_day(str(node.this))
        if day is None or not FIRST_DAY <= day <= LAST_DAY:
            raise self.text.refusal(node, "literal", "this is not a date", "write it as DATE '2026-01-31'")
        return build.date(day)

    def _binary(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expression")
        left, right = self.translate(node.this), self.translate(node.expression)
        match node:
            case exp.Add():
                return build.add(left, right)
            case exp.Sub() if isinstance(right.type, DateType):
                raise self.text.refusal(node, "type", "days are not subtracted", rewrite_of("DATEDIFF", FUNCTIONS))
            case exp.Sub():
                return build.add(left, build.negate(right))
            case exp.Mul():
                return build.multiply(left, right)
            case _:
                return build.divide(left, right)

    def _comparison(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expression")
        left, right = self._pair(node.this, node.expression)
        match node:
            case exp.EQ():
                return build.compare(Op.EQUAL, left, right)
            case exp.NEQ():
                return build.negated(build.compare(Op.EQUAL, left, right))
            case exp.LT():
                return build.compare(Op.LESS, left, right)
            case exp.LTE():
                return build.compare(Op.LESS_EQUAL, left, right)
            case exp.GT():
                return build.compare(Op.LESS, right, left)
            case _:
                return build.compare(Op.LESS_EQUAL, right, left)

    def _pair(self, left_node: exp.Expr, right_node: exp.Expr) -> tuple[Expr, Expr]:
        left, right = self.translate(left_node), self.translate(right_node)
        return self.meeting(left, left_node, right), self.meeting(right, right_node, left)

    def meeting(self, expr: Expr, node: exp.Expr, other: Expr) -> Expr:
        """Read a text literal as a date beside a date, and check it against the domain beside a category."""
        if expr.op is not Op.LITERAL or not isinstance(expr.value, str):
            return expr
        if isinstance(other.type, DateType):
            return self.day(node.unnest())
        if isinstance(other.type, TextType) and other.type.domain is not None and expr.value not in other.type.domain:
            some = ", ".join(f"'{value}'" for value in other.type.domain[:30])
            raise self.text.refusal(
                node, "unknown_value", f"`{expr.value[:64]}` is not one of the column's values", f"they are {some}"
            )
        if other.op is Op.COLUMN and (plain := sealed_text(expr.value)) != expr.value:
            raise self.text.refusal(node, "unknown_value", "texts are sealed without spaces around", f"write '{plain}'")
        return expr

    def _logic(self, node: exp.Expr) -> Expr:
        kind, parts, rest = type(node), [], node
        while type(rest) is kind:
            known_arguments(self.text, rest, "this", "expression")
            parts.append(rest.expression)
            rest = rest.this
        parts.append(rest)
        conditions = [self.condition(part) for part in reversed(parts)]
        return build.both(Op.AND if kind is exp.And else Op.OR, conditions)

    def _not(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this")
        return build.negated(self.condition(node.this))

    def _is(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expression")
        expr = self.translate(node.this)
        if isinstance(node.expression, exp.Null):
            return build.is_null(expr)
        if isinstance(node.expression, exp.Boolean):
            build.check_truth(expr, "IS TRUE")
            held = expr if node.expression.this else build.negated(expr)
            return build.both(Op.AND, [held, build.negated(build.is_null(expr))]) if expr.nullable else held
        raise self.text.refusal(
            node, "feature", "IS is followed by NULL, TRUE or FALSE", "write IS NULL, or compare with ="
        )

    def _between(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "low", "high")
        low_expr, low = self._pair(node.this, node.args["low"])
        high_expr, high = self._pair(node.this, node.args["high"])
        return build.both(
            Op.AND,
            [build.compare(Op.LESS_EQUAL, low, low_expr), build.compare(Op.LESS_EQUAL, high_expr, high)],
        )

    def _in(self, node: exp.Expr) -> Expr:
        if node.args.get("query") is not None:
            raise self.text.refusal(node, "subquery", "IN takes a list of values", f"write IN ('a', 'b'); {STEP}")
        known_arguments(self.text, node, "this", "expressions")
        expr = self.translate(node.this)
        values = []
        for item in node.expressions:
            value = self.meeting(self.translate(item), item, expr)
            if value.op is not Op.LITERAL or value.nullable:
                hint = "write IN ('a', 'b'), and OR x IS NULL beside it for NULL"
                raise self.text.refusal(item, "literal", "IN takes literal values", hint)
            values.append(value)
        if not values:
            raise self.text.refusal(node, "literal", "IN needs at least one value", "write IN ('a', 'b')")
        return build.one_of(expr, values)

    def _like(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expression", "negate")
        expr = self.translate(node.this)
        pattern = str(node.expression.this) if isinstance(node.expression, exp.Literal) else None
        if pattern is None or not pattern.endswith("%") or any(c in pattern[:-1] for c in "%_\\"):
            raise self.text.refusal(
                node.expression, "like", "LIKE takes a prefix and one `%` at its end", "write LIKE 'abc%', or use ="
            )
        held = build.prefix(expr, pattern[:-1])
        return build.negated(held) if node.args.get("negate") else held

    def _case(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "ifs", "default")
        subject = node.args.get("this")
        branches = []
        for branch in node.args["ifs"]:
            known_arguments(self.text, branch, "this", "true")
            if subject is None:
                condition = self.condition(branch.this)
            else:
                condition = build.compare(Op.EQUAL, *self._pair(subject, branch.this))
            branches.append((condition, self.translate(branch.args["true"])))
        otherwise = node.args.get("default")
        return build.case(branches, build.nothing() if otherwise is None else self.translate(otherwise))

    def _if(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "true", "false")
        otherwise = node.args.get("false")
        return build.case(
            [(self.condition(node.this), self.translate(node.args["true"]))],
            build.nothing() if otherwise is None else self.translate(otherwise),
        )

    def _function(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expressions")
        args = [self.translate(argument) for argument in (node.this, *node.expressions)]
        match node:
            case exp.Least():
                return build.extreme(Op.LEAST, args)
            case exp.Greatest():
                return build.extreme(Op.GREATEST, args)
            case exp.Coalesce():
                return build.coalesce(args)
            case exp.Abs():
                return build.absolute(args[0])
            case exp.Floor():
                return build.floor(args[0])
            case exp.Ceil():
                return build.negate(build.floor(build.negate(args[0])))
            case _:
                return build.negate(args[0])

    def _date_part(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this")
        return build.date_part(_PARTS[type(node)], self.translate(node.this))

    def _extract(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "expression")
        part = str(node.this.this).lower()
        if part not in PARTS:
            raise self.text.refusal(
                node, "unknown_function", "EXTRACT of this part is not known", f"use {', '.join(PARTS)}"
            )
        return build.date_part(part, self.translate(node.expression))

    def _date_start(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this", "unit", "unabbreviate", "input_type_preserved")
        step = str(node.args["unit"].this).lower()
        if step not in STEPS[1:]:
            raise self.text.refusal(
                node, "unknown_function", "DATE_TRUNC to this step is not known", f"use {', '.join(STEPS[1:])}"
            )
        return build.date_start(step, self.translate(node.this))

    def _paren(self, node: exp.Expr) -> Expr:
        known_arguments(self.text, node, "this")
        return self.translate(node.this)

    def _boolean(self, node: exp.Expr) -> Expr:
        return build.truth(bool(node.this))

    def _null(self, _node: exp.Expr) -> Expr:
        return build.nothing()

    _translators: ClassVar[dict[type[exp.Expr], Callable[[Any, exp.Expr], Expr]]] = {
        exp.Column: _column,
        exp.Literal: _literal,
        exp.Boolean: _boolean,
        exp.Null: _null,
        exp.Paren: _paren,
        exp.Cast: _date,
        exp.Neg: _function,
        **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div), _binary),
        **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _comparison),
        **dict.fromkeys((exp.And, exp.Or), _logic),
        exp.Not: _not,
        exp.Is: _is,
        exp.Between: _between,
        exp.In: _in,
        exp.Like: _like,
        exp.Case: _case,
        exp.If: _if,
        **dict.fromkeys((exp.Least, exp.Greatest, exp.Coalesce, exp.Abs, exp.Floor, exp.Ceil), _function),
        **dict.fromkeys(_PARTS, _date_part),
        exp.Extract: _extract,
        exp.TimestampTrunc: _date_start,
        exp.DateTrunc: _date_start,
    }
