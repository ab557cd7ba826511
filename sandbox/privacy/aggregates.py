"""Read aggregates, and arithmetic between them, from sqlglot's tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sqlglot import exp

from sandbox.errors import BoundError, QueryError
from sandbox.privacy import build
from sandbox.privacy.algebra import Expr, NumberType, TruthType
from sandbox.privacy.expression import Translator
from sandbox.privacy.moments import pair_of, product
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.query import Aggregate, AggregateKind, Formula, FormulaOp

MAX_FORMULA_DEPTH = 40
MAX_FORMULA_NODES = 5_000
"""Over one SELECT, with names written out: names that name names would grow without end."""
KNOWN = "COUNT, COUNT(DISTINCT unit), SUM, AVG, VARIANCE, STDDEV, COVAR_SAMP and CORR"
_MIN_MAX = (exp.Min, exp.Max, exp.ArgMax, exp.ArgMin, exp.First, exp.Last, exp.AnyValue, exp.IgnoreNulls)
_ONE: dict[type[exp.Expr], tuple[AggregateKind, bool]] = {
    exp.Variance: (AggregateKind.VARIANCE, False),
    exp.VariancePop: (AggregateKind.VARIANCE, True),
    exp.Stddev: (AggregateKind.DEVIATION, False),
    exp.StddevSamp: (AggregateKind.DEVIATION, False),
    exp.StddevPop: (AggregateKind.DEVIATION, True),
}
_TWO: dict[type[exp.Expr], tuple[AggregateKind, bool]] = {
    exp.CovarSamp: (AggregateKind.COVARIANCE, False),
    exp.CovarPop: (AggregateKind.COVARIANCE, True),
    exp.Corr: (AggregateKind.CORRELATION, True),
}
_ARITHMETIC: dict[type[exp.Expr], FormulaOp] = {
    exp.Add: FormulaOp.ADD,
    exp.Sub: FormulaOp.SUBTRACT,
    exp.Mul: FormulaOp.MULTIPLY,
    exp.Div: FormulaOp.DIVIDE,
}


def bare(node: exp.Expr) -> exp.Expr:
    """Return a node without the brackets around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def is_aggregate(node: exp.Expr) -> bool:
    """Return whether a node is one aggregate."""
    node = bare(node)
    if isinstance(node, (exp.Filter, exp.WithinGroup)):
        return True
    return isinstance(node, (exp.AggFunc, exp.CountIf, *_MIN_MAX)) and not isinstance(node, exp.Window)


