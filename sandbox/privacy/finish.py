"""Check HAVING, ORDER BY and LIMIT: conditions on released rows, so post-processing and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from sqlglot import exp

from sandbox.errors import ExactError
from sandbox.model.exact import parse_exact
from sandbox.privacy.algebra import DateType, Expr, NumberType
from sandbox.privacy.calendar import parse_day
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.query import Condition, ConditionOp, Finish, Order, Output, Slot

MAX_LIMIT = 1_000_000
_FLIP: dict[type[exp.Expr], tuple[ConditionOp, bool]] = {
    exp.LT: (ConditionOp.LESS, False),
    exp.LTE: (ConditionOp.LESS_EQUAL, False),
    exp.GT: (ConditionOp.LESS, True),
    exp.GTE: (ConditionOp.LESS_EQUAL, True),
}
_DIFFERENCE = "make a column of what is compared, as in AVG(x) - AVG(y) AS d … HAVING d > 0"
_ORDERS = "order by a column of the answer, as in SELECT district, COUNT(*) AS n … ORDER BY n DESC"
_EXAMPLE = "write it as in HAVING COUNT(*) >= 100 AND district = 'Zhushan'"

FindSlot = Callable[[exp.Expr], Slot | None]


def check_finish(
    text: Text,
    select: exp.Select,
    outputs: tuple[Output, ...],
    find: FindSlot,
    key_of: Callable[[Slot], Expr | None],
) -> Finish:
    """Return the post-processing that a SELECT asks for; `find` may add aggregates that only HAVING names."""
    checker = _FinishChecker(text, outputs, find, key_of)
    having = select.args.get("having")
    order = select.args.get("order")
    condition = None
    if having is not None:
        known_arguments(text, having, "this")
        condition = checker.condition(having.this)
    terms: list[Order] = []
    if order is not None:
        known_arguments(text, order, "expressions")
        terms = [checker.term(term) for term in order.expressions]
    return Finish(condition, tuple(terms), checker.count(select, "limit"), checker.count(select, "offset") or 0)


@dataclass(slots=True)
class _FinishChecker:
    text: Text
    outputs: tuple[Output, ...]
    find: FindSlot
    key_of: Callable[[Slot], Expr | None]
    depth: int = 0

    def condition(self, node: exp.Expr) -> Condition:
        self.depth += 1
        try:
            if self.depth > 60:
                raise self.text.refusal(node, "too_deep", "HAVING is nested too deep", "write fewer conditions")
            return self._condition(node)
        finally:
            self.depth -= 1

    def _condition(self, node: exp.Expr) -> Condition:
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                known_arguments(self.text, node, "this", "expression")
                op = ConditionOp.AND if isinstance(node, exp.And) else ConditionOp.OR
                return Condition(op, (self.condition(node.this), self.condition(node.expression)))
            case exp.Not():
                return Condition(ConditionOp.NOT, (self.condition(node.this),))
            case exp.Is() if isinstance(node.expression, exp.Null):
                return Condition(ConditionOp.IS_NULL, slot=self.slot(node.this))
            case exp.Between():
                known_arguments(self.text, node, "this", "low", "high")
                slot = self.slot(node.this)
                low, high = self.literal(node.args["low"], slot), self.literal(node.args["high"], slot)
                least = Condition(ConditionOp.LESS_EQUAL, slot=slot, literals=(low,), flipped=True)
                most = Condition(ConditionOp.LESS_EQUAL, slot=slot, literals=(high,))
                return Condition(ConditionOp.AND, (least, most))
            case exp.In():
                known_arguments(self.text, node, "this", "expressions")
                slot = self.slot(node.this)
                values = tuple(self.literal(item, slot) for item in node.expressions)
                return Condition(ConditionOp.IN, slot=slot, literals=values)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self.comparison(node)
            case _:
                pass
        raise self.text.refusal(node, "having", "HAVING compares aggregates and keys with literals", _EXAMPLE)

    def comparison(self, node: exp.Expr) -> Condition:
        known_arguments(self.text, node, "this", "expression")
        left, right = node.this, node.expression
        swapped = _is_literal(left)
        if swapped:
            left, right = right, left
        slot = self.slot(left)
        literals = (self.literal(right, slot),)
        if isinstance(node, (exp.EQ, exp.NEQ)):
            equal = Condition(ConditionOp.EQUAL, slot=slot, literals=literals)
            return equal if isinstance(node, exp.EQ) else Condition(ConditionOp.NOT, (equal,))
        op, flipped = _FLIP[type(node)]
        key = self.key_of(slot)
        if key is not None and not isinstance(key.type, (NumberType, DateType)):
            raise self.text.refusal(node, "having", "this key has no order", "compare it with = or IN")
        return Condition(op, slot=slot, literals=literals, flipped=flipped != swapped)

    def slot(self, node: exp.Expr, code: str = "having", hint: str = _EXAMPLE) -> Slot:
        """Return what a node of HAVING or ORDER BY refers to: an output's name, an aggregate or a key."""
        bare = node
        while isinstance(bare, exp.Paren):
            bare = bare.this
        if isinstance(bare, exp.Column) and isinstance(bare.this, exp.Identifier) and not bare.args.get("table"):
            name = str(bare.this.this).lower()
            for output in self.outputs:
                if output.label.name.lower() == name:
                    return output.slot
        slot = self.find(bare)
        if slot is None:
            raise self.text.refusal(node, code, "this is neither an aggregate nor a key nor a column's name", hint)
        return slot

    def literal(self, node: exp.Expr, slot: Slot) -> Fraction | str:
        key = self.key_of(slot)
        while isinstance(node, exp.Paren):
            node = node.this
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
            node = node.this
        if isinstance(node, exp.Boolean) and key is not None:
            return "true" if node.this else "false"
        negative = isinstance(node, exp.Neg)
        inner = node.this if negative else node
        if not isinstance(inner, exp.Literal):
            raise self.text.refusal(node, "having", "HAVING compares with a literal", _DIFFERENCE)
        is_number = key is None or isinstance(key.type, NumberType)
        if inner.is_string == is_number:
            raise self.text.refusal(node, "type", "the literal is not of the type that it is compared with", _EXAMPLE)
        if is_number:
            try:
                amount = parse_exact(str(inner.this))
            except ExactError:
                raise self.text.refusal(
                    node, "literal", "this number cannot be read exactly", "write it like 3 or 0.05"
                ) from None
            return -amount if negative else amount
        value = str(inner.this)
        if key is not None and isinstance(key.type, DateType) and parse_day(value) is None:
            raise self.text.refusal(node, "literal", "this is not a date", "write it as DATE '2026-01-31'")
        return value

    def term(self, node: exp.Expr) -> Order:
        known_arguments(self.text, node, "this", "desc", "nulls_first")
        inner = node.this
        if isinstance(inner, exp.Literal) and not inner.is_string:
            position = str(inner.this)
            if not position.isdigit() or not 1 <= int(position[:6]) <= len(self.outputs):
                raise self.text.refusal(inner, "order", "there is no column with this number", "count columns from 1")
            slot = self.outputs[int(position) - 1].slot
        else:
            slot = self.slot(inner, "order", _ORDERS)
        return Order(slot, bool(node.args.get("desc")), bool(node.args.get("nulls_first")))

    def count(self, select: exp.Select, name: str) -> int | None:
        node = select.args.get(name)
        if node is None:
            return None
        known_arguments(self.text, node, "expression")
        inner = node.expression
        digits = str(inner.this) if isinstance(inner, exp.Literal) and not inner.is_string else ""
        if not digits.isdigit() or int(digits[:9]) > MAX_LIMIT or len(digits) > 9:
            raise self.text.refusal(node, "limit", f"expected a whole number up to {MAX_LIMIT}", "write LIMIT 10")
        return int(digits)


def _is_literal(node: exp.Expr) -> bool:
    while isinstance(node, (exp.Paren, exp.Neg)):
        node = node.this
    return isinstance(node, (exp.Literal, exp.Boolean)) or (
        isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
    )
