"""Canonical bytes: one value, one byte string."""

import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import CanonicalError
from sandbox.model.canonical import (
    canonical_bytes,
    canonical_release_bytes,
    parse_canonical,
    parse_canonical_release,
)

LEAVES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=12)
RECORDS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(RECORDS)
def test_the_bytes_are_those_of_rfc_8785(record: object) -> None:
    assert canonical_bytes(record) == rfc8785.dumps(record)


WIDE = st.text(st.sampled_from("aé陶瓷\ud7ff\ue000，\ufffd😀𝒳\x7f\u2028\n"), max_size=4)


@given(st.dictionaries(WIDE, st.lists(WIDE, max_size=2) | st.dictionaries(WIDE, WIDE, max_size=3), max_size=6))
def test_the_bytes_are_those_of_rfc_8785_below_and_above_the_surrogates(record: object) -> None:
    assert canonical_bytes(record) == rfc8785.dumps(record)


@pytest.mark.parametrize(
    "record",
    [
        {"，": 1, "😀": 2, "a": "，"},
        {"a": ['，":', "x"], '😀"': {"\\": "，"}},
        ["，", {"b\\": "😀", "\ue000": 1, '𝒳"': 2}],
        {"x": "，\\", "y": ":"},
    ],
)
def test_only_keys_above_the_surrogates_are_sorted_otherwise(record: object) -> None:
    assert canonical_bytes(record) == canonical_release_bytes(record) == rfc8785.dumps(record)


EDGES = st.sampled_from([0.0, -0.0, 1e-4, 9.999e-5, 1e-7, 2.0**53 - 1, 2.0**53, -(2.0**53), 1e16, 1e21, 5e-324, 1.5])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9).map(float) | EDGES


@given(st.recursive(LEAVES | NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(WIDE, inner), max_leaves=12))
def test_the_bytes_of_a_release_are_those_of_rfc_8785(release: object) -> None:
    assert canonical_release_bytes(release) == rfc8785.dumps(release)


@pytest.mark.parametrize("text", ["\ud800", "陶\udfff"])
def test_a_lone_surrogate_has_no_canonical_form(text: str) -> None:
    with pytest.raises(CanonicalError):
        canonical_bytes([text])


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: object) -> None:
    assert parse_canonical(canonical_bytes(record)) == record


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_release_holds_finite_floats_and_comes_back(number: float) -> None:
    raw = canonical_release_bytes([number])
    assert raw == rfc8785.dumps([number])
    assert parse_canonical_release(raw) == [number], "3.0 and 3 are one number"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[1.0]",
        b"1e2",
        b'"\\u0041"',
        b'{"a":1,"a":1}',
        b"[1,]",
        b"",
        b"\xff",
        b"nan",
        b"[NaN]",
    ],
)
def test_every_other_spelling_is_refused(raw: bytes) -> None:
    with pytest.raises(CanonicalError):
        parse_canonical(raw)


def test_a_record_holds_no_float_and_says_where_it_stood() -> None:
    with pytest.raises(CanonicalError, match=r"float at `\$\.a\[1\]` in a record"):
        canonical_bytes({"a": [1, 0.5]})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_release_holds_no_number_that_is_not_finite(value: float) -> None:
    with pytest.raises(CanonicalError, match="not finite"):
        canonical_release_bytes({"x": value})


@pytest.mark.parametrize("value", [2**53, -(2**53)])
def test_integers_beyond_two_to_the_53_are_refused(value: int) -> None:
    with pytest.raises(CanonicalError, match="is beyond"):
        canonical_bytes([value])


def test_keys_are_text_and_values_are_json() -> None:
    with pytest.raises(CanonicalError, match="is not text"):
        canonical_bytes({1: "x"})
    with pytest.raises(CanonicalError, match="is not JSON"):
        canonical_bytes({"x": b"bytes"})


def test_keys_beyond_the_basic_plane_sort_as_utf_16_does() -> None:
    assert canonical_bytes({"\uffff": 1, "\U00010000": 2}) == '{"\U00010000":2,"\uffff":1}'.encode()