@dataclass(slots=True)
class AggregateReader:
    """Reads the values of one SELECT and collects what they need.

    Attributes:
        text: the question.
        translator: for the arguments.
        unit: the column that names the unit, or None where it cannot be counted.
        max_rows: the public ceiling on rows.
        named: returns the node that an alias of the SELECT list stands for, or None.
        aggregates, formulas: what was found, each one once.
    """

    text: Text
    translator: Translator
    unit: str
    max_rows: int
    named: Callable[[exp.Expr], exp.Expr | None]
    aggregates: list[Aggregate] = field(default_factory=list)
    formulas: list[Formula] = field(default_factory=list)
    _depth: int = 0
    _nodes: int = 0

    def is_value(self, node: exp.Expr) -> bool:
        """Return whether a node is an aggregate or arithmetic with one in it."""
        return self._is_value(node, 0)

    def _is_value(self, node: exp.Expr, depth: int) -> bool:
        node = bare(node)
        self._count_node(node, depth)
        if is_aggregate(node):
            return True
        if type(node) in _ARITHMETIC:
            return self._is_value(node.this, depth + 1) or self._is_value(node.expression, depth + 1)
        if isinstance(node, exp.Neg):
            return self._is_value(node.this, depth + 1)
        named = self.named(node)
        return named is not None and self._is_value(named, depth + 1)

    def index(self, node: exp.Expr) -> int:
        """Return the index of the formula that a node writes, added if it is new."""
        formula = self._formula(node)
        if formula not in self.formulas:
            self.formulas.append(formula)
        return self.formulas.index(formula)

    def _count_node(self, node: exp.Expr, depth: int) -> None:
        self._nodes += 1
        if depth > MAX_FORMULA_DEPTH or self._nodes > MAX_FORMULA_NODES:
            raise self.text.refusal(
                node, "too_deep", "arithmetic between aggregates is nested too deep", "compute with the answers"
            )

    def _formula(self, node: exp.Expr) -> Formula:
        node = bare(node)
        self._depth += 1
        try:
            self._count_node(node, self._depth)
            return self._read(node)
        finally:
            self._depth -= 1

    def _read(self, node: exp.Expr) -> Formula:
        if is_aggregate(node):
            aggregate = self.aggregate(node)
            if aggregate not in self.aggregates:
                self.aggregates.append(aggregate)
            return Formula(FormulaOp.AGGREGATE, index=self.aggregates.index(aggregate))
        if type(node) in _ARITHMETIC:
            known_arguments(self.text, node, "this", "expression")
            left, right = self._formula(node.this), self._formula(node.expression)
            op = _ARITHMETIC[type(node)]
            if op is FormulaOp.DIVIDE and right.op is FormulaOp.LITERAL and right.amount == 0:
                raise self.text.refusal(node, "division", "division by zero", "divide by something else")
            return _folded(op, left, right)
        if isinstance(node, exp.Neg):
            return _folded(
                FormulaOp.MULTIPLY, Formula(FormulaOp.LITERAL, amount=Fraction(-1)), self._formula(node.this)
            )
        if isinstance(node, exp.Literal) and not node.is_string:
            return Formula(FormulaOp.LITERAL, amount=self.translator.amount(node))
        named = self.named(node)
        if named is not None:
            return self._formula(named)
        raise self.text.refusal(
            node,
            "aggregate_place",
            "beside an aggregate only other aggregates and literal numbers may stand",
            "write it as in 100 * SUM(x) / COUNT(*)",
        )

    def aggregate(self, node: exp.Expr) -> Aggregate:
        """Return the aggregate that a node writes."""
        node = bare(node)
        if isinstance(node, exp.Filter):
            known_arguments(self.text, node, "this", "expression")
            condition = self.translator.condition(node.expression.this)
            return self._aggregate(node.this, condition)
        return self._aggregate(node, None)

    def _aggregate(self, node: exp.Expr, condition: Expr | None) -> Aggregate:
        if isinstance(node, _MIN_MAX):
            raise self.text.refusal(
                node,
                "minmax",
                "MIN, MAX and single values would release one row's value",
                "ask for AVG or MEDIAN, or for COUNT(*) by group of FLOOR(x / 10)",
            )
        if isinstance(node, exp.Count):
            return self._count(node, condition)
        if isinstance(node, (exp.Sum, exp.Avg)):
            known_arguments(self.text, node, "this")
            kind = AggregateKind.SUM if isinstance(node, exp.Sum) else AggregateKind.MEAN
            return Aggregate(kind, self._number(node, node.this, condition))
        if type(node) in _ONE:
            known_arguments(self.text, node, "this")
            kind, population = _ONE[type(node)]
            argument = self._number(node, node.this, condition)
            return self._of_moments(node, kind, (argument,), population=population)
        if type(node) in _TWO:
            known_arguments(self.text, node, "this", "expression")
            kind, population = _TWO[type(node)]
            pair = pair_of(self._number(node, node.this, condition), self._number(node, node.expression, condition))
            return self._of_moments(node, kind, pair, population=population)
        name = node.sql_name() if isinstance(node, exp.Func) else "this"
        raise self.text.refusal(
            node, "unknown_function", f"the aggregate `{name[:40]}` is not in the language", f"known are {KNOWN}"
        )

    def _of_moments(
        self, node: exp.Expr, kind: AggregateKind, values: Sequence[Expr], *, population: bool
    ) -> Aggregate:
        pairs = [(values[0], values[-1])]
        if kind is AggregateKind.CORRELATION:
            pairs += [(value, value) for value in values]
        try:
            products = tuple(product(left, right, self.max_rows) for left, right in pairs)
            for moment in products:
                self._check_size(build.number_type(moment, "a moment"))
        except (QueryError, BoundError) as error:
            raise self.text.placed(error, node) from None
        return Aggregate(kind, values[0], (*values, *products), population)

    def _number(self, node: exp.Expr, inner: exp.Expr, condition: Expr | None) -> Expr:
        if isinstance(inner, exp.Distinct):
            raise self.text.refusal(node, "distinct", "DISTINCT is only for counting units", "leave DISTINCT out")
        expr = self.translator.translate(inner)
        what = node.sql_name() if isinstance(node, exp.Func) else "an aggregate"
        if isinstance(expr.type, TruthType):
            hint = "write CASE WHEN condition THEN 1 ELSE 0 END"
            raise self.text.placed(build.type_error(f"{what} needs a number, got a truth value", hint), node)
        try:
            self._check_size(build.number_type(expr, what))
        except (QueryError, BoundError) as error:
            raise self.text.placed(error, node) from None
        return _kept(expr, condition)

    def _check_size(self, of: NumberType) -> None:
        largest = max(abs(of.lower), abs(of.upper), of.upper - of.lower)
        if largest * max(1, self.max_rows) >= 2**62:
            raise BoundError(
                "a total could grow beyond 62 bits",
                hint="narrow the values first, as in SUM(LEAST(GREATEST(x, 0), 1000))",
                code="privacy.bound.overflow",
            )

    def _count(self, node: exp.Count, condition: Expr | None) -> Aggregate:
        known_arguments(self.text, node, "this")
        if isinstance(node.this, exp.Star):
            if condition is None:
                return Aggregate(AggregateKind.COUNT)
            return Aggregate(AggregateKind.COUNT, _kept(build.number(Fraction(1)), condition))
        if not isinstance(node.this, exp.Distinct):
            expr = _kept(self.translator.translate(node.this), condition)
            return Aggregate(AggregateKind.COUNT, expr if expr.nullable else None)
        known_arguments(self.text, node.this, "expressions")
        inner = node.this.expressions
        if len(inner) == 1 and self.is_unit(inner[0]):
            if condition is not None:
                raise self.text.refusal(
                    node, "feature", "FILTER on a count of units is not in the language", "use WHERE"
                )
            return Aggregate(AggregateKind.UNITS)
        raise self.text.refusal(
            node, "distinct", "COUNT(DISTINCT …) counts units only", f"write COUNT(DISTINCT {self.unit}), or GROUP BY"
        )

    def is_unit(self, node: exp.Expr) -> bool:
        """Return whether a node is the column that names the unit."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return False
        table = node.args.get("table")
        return node.name.lower() == self.unit and (table is None or str(table.this).lower() in self.translator.names)


def _kept(expr: Expr, condition: Expr | None) -> Expr:
    return expr if condition is None else build.case([(condition, expr)], build.nothing())


def _folded(op: FormulaOp, left: Formula, right: Formula) -> Formula:
    """Return the formula, with arithmetic on two literals done at once."""
    if left.amount is None or right.amount is None:
        return Formula(op, (left, right))
    match op:
        case FormulaOp.ADD:
            amount = left.amount + right.amount
        case FormulaOp.SUBTRACT:
            amount = left.amount - right.amount
        case FormulaOp.MULTIPLY:
            amount = left.amount * right.amount
        case _:
            amount = left.amount / right.amount
    return Formula(FormulaOp.LITERAL, amount=amount)
