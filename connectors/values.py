"""From source text to stored values, exactly: one reader a column, with a memory for texts it has seen."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from fractions import Fraction

from connectors.quality import BrokenReason
from sandbox.model.description import Column, ColumnKind, sealed_text

MEMORY_TEXTS = 65_536
"""Texts that a column's memory may hold between two batches; it is emptied above, so memory stays bounded."""

_NUMBER = re.compile(r"([+-]?)([0-9]{1,40})(?:\.([0-9]{0,40}))?(?:[eE]([+-]?[0-9]{1,3}))?")
_BARE_FRACTION = re.compile(r"([+-]?)\.([0-9]{1,40})")
_DATES = (
    re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"),
    re.compile(r"([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})"),
    re.compile(r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})日"),
    re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})"),
)
_EPOCH = date(1970, 1, 1).toordinal()
_TRUE = frozenset({"true", "t", "yes", "y", "1", "是"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "否"})
_NO_KEY = frozenset({"", "?", "-", "--", "null", "none", "nan", "na", "n/a", "#n/a", "unknown", "无", "未知", "不详"})
_MANGLED = re.compile(r"[0-9]\.[0-9]+[eE]\+?[0-9]{1,3}|[0-9][eE]\+[0-9]{1,3}")

Stored = int | str | bool | None


def plain_text(text: str) -> str:
    """Return text in the one form in which keys and exclusions are compared: no spaces around, no full-width digits."""
    return unicodedata.normalize("NFKC", text).strip()


def round_half_away(numerator: int, denominator: int) -> int:
    """Return the nearest integer of a fraction, halves away from zero; `denominator` is above 0."""
    whole, rest = divmod(abs(numerator), denominator)
    if 2 * rest >= denominator:
        whole += 1
    return -whole if numerator < 0 else whole


def parse_number(text: str) -> tuple[int, int] | None:
    """Return `(digits, shift)` of a decimal text, whose exact value is digits * 10**shift, or None where it is none.

    `1,234` and `１２` are none.
    """
    if match := _NUMBER.fullmatch(text):
        sign, whole, part, exponent = match.groups()
    elif match := _BARE_FRACTION.fullmatch(text):
        (sign, part), whole, exponent = match.groups(), "", None
    else:
        return None
    digits, shift = (int(whole + part), -len(part)) if part else (int(whole), 0)
    return -digits if sign == "-" else digits, shift + int(exponent) if exponent else shift


def parse_day(text: str) -> int | None:
    """Return the days since 1970-01-01 of a date with the year first, or None where it is none."""
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            try:
                return date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH
            except ValueError:
                return None
    return None


class ColumnReader(dict[str, Stored]):
    """The memory of one column: text to stored value; it learns a text on first sight.

    Looking a text up costs one dictionary access, so that a column with few distinct texts costs almost nothing.

    Attributes:
        broken: texts that are no value of this column, with the reason.
        clamped: texts whose value was moved to a bound.
        missing: texts that mean missing.
    """

    def __init__(self, column: Column) -> None:
        super().__init__()
        self.column = column
        self.broken: dict[str, BrokenReason] = {}
        self.clamped: set[str] = set()
        self.missing: set[str] = set()
        self._domain = None if column.domain is None else frozenset(value.value for value in column.domain)
        self._null_values = frozenset({"", *column.null_values})
        step = Fraction(1) if column.resolution is None else column.resolution
        self._step = step
        self._low = None if column.lower is None else int(column.lower / step)
        self._high = None if column.upper is None else int(column.upper / step)

    def __missing__(self, raw: str) -> Stored:
        text = sealed_text(raw)
        value: Stored = None
        if text in self._null_values:
            if self.column.nullable:
                self.missing.add(raw)
            else:
                self.broken[raw] = BrokenReason.VALUE_MISSING
        else:
            value = self._read(raw, text)
        self[raw] = value
        return value

    def forget_if_large(self) -> None:
        """Empty the memory where it has grown too large; what it knew can be learned again."""
        if len(self) > MEMORY_TEXTS:
            self.clear()
            self.broken.clear()
            self.clamped.clear()
            self.missing.clear()

    def _read(self, raw: str, text: str) -> Stored:
        kind = self.column.kind
        if kind is ColumnKind.TEXT:
            return text
        if kind is ColumnKind.CATEGORY:
            if self._domain is None or text in self._domain:
                return text
            return self._break(raw, BrokenReason.OUTSIDE_DOMAIN)
        if kind is ColumnKind.BOOLEAN:
            word = text.casefold()
            if word in _TRUE or word in _FALSE:
                return word in _TRUE
            return self._break(raw, BrokenReason.NOT_A_BOOLEAN)
        if kind is ColumnKind.DATE:
            day = parse_day(text)
            return self._break(raw, BrokenReason.NOT_A_DATE) if day is None else self._clamp(raw, day)
        number = parse_number(text)
        if number is None:
            return self._break(raw, BrokenReason.NOT_A_NUMBER)
        digits, shift = number
        over, under = digits * self._step.denominator, self._step.numerator
        # In integers all the way: a Fraction would do the same, and four times slower.
        count = round_half_away(over * 10**shift, under) if shift > 0 else round_half_away(over, under * 10**-shift)
        return self._clamp(raw, count)

    def _break(self, raw: str, reason: BrokenReason) -> Stored:
        self.broken[raw] = reason
        return None

    def _clamp(self, raw: str, count: int) -> int:
        inside = count
        if self._low is not None:
            inside = max(inside, self._low)
        if self._high is not None:
            inside = min(inside, self._high)
        if inside != count:
            self.clamped.add(raw)
        return inside


class UnitReader(dict[str, str]):
    """The memory of the privacy unit's key: text to the one spelling that is tokenised.

    One person in two spellings would be two units and protected as half a person, so spaces and full-width digits are
    evened out.  Capitals are kept: some keys differ by nothing else.

    Attributes:
        broken: texts that are no key, with the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, BrokenReason] = {}

    def __missing__(self, raw: str) -> str:
        key = plain_text(raw)
        if key.casefold() in _NO_KEY:
            # Everyone without a key under one token would be one unit with thousands of people in it.
            self.broken[raw] = BrokenReason.UNIT_MISSING
        elif _MANGLED.fullmatch(key):
            self.broken[raw] = BrokenReason.UNIT_MANGLED
        self[raw] = key
        return key

    def forget_if_large(self) -> None:
        """Empty the memory where it has grown too large."""
        if len(self) > MEMORY_TEXTS:
            self.clear()
            self.broken.clear()
