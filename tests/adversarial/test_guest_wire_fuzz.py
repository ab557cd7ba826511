"""The host's reader of frames under any bytes: values or one kind of error, and the fuzzing reaches every branch of it."""

import contextlib
import json
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.runtime import wire
from sandbox.runtime.host import conversation, declared_outputs
from sandbox.runtime.host.conversation import Conversation, Ended, HungUpError, clean_sentence, parse_request
from sandbox.runtime.host.declared_outputs import parse_outputs
from sandbox.runtime.wire import FrameReader, TooLargeError, WireError, decode_payload, encode_frame
from tests.support.hostile_wire import WIRE_HEAD

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["\ud800", "table", "number"])
)
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=4), max_leaves=12
)
ASK = {"type": "ask", "sql": "x", "share": None, "rows": None, "groups": None, "index": 0}
BLOCKS = {
    "type": "blocks", "table": "t", "columns": None, "program": "p", "parameters": "{}", "k": 4,
    "output": [["x", "0", "1", "1/8", "1/2"]], "statistic": "mean", "milliseconds": 100, "mode": "fast", "failures": False,
    "share": None, "index": 0,
}  # fmt: skip
TABLE = {"kind": "table", "columns": ["a"], "rows": [[1]]}
NUMBER = {"kind": "number", "value": 1}
MESSAGES = st.sampled_from(
    [
        ASK,
        BLOCKS,
        {"type": "result", "outputs": {"t": TABLE, "n": NUMBER}},
        {"type": "failed", "kind": "limit", "message": "m"},
    ]
)


def mutated(message, key, value, *, drop):
    changed = dict(message)
    if drop:
        changed.pop(key, None)
    else:
        changed[key] = value
    return changed


class Speaker:
    """A worker that says one piece after another, whatever it is told, and then hangs up."""

    def __init__(self, pieces, ready):
        self.wire, self._pieces, self._ready = self, list(pieces), ready

    def fileno(self):
        return self._ready.fileno()

    def recv(self, size):
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]

    def send(self, data):
        return len(data)


