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
from sandbox.privacy.hints import refusal_of, rewrite_of
from sandbox.privacy.histogram import LARGEST_DOMAIN
from sandbox.privacy.keys import key_domain
from sandbox.privacy.moments import pair_of, product
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.query import Aggregate, AggregateKind, Formula, FormulaOp
from sandbox.privacy.sides import counts_unit

MAX_FORMULA_DEPTH = 40
MAX_FORMULA_NODES = 5_000
"""Over one SELECT, with names written out: names that name names would grow without end."""
KNOWN = "COUNT, COUNT(DISTINCT x), SUM, AVG, MEDIAN, QUANTILE_CONT, VARIANCE, STDDEV, COVAR_SAMP and CORR"
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
_OTHER_QUANTILES = (exp.Quantile, exp.PercentileDisc, exp.ApproxQuantile)
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
            self._check_quantiles(node, op, left, right)
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
        if (known := refusal_of(node)) is not None:
            raise self.text.refusal(node, *known)
        raise self.text.refusal(
            node,
            "aggregate_place",
            "beside an aggregate only other aggregates and literal numbers may stand",
            "write it as in 100 * SUM(x) / COUNT(*)",
        )

    def _check_quantiles(self, node: exp.Expr, op: FormulaOp, left: Formula, right: Formula) -> None:
        """Refuse arithmetic whose error is not known: a quantile has an interval and no derivative."""
        for one, other in ((left, right), (right, left)):
            named = {self.aggregates[index].kind for index in one.aggregates()}
            known = other.op is FormulaOp.LITERAL and (one is left or op is not FormulaOp.DIVIDE)
            if AggregateKind.QUANTILE in named and not known:
                raise self.text.refusal(
                    node,
                    "aggregate_place",
                    "beside a quantile only literal numbers may stand",
                    "ask for both as columns and compute with the answers",
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
        if isinstance(node, (exp.Median, exp.PercentileCont, exp.WithinGroup, *_OTHER_QUANTILES)):
            return self._quantile(node, condition)
        if type(node) in _TWO:
            known_arguments(self.text, node, "this", "expression")
            kind, population = _TWO[type(node)]
            pair = pair_of(self._number(node, node.this, condition), self._number(node, node.expression, condition))
            return self._of_moments(node, kind, pair, population=population)
        name = self.text.called(node) if isinstance(node, exp.Func) else "this"
        raise self.text.refusal(
            node,
            "unknown_function",
            f"the aggregate `{name[:40]}` is not in the language",
            rewrite_of(name, KNOWN),
        )

    def _quantile(self, node: exp.Expr, condition: Expr | None) -> Aggregate:
        if isinstance(node, _OTHER_QUANTILES):
            raise self.text.refusal(
                node,
                "unknown_function",
                "this form of a quantile is not in the language",
                "write QUANTILE_CONT(x, 0.9) or MEDIAN(x)",
            )
        value, literal = quantile_parts(self.text, node)
        fraction = Fraction(1, 2)
        if literal is not None:
            is_number = isinstance(literal, exp.Literal) and not literal.is_string
            fraction = self.translator.amount(literal) if is_number else Fraction(-1)
            if not 0 <= fraction <= 1:
                raise self.text.refusal(
                    literal, "literal", "a quantile's fraction lies between 0 and 1", "write QUANTILE_CONT(x, 0.9)"
                )
            fraction = fraction.limit_denominator(10_000)
        return Aggregate(AggregateKind.QUANTILE, self._number(node, value, condition), fraction=fraction)

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
        if node.this is None:
            raise self.text.refusal(node, "feature", "COUNT counts something", "write COUNT(*)")
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
        argument = _kept(self.translator.translate(inner[0]), condition) if len(inner) == 1 else None
        domain = None if argument is None else key_domain(argument)
        if domain is None or len(domain) > LARGEST_DOMAIN:
            raise self.text.refusal(
                node,
                "distinct",
                f"COUNT(DISTINCT …) counts units, or values of a public domain of at most {LARGEST_DOMAIN}",
                f"write COUNT(DISTINCT {self.unit}), or GROUP BY the column and count the groups",
            )
        return Aggregate(AggregateKind.DISTINCT, argument)

    def is_unit(self, node: exp.Expr) -> bool:
        """Return whether a node is the column that names the unit."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return False
        name, table = node.name.lower(), node.table.lower() or None
        if self.translator.sides:
            return counts_unit(self.translator.sides, name, table)
        return name == self.unit and (table is None or table in self.translator.names)


def quantile_parts(text: Text, node: exp.Expr) -> tuple[exp.Expr, exp.Expr | None]:
    """Return the argument and the fraction (or list of fractions) of a quantile; None for a median."""
    if isinstance(node, exp.Median):
        known_arguments(text, node, "this")
        return node.this, None
    if isinstance(node, exp.WithinGroup):
        known_arguments(text, node, "this", "expression")
        inner, order = node.this, node.expression
        terms = order.expressions if isinstance(order, exp.Order) else []
        if not isinstance(inner, exp.PercentileCont) or len(terms) != 1 or terms[0].args.get("desc"):
            raise text.refusal(
                node,
                "unknown_function",
                "this form of WITHIN GROUP is not in the language",
                "write QUANTILE_CONT(x, 0.9) or PERCENTILE_CONT(0.9) WITHIN GROUP (ORDER BY x)",
            )
        known_arguments(text, inner, "this")
        return terms[0].this, inner.this
    known_arguments(text, node, "this", "expression")
    return node.this, node.expression


def several_quantiles(text: Text, alias: str | None, node: exp.Expr) -> list[tuple[str | None, exp.Expr]]:
    """Return one item for each fraction of `QUANTILE_CONT(x, [0.25, 0.5])`, named by it; any other item as it is."""
    if not isinstance(node, exp.PercentileCont) or not isinstance(node.expression, exp.Array):
        return [(alias, node)]
    items: list[tuple[str | None, exp.Expr]] = []
    for fraction in node.expression.expressions:
        one = node.copy()
        one.set("expression", fraction.copy())
        percent = str(fraction.this).removeprefix("0.").replace(".", "_") if isinstance(fraction, exp.Literal) else ""
        percent = percent if len(percent) > 1 else percent + "0" * (percent.isdigit() and len(percent) == 1)
        items.append((f"{alias or 'quantile'}_{percent}", one))
    if not items:
        raise text.refusal(
            node, "literal", "a list of quantiles needs a fraction", "write QUANTILE_CONT(x, [0.25, 0.5])"
        )
    return items


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
