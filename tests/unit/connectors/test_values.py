from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import values
from connectors.quality import BrokenReason
from connectors.values import ColumnReader, UnitReader, parse_day, parse_number, plain_text, round_half_away
from sandbox.model.description import Column, ColumnKind, DomainValue


def column(kind, **changes):
    fields = {
        "name": "c", "source": "c", "kind": kind, "label_en": "c", "label_zh": "c", "classification": "L1", "nullable": False,
        "null_values": (), "lower": None, "upper": None, "resolution": None, "domain": None,
    }  # fmt: skip
    return Column(**{**fields, **changes})


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (5, 2, 3), (49, 100, 0), (-49, 100, 0), (0, 3, 0), (7, 7, 1)],
)
def test_halves_go_away_from_zero(numerator, denominator, expected):
    assert round_half_away(numerator, denominator) == expected


@given(st.decimals(-(10**12), 10**12, places=6), st.sampled_from(["0.01", "0.5", "1", "100"]))
def test_rounding_agrees_with_decimal_arithmetic(number, step):
    with localcontext() as context:
        context.prec = 60
        expected = int((number / Decimal(step)).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    reader = ColumnReader(
        column(
            ColumnKind.DECIMAL, lower=Fraction(-(10**14)), upper=Fraction(10**14), resolution=Fraction(Decimal(step))
        )
    )
    assert reader[str(number)] == expected
    assert not reader.clamped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", Fraction(12)),
        ("-0.05", Fraction(-1, 20)),
        ("+3", Fraction(3)),
        (".5", Fraction(1, 2)),
        ("-.5", Fraction(-1, 2)),
        ("5.", Fraction(5)),
        ("1e3", Fraction(1000)),
        ("1.5E-3", Fraction(3, 2000)),
        ("007", Fraction(7)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_numbers_are_read_exactly(text, expected):
    digits, shift = parse_number(text)
    assert digits * Fraction(10) ** shift == expected


@pytest.mark.parametrize(
    "text", ["", ".", "-", "1,234", "１２", "1 2", "0x10", "nan", "inf", "1/2", "1e9999", "12元", "--1", "9" * 41]
)
def test_what_is_no_plain_decimal_is_no_number(text):
    assert parse_number(text) is None


@pytest.mark.parametrize("text", ["2026-01-31", "2026/1/31", "2026年1月31日", "20260131"])
def test_dates_with_the_year_first_are_read(text):
    assert parse_day(text) == 20484


@pytest.mark.parametrize("text", ["31/01/2026", "01-31-2026", "2026-02-30", "2026-1", "26-01-31", "0000-01-01", ""])
def test_ambiguous_and_impossible_dates_are_not(text):
    assert parse_day(text) is None


def test_numbers_are_counts_of_the_resolution_within_the_bounds():
    reader = ColumnReader(column(ColumnKind.DECIMAL, lower=Fraction(0), upper=Fraction(10), resolution=Fraction(1, 4)))
    assert [reader[text] for text in ("0", "2.5", " 2.6 ", "10.1", "-3", "99")] == [0, 10, 10, 40, 0, 40]
    assert reader.clamped == {"-3", "99"}
    assert not reader.broken


def test_a_missing_value_is_null_where_it_may_be():
    nullable = ColumnReader(column(ColumnKind.TEXT, nullable=True, null_values=("?",)))
    assert [nullable[text] for text in ("", " ", "?", "x")] == [None, None, None, "x"]
    assert nullable.missing == {"", " ", "?"}
    strict = ColumnReader(column(ColumnKind.TEXT))
    assert strict[""] is None
    assert strict.broken == {"": BrokenReason.VALUE_MISSING}


@pytest.mark.parametrize(
    ("kind", "changes", "text", "reason"),
    [
        (ColumnKind.INTEGER, {"lower": Fraction(0), "upper": Fraction(9), "resolution": Fraction(1)}, "x", BrokenReason.NOT_A_NUMBER),
        (ColumnKind.DATE, {}, "soon", BrokenReason.NOT_A_DATE),
        (ColumnKind.BOOLEAN, {}, "maybe", BrokenReason.NOT_A_BOOLEAN),
        (ColumnKind.CATEGORY, {"domain": (DomainValue("a", "a", "a"),)}, "A", BrokenReason.OUTSIDE_DOMAIN),
    ],
)  # fmt: skip
def test_what_is_no_value_of_the_column_is_broken(kind, changes, text, reason):
    reader = ColumnReader(column(kind, **changes))
    assert reader[text] is None
    assert reader.broken == {text: reason}


def test_booleans_are_read_in_two_languages():
    reader = ColumnReader(column(ColumnKind.BOOLEAN))
    assert [reader[text] for text in ("Yes", "是", "TRUE", "1", "No", "否", "false", "0")] == [True] * 4 + [False] * 4


def test_dates_are_clamped_like_numbers():
    reader = ColumnReader(column(ColumnKind.DATE, lower=Fraction(0), upper=Fraction(20484)))
    assert [reader["2026-01-31"], reader["2030-01-01"], reader["1900-01-01"]] == [20484, 20484, 0]
    assert reader.clamped == {"2030-01-01", "1900-01-01"}


def test_a_memory_that_has_grown_is_emptied_and_learns_again(monkeypatch):
    monkeypatch.setattr(values, "MEMORY_TEXTS", 2)
    reader, units = ColumnReader(column(ColumnKind.CATEGORY, domain=(DomainValue("a", "a", "a"),))), UnitReader()
    for text in ("a", "x", "y"):
        reader[text], units[text]
    reader.forget_if_large(), units.forget_if_large()
    assert (len(reader), reader.broken, len(units)) == (0, {}, 0)
    assert (reader["x"], reader.broken) == (None, {"x": BrokenReason.OUTSIDE_DOMAIN})


def test_one_person_in_two_spellings_is_one_unit():
    units = UnitReader()
    assert len({units[text] for text in ("36020119", " 36020119", "３６０２０１１９", "36020119\t")}) == 1
    assert units["aB"] != units["Ab"]
    assert not units.broken


@pytest.mark.parametrize("text", ["", "  ", "?", "NULL", "NaN", "n/a", "无", "未知", "－"])
def test_a_missing_key_is_not_a_unit_of_many_people(text):
    units = UnitReader()
    units[text]
    assert units.broken == {text: BrokenReason.UNIT_MISSING}


@pytest.mark.parametrize("text", ["3.60201E+17", "3E+17", "1.5e17"])
def test_a_key_that_a_spreadsheet_rounded_is_found(text):
    units = UnitReader()
    units[text]
    assert units.broken == {text: BrokenReason.UNIT_MANGLED}
    assert not UnitReader().broken


def test_plain_text_evens_out_width_and_spaces():
    assert plain_text("　１１ ") == "11"
