"""Group keys as text: one canonical text for each value, and the public domain where there is one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import chain
from json.encoder import encode_basestring

from sandbox.errors import CanonicalError
from sandbox.model.job import CellKind
from sandbox.model.question import Cell
from sandbox.privacy.algebra import DateType, Expr, NumberType, TextType, TruthType, ValueType
from sandbox.privacy.calendar import format_day, parse_day, starts_between

MAX_PUBLIC_CELLS = 10_000
"""The most cells that public keys may span; each one gets noise and is released, empty or not."""

KeyText = str | None
"""A key value as text: an integer in units of its resolution, an ISO date, `true`/`false`, or the text itself."""

Key = tuple[KeyText, ...]


TOTAL = "(total)"
"""The key of a row of totals, where the question rolls up its groups; no value of such a key is spelt so."""


def key_domain(expr: Expr) -> tuple[KeyText, ...] | None:
    """Return every value of a group key in order, NULL last, or None where the values are private or too many."""
    values = _values(expr.type)
    if values is None:
        return None
    return (*values, None) if expr.nullable else values


def _values(of: ValueType) -> tuple[str, ...] | None:
    match of:
        case TruthType():
            return ("false", "true")
        case TextType(domain):
            return domain
        case NumberType(lower, upper):
            if upper - lower >= MAX_PUBLIC_CELLS:
                return None
            return tuple(str(step) for step in range(lower, upper + 1))
        case DateType(lower, upper, step):
            shortest = {"day": 1, "week": 7, "month": 28, "quarter": 90, "year": 365}[step]
            if (upper - lower) // shortest >= MAX_PUBLIC_CELLS:
                return None
            return tuple(format_day(day) for day in starts_between(step, lower, upper))
        case _:
            return None


def key_cell(text: KeyText, of: ValueType) -> Cell:
    """Return the cell that people read for a key text."""
    if text is None or not isinstance(of, NumberType):
        return text
    value = int(text) * of.resolution
    return whole_cell(int(value)) if value.denominator == 1 else float(value)


def whole_cell(value: int) -> Cell:
    """Return the cell of a whole number: beyond 2**53 a float, since a release writes no such integer."""
    return value if abs(value) < 2**53 else float(value)


def key_cell_kind(of: ValueType) -> CellKind:
    """Return what the cells of a key hold."""
    if not isinstance(of, NumberType):
        return CellKind.TEXT
    return CellKind.INTEGER if of.resolution.denominator == 1 else CellKind.NUMBER


def sort_value(text: KeyText, of: ValueType) -> tuple[int, Fraction | int | str]:
    """Return what a key sorts by: numbers by size, dates by day, texts by code point, NULL last."""
    if text is None:
        return (1, 0)
    if isinstance(of, NumberType):
        return (0, int(text))
    if isinstance(of, DateType):
        day = parse_day(text)
        return (0, 0 if day is None else day)
    return (0, text)


def join_key(key: Key) -> str:
    """Return the one text for a composite key, as the thresholded release uses it."""
    return f"[{','.join('null' if part is None else encode_basestring(part) for part in key)}]"


def join_keys(keys: Collection[Key]) -> list[str]:
    """Return what `join_key` gives for each key; a text that many of them share is spelled once."""
    spelled = {part: "null" if part is None else encode_basestring(part) for part in set(chain.from_iterable(keys))}
    return [f"[{','.join([spelled[part] for part in key])}]" for key in keys]


def parse_key(record: object, types: Sequence[ValueType]) -> Key:
    """Return the key that a sealed record writes; strict about its width, kinds and spelling."""
    if not isinstance(record, (list, tuple)) or len(record) != len(types):
        raise CanonicalError("a group key has the wrong width", hint="it has one text or null for each key")
    for part, of in zip(record, types, strict=True):
        if part is None:
            continue
        if not isinstance(part, str):
            raise CanonicalError("a group key is not text", hint="every part is text or null")
        if isinstance(of, NumberType) and not _is_integer(part):
            raise CanonicalError("a group key is not an integer", hint="numbers are in units of their resolution")
    return tuple(record)


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(text)) == text if len(digits) < 40 else False
