"""The host's reader of frames: strict, bounded, and never surprised."""

import contextlib
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.runtime import wire
from sandbox.runtime.host.conversation import Ended, parse_request
from sandbox.runtime.host.declared_outputs import parse_outputs
from sandbox.runtime.wire import FrameReader, WireError, decode_payload, encode_frame

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    SCALARS | TEXTS, lambda x: st.lists(x, max_size=5) | st.dictionaries(TEXTS, x, max_size=5), max_leaves=20
)


@given(VALUES)
def test_what_is_encoded_is_read_back(value):
    (payload,) = FrameReader(1 << 20).feed(encode_frame(value, 1 << 20))
    with contextlib.suppress(WireError):  # nesting above the limit is refused, whichever side wrote it
        assert decode_payload(payload) == value


@given(st.lists(VALUES, max_size=5), st.integers(1, 7))
def test_frames_are_cut_the_same_however_the_bytes_arrive(values, size):
    stream = b"".join(encode_frame(value, 1 << 20) for value in values)
    reader = FrameReader(1 << 20)
    payloads = [p for start in range(0, len(stream), size) for p in reader.feed(stream[start : start + size])]
    assert payloads == FrameReader(1 << 20).feed(stream)
    assert reader.pending == 0


@given(st.binary(max_size=400))
@example(b"[" * 200_000)
@example(b'{"a":1,"a":2}')
@example(b"1e999")
@example(b"-" + b"9" * 5000)
@example(b'"\\ud800"')
@example(b"\xff\xfe")
@settings(max_examples=400)
def test_any_bytes_are_a_value_or_a_wire_error(payload):
    with contextlib.suppress(WireError):  # any other error is a failure of the reader
        json.dumps(decode_payload(payload), allow_nan=False).encode()


@given(st.binary(max_size=600), st.integers(1, 64))
def test_a_reader_never_holds_more_than_one_frame(data, limit):
    reader = FrameReader(limit)
    with contextlib.suppress(WireError):
        for payload in reader.feed(data):
            assert 0 < len(payload) <= limit
        assert reader.pending < limit + wire.HEADER_BYTES


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"a":1,"a":1}', "a frame repeats a key"),
        (b"NaN", "a frame has a number that is not finite"),
        (b"-Infinity", "a frame has a number that is not finite"),
        (b"[1e999]", "a frame has a number that is not finite"),
        (b"9223372036854775808", "a frame has an integer that does not fit 64 bits"),
        (b"-" + b"1" * 10_000, "a frame has an integer that does not fit 64 bits"),
        (b"[" * 17 + b"]" * 17, "a frame is nested too deep"),
        (b"[" * 100_000, "a frame is not JSON"),
        (b'"\\ud800"', "a frame has text that is not Unicode"),
        (b'{"\\udfff":1}', "a frame has text that is not Unicode"),
        (b"\xff", "a frame is not JSON"),
        (b"{", "a frame is not JSON"),
        (b"", "a frame is not JSON"),
        (b"1 2", "a frame is not JSON"),
    ],
)
def test_a_payload_that_is_not_strict_is_refused(payload, why):
    with pytest.raises(WireError) as caught:
        decode_payload(payload)
    assert str(caught.value) == why


def test_too_many_values_are_refused(monkeypatch):
    monkeypatch.setattr(wire, "NODES_MAX", 10)
    with pytest.raises(WireError, match="a frame has too many values"):
        decode_payload(b"[1,2,3,4,5,6,7,8,9,10]")


def test_a_header_above_the_limit_is_refused_before_its_bytes_arrive():
    with pytest.raises(WireError, match="a frame announces 11 bytes, the limit is 10"):
        FrameReader(10).feed((11).to_bytes(4, "big"))


def test_an_empty_frame_is_refused():
    with pytest.raises(WireError, match="a frame is empty"):
        FrameReader(10).feed(bytes(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", "\ud800"])
def test_what_is_not_strict_json_is_not_written(value):
    with pytest.raises(WireError, match="a value cannot be written as strict JSON"):
        encode_frame(value, 100)


def test_a_value_above_the_limit_is_not_written():
    with pytest.raises(WireError, match="a frame of 12 bytes is larger than 11"):
        encode_frame("x" * 10, 11)


TABLES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["table", "number", "x"])},
    optional={
        "columns": st.lists(TEXTS | SCALARS, max_size=3),
        "rows": st.lists(st.lists(VALUES, max_size=3) | VALUES, max_size=3),
        "value": VALUES,
    },
)


@given(VALUES | st.dictionaries(TEXTS, TABLES | VALUES, max_size=3))
def test_any_value_is_plain_outputs_or_a_wire_error(value):
    with contextlib.suppress(WireError):
        for output in parse_outputs(value).values():
            cells = (
                [output["value"]] if output["kind"] == "number" else [cell for row in output["rows"] for cell in row]
            )
            assert all(cell is None or isinstance(cell, (int, float, str)) for cell in cells)


@given(VALUES | st.fixed_dictionaries(dict.fromkeys(("type", "sql", "share", "rows", "groups", "index"), VALUES)))
def test_any_value_is_a_question_or_ends_the_conversation(value):
    said = value if isinstance(value, dict) else {"type": value}
    with contextlib.suppress(Ended):
        request = parse_request(said, 7)
        assert isinstance(request["sql"], str)
        assert request["index"] == 7