def converse(*pieces, questions=3):
    """Let a worker speak to the host's side of a conversation; return what came of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")  # so that our end is always ready
        talk = Conversation(Speaker(pieces, ours), 30.0, questions, 4096)
        try:
            return talk.hold({"mode": "run"}, lambda _: {"ok": True, "answer": {}})
        except Ended as end:
            return end.status
        except HungUpError:
            return "hung up"


def frames(*values):
    return b"".join(raw(json.dumps(value).encode()) for value in values)


def raw(payload):
    return len(payload).to_bytes(4, "big") + payload


READY = {"type": "ready"}


@given(st.binary(max_size=200))
@example(raw(b"[" * 100_000))
@example(raw(b"1e999"))
@settings(max_examples=150, deadline=None)
def test_any_bytes_end_a_conversation_with_a_status(stream):
    for head in ((), (frames(READY),)):
        assert converse(*head, stream) in {"protocol", "limit", "hung up"}


@given(
    MESSAGES,
    st.text(max_size=8) | st.sampled_from([*ASK, *BLOCKS, "outputs", "kind", "message"]),
    VALUES,
    st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_any_change_to_a_message_is_a_value_or_a_status(message, key, value, drop):
    payload = json.dumps(mutated(message, key, value, drop=drop)).encode()
    said = converse(frames(READY), raw(payload))
    if isinstance(said, dict):
        assert said["type"] in {"result", "failed", "checked"}
        with contextlib.suppress(WireError):
            parse_outputs(said.get("outputs"))
        assert clean_sentence(said.get("message")).isprintable()
    else:
        assert said in {"protocol", "limit", "hung up"}


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_any_value_is_outputs_or_one_kind_of_error(value):
    for outputs in (
        value,
        {"t": value},
        {"t": {**TABLE, "rows": value}},
        {"t": {**TABLE, "columns": value}},
        {"n": {**NUMBER, "value": value}},
    ):
        with contextlib.suppress(WireError):
            parse_outputs(outputs)


# One input a branch, so that the fuzzing above starts from all of them; the test below proves that none is missed.
CORPUS = [
    lambda: converse(b""), lambda: converse(frames(READY), frames(ASK), frames(BLOCKS), frames({"type": "failed"})), lambda: converse(frames(READY)), lambda: converse(frames({"type": "x"})), lambda: converse(frames(READY), bytes(4)),
    lambda: converse(frames(READY), b"\x7f\xff\xff\xff"), lambda: converse(frames(READY, ASK, ASK)), lambda: converse(frames(READY), b"\0\0\0\x05ab"),
    lambda: converse(frames(READY), frames({"type": "checked", "problem": None})), lambda: converse(frames(READY), frames(["x"])),
    lambda: converse(frames(READY), frames(ASK), questions=0), lambda: converse(frames(READY), frames({**ASK, "sql": 1})),
    lambda: parse_request({"type": "nothing"}, 0), lambda: parse_request({}, 0), lambda: parse_request({**ASK, "type": []}, 0),
    lambda: parse_request(ASK, 3), lambda: parse_request(BLOCKS, 3), lambda: parse_request({**BLOCKS, "output": [1]}, 0),
    lambda: parse_request({**BLOCKS, "columns": [1]}, 0), lambda: parse_request({**ASK, "share": "x" * 99}, 0),
    lambda: conversation.parse_block_calls([1, ASK, BLOCKS, {**BLOCKS, "k": 0}]), lambda: clean_sentence(7), lambda: clean_sentence("\x00"), lambda: clean_sentence("a\nb"),
    lambda: decode_payload(b'{"a":1,"a":2}'), lambda: decode_payload(b"NaN"), lambda: decode_payload(b"9" * 30), lambda: decode_payload(b"\xff"),
    lambda: decode_payload(b"[" * 17 + b"]" * 17), lambda: decode_payload(b'["\\ud800",1]'), lambda: decode_payload(b"[1e999]"),
    lambda: decode_payload(b'{"a":[1,{"b":2.5}]}'), lambda: decode_payload(b"[" + b"1," * 60 + b"1]"),
    lambda: encode_frame({1, 2}, 9), lambda: encode_frame("xxxxxxxxxxxx", 3), lambda: FrameReader(9).pending,
    lambda: parse_outputs(1), lambda: parse_outputs({"": NUMBER}), lambda: parse_outputs({"n": 1}), lambda: parse_outputs({"n": {**NUMBER, "value": "x"}}),
    lambda: parse_outputs({"t": TABLE, "n": NUMBER}), lambda: parse_outputs({"t": {**TABLE, "columns": [1]}}), lambda: parse_outputs({"t": {**TABLE, "columns": ["a", "a"]}}),
    lambda: parse_outputs({"t": {**TABLE, "rows": [[]]}}), lambda: parse_outputs({"t": {**TABLE, "rows": [[[]]]}}),
]  # fmt: skip
# Lines that no bytes can reach: cancelling, freezing, sockets that fail, limits of time, answers that are too large.
BEYOND_BYTES = {
    "conversation.py": {"_send", "_wait", "_check_cancelled", "_answer", "_receive", "__init__"},
    "wire.py": set(),
    "declared_outputs.py": set(),
}


def run_corpus():
    for entry in CORPUS:
        with contextlib.suppress(WireError, TooLargeError, Ended):
            entry()


def test_the_corpus_reaches_every_line_of_the_parser(monkeypatch):
    monkeypatch.setattr(wire, "NODES_MAX", 50)
    modules = {Path(module.__file__): module for module in (wire, conversation, declared_outputs)}
    seen = {path: set() for path in modules}

    def trace(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if path not in modules:
            return None
        seen[path].add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run_corpus()
    finally:
        sys.settrace(before)
    for path, module in modules.items():
        for name, code in functions_of(path):
            if name in BEYOND_BYTES[path.name]:
                continue
            lines = {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
            missed = sorted(lines - seen[path])
            assert missed == [], f"{module.__name__}.{name}: lines {missed}"


def functions_of(path):
    """Yield the name and code of each function of a file."""
    stack = [compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)]
    while stack:
        for constant in stack.pop().co_consts:
            if hasattr(constant, "co_lines"):
                stack.append(constant)
                if constant.co_flags & 2 and not constant.co_name.startswith("<"):
                    yield constant.co_name, constant


def test_the_head_of_the_wire_attacks_writes_frames_as_this_test_does():
    space = {}
    exec(WIRE_HEAD, space)
    assert space["frame"](b"abc") == raw(b"abc") == b"\0\0\0\x03abc"


@pytest.mark.parametrize("status", ["protocol", "limit"])
def test_the_statuses_of_a_broken_wire_are_two(status):
    stream = b"\x7f\xff\xff\xff" if status == "limit" else bytes(4)
    assert converse(frames(READY), stream) == status
