"""The fast encoder of simple values writes what the RFC 8785 library writes."""

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import CanonicalError
from sandbox.model.canonical import _is_simple, canonical_bytes, parse_canonical

_LEAVES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()
_RECORDS = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@given(_RECORDS)
def test_both_encoders_write_the_same_bytes(record):
    assert canonical_bytes(record) == rfc8785.dumps(record)
    assert parse_canonical(canonical_bytes(record)) == record


def test_control_characters_and_chinese_are_written_alike():
    record = {"all": "".join(map(chr, range(0x300))), "text": "市卫健委\u2028\ufeff😀", "list": [1, [True, None]]}
    assert _is_simple(record)
    assert canonical_bytes(record) == rfc8785.dumps(record)


def test_keys_beyond_ascii_are_left_to_the_library():
    record = {"\ufb33": 1, "\U0001f600": 2}  # UTF-16 puts the second first
    assert not _is_simple(record)
    assert canonical_bytes(record) == rfc8785.dumps(record) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize("record", [{"a": 2**53}, {"a": [0.5]}, {1: "a"}, ["\ud800"], {"a": {1, 2}}])
def test_what_was_refused_is_refused_still(record):
    with pytest.raises(CanonicalError):
        canonical_bytes(record)
