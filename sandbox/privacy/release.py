"""Make the answer of noisy cells: values, HAVING, ORDER BY, LIMIT, names and notes.  Pure post-processing.

What stands here is a function of the plan, the noisy integers and public facts, so the auditor's replay gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from sandbox.model.job import CellKind
from sandbox.model.question import Answer, AnswerColumn, Cell, ColumnRole
from sandbox.privacy.algebra import DateType, NumberType
from sandbox.privacy.calendar import parse_day
from sandbox.privacy.estimate import INTEGERS, as_cell, as_float, valuer_of
from sandbox.privacy.keys import TOTAL, Key, KeyText, key_cell, key_cell_kind, sort_value
from sandbox.privacy.margins import Noisy, consistent
from sandbox.privacy.notes import answer_notes
from sandbox.privacy.plan import Plan
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import Condition, ConditionOp, Order, Slot
from sandbox.privacy.showing import shown
from sandbox.privacy.value import Value

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class NoisyCell:
    """The noisy statistics of one group."""

    key: Key
    noisy: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    key: Key
    values: tuple[Value, ...]


def release_answer(plan: Plan, cells: Sequence[NoisyCell], profile: Profile | None) -> Answer:
    """Return the answer that noisy cells make, in the plan's own order.

    Privacy: post-processing; nothing exact is read.
    """
    sigmas = plan.entry_sigmas()
    measured: list[Noisy] = [(cell.key, plan.whole(cell.noisy), sigmas) for cell in cells]
    if plan.settings.consistent:
        measured = consistent(measured, [len(key.domain or ()) for key in plan.keys])
    rows = _rows(plan, measured)
    if plan.choice is None:
        order = _key_order(plan)
        rows.sort(key=lambda row: order(row.key))
    having = plan.finish.having
    if having is not None:
        rows = [row for row in rows if _holds(plan, having, row) is True]
    for term in reversed(plan.finish.order):
        rows = _sorted(plan, term, rows)
    stop = None if plan.finish.limit is None else plan.finish.offset + plan.finish.limit
    rows = rows[plan.finish.offset : stop]
    slots = [output.slot for output in plan.outputs]
    return Answer(
        columns=tuple(_column(plan, index) for index in range(len(plan.outputs))),
        rows=_by_rows(rows, [_cells(plan, rows, slot) for slot in slots]),
        standard_errors=_by_rows(rows, [_parts(rows, slot, "standard_error") for slot in slots]),
        lower=_by_rows(rows, [_parts(rows, slot, "lower") for slot in slots]),
        upper=_by_rows(rows, [_parts(rows, slot, "upper") for slot in slots]),
        loss=plan.loss,
        notes=answer_notes(plan, profile),
        pure_loss=plan.pure_loss,
    )


def _rows(plan: Plan, measured: Sequence[Noisy]) -> list[_Row]:
    """Return the values of each cell; cells whose noise has one scale share what follows from it."""
    # By identity: cells of one level hold one list of as many as a thousand scales, and `measured` keeps it alive.
    valuers: dict[int, list[Callable[[Sequence[Fraction | int]], Value]]] = {}
    rows: list[_Row] = []
    for key, noisy, sigmas in measured:
        if id(sigmas) not in valuers:
            valuers[id(sigmas)] = [valuer_of(formula, plan.estimates, sigmas) for formula in plan.formulas]
        values = [valuer(noisy) for valuer in valuers[id(sigmas)]]
        if plan.settings.changes_values:
            values = [shown(plan, index, value) for index, value in enumerate(values)]
        rows.append(_Row(key, tuple(values)))
    return rows


def _column(plan: Plan, index: int) -> AnswerColumn:
    output = plan.outputs[index]
    if output.slot.is_key:
        role, kind = ColumnRole.KEY, key_cell_kind(plan.keys[output.slot.index].type)
        kind = CellKind.TEXT if plan.rolled else kind  # A total stands among the values of the key.
    else:
        estimate = plan.plain_estimate(output.slot.index)
        counts = estimate is not None and estimate.kind in INTEGERS and not plan.settings.consistent
        role, kind = ColumnRole.VALUE, CellKind.INTEGER if counts else CellKind.NUMBER
    label = output.label
    return AnswerColumn(label.name, role, kind, label.label_en, label.label_zh, label.measure_en, label.measure_zh)


def _by_rows(rows: Sequence[_Row], columns: Sequence[Sequence[_Part]]) -> tuple[tuple[_Part, ...], ...]:
    return tuple(zip(*columns, strict=True)) if columns else ((),) * len(rows)


def _cells(plan: Plan, rows: Sequence[_Row], slot: Slot) -> list[Cell]:
    """Return the cells of one column."""
    if not slot.is_key:
        # Rounded counts would not add up.
        estimate = None if plan.settings.consistent else plan.plain_estimate(slot.index)
        return [as_cell(estimate, row.values[slot.index].amount) for row in rows]
    of = plan.keys[slot.index].type
    texts = [row.key[slot.index] for row in rows]
    cells: dict[KeyText, Cell] = {}
    for text in set(texts):
        cell = TOTAL if plan.rolled and text == TOTAL else key_cell(text, of)
        cells[text] = str(cell) if plan.rolled else cell
    return [cells[text] for text in texts]


def _parts(rows: Sequence[_Row], slot: Slot, name: str) -> list[float | None]:
    """Return the errors or the ends of one column; an error that all rows share is one object and written once."""
    found: list[float | None] = []
    if slot.is_key:
        return [None] * len(rows)
    before, written = None, None
    for row in rows:
        part = getattr(row.values[slot.index], name)
        if part is not before:
            before, written = part, as_float(part)
        found.append(written)
    return found


def _key_order(plan: Plan) -> Callable[[Key], tuple[tuple[int, Fraction | int | str], ...]]:
    """Return what keys sort by: their places in public domains, totals last, and values of private keys."""
    places: list[dict[KeyText, int] | None] = []
    for planned in plan.keys:
        domain = planned.domain
        at = None if domain is None else {text: place for place, text in enumerate(domain)} | {TOTAL: len(domain)}
        places.append(at)

    def order(key: Key) -> tuple[tuple[int, Fraction | int | str], ...]:
        return tuple(
            sort_value(text, planned.type) if at is None else (0, at[text])
            for text, planned, at in zip(key, plan.keys, places, strict=True)
        )

    return order


def _comparable(plan: Plan, row: _Row, slot: Slot) -> Fraction | int | str | None:
    if not slot.is_key:
        return row.values[slot.index].amount
    text, of = row.key[slot.index], plan.keys[slot.index].type
    if text is None or text == TOTAL:
        return None
    if isinstance(of, NumberType):
        return int(text) * of.resolution
    return parse_day(text) if isinstance(of, DateType) else text


def _sorted(plan: Plan, term: Order, rows: list[_Row]) -> list[_Row]:
    missing = [row for row in rows if _comparable(plan, row, term.slot) is None]
    present = [row for row in rows if _comparable(plan, row, term.slot) is not None]

    def by_value(row: _Row) -> Fraction | int | str:
        value = _comparable(plan, row, term.slot)
        assert value is not None
        return value

    present.sort(key=by_value, reverse=term.descending)
    return missing + present if term.nulls_first else present + missing


def _holds(plan: Plan, condition: Condition, row: _Row) -> bool | None:
    """Return whether a condition holds of a released row; None for SQL's unknown."""
    parts = [_holds(plan, argument, row) for argument in condition.args]
    if condition.op is ConditionOp.AND:
        return False if False in parts else (None if None in parts else True)
    if condition.op is ConditionOp.OR:
        return True if True in parts else (None if None in parts else False)
    if condition.op is ConditionOp.NOT:
        return None if parts[0] is None else not parts[0]
    assert condition.slot is not None
    value = _comparable(plan, row, condition.slot)
    if condition.op is ConditionOp.IS_NULL:
        return value is None
    if value is None:
        return None
    literals = [_literal(plan, condition.slot, literal) for literal in condition.literals]
    if condition.op in {ConditionOp.EQUAL, ConditionOp.IN}:
        return value in literals
    left, right = (literals[0], value) if condition.flipped else (value, literals[0])
    if condition.op is ConditionOp.LESS:
        return bool(left < right)  # type: ignore[operator]  # `finish.py` matched the kinds
    return bool(left <= right)  # type: ignore[operator]  # as above


def _literal(plan: Plan, slot: Slot, literal: Fraction | str) -> Fraction | int | str:
    if slot.is_key and isinstance(literal, str) and isinstance(plan.keys[slot.index].type, DateType):
        day = parse_day(literal)
        assert day is not None
        return day
    return literal
