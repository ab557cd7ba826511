"""Frames that do not keep to the wire: only a program that has broken out of its language could send them."""

from tests.support.hostile import body

WIRE = {
    "garbage": "os.write(3, b'\\xff' * 64)",
    "not_json": "os.write(3, b'\\x00\\x00\\x00\\x03abc')",
    "empty_frame": "os.write(3, b'\\x00\\x00\\x00\\x00')",
    "huge_announcement": "os.write(3, b'\\x7f\\xff\\xff\\xff')",
    "truncated_frame": "os.write(3, b'\\x00\\x00\\x00\\x09abc')\nos._exit(0)",
    "early_end": "os._exit(0)",
    "exit_code_of_the_walls": "os._exit(70)",
    "repeated_key": "send(b'{\"type\":\"result\",\"type\":\"result\",\"outputs\":{}}')",
    "not_a_number": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":NaN}}}')",
    "infinity": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":1e999}}}')",
    "large_integer": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":' + b'9' * 5000 + b'}}}')",
    "deep": "send(b'[' * 40000 + b']' * 40000)",
    "lone_surrogate": "send(b'{\"type\":\"result\",\"outputs\":{\"\\\\ud800\":{\"kind\":\"number\",\"value\":1}}}')",
    "unknown_type": "send(b'{\"type\":\"reboot\"}')",
    "bare_list": "send(b'[1]')",
    "nested_cells": "send(b'{\"type\":\"result\",\"outputs\":{\"t\":{\"kind\":\"table\",\"columns\":[\"a\"],\"rows\":[[[1]]]}}}')",
    "ragged_rows": "send(b'{\"type\":\"result\",\"outputs\":{\"t\":{\"kind\":\"table\",\"columns\":[\"a\"],\"rows\":[[1,2]]}}}')",
    "extra_field": "send(b'{\"type\":\"result\",\"outputs\":{\"n\":{\"kind\":\"number\",\"value\":1,\"more\":1}}}')",
    "malformed_question": "send(b'{\"type\":\"ask\",\"sql\":1,\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}')",
    "question_with_extra": "send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0,\"y\":1}')",
    "question_with_bound_zero": "send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":0,\"groups\":null,\"index\":0}')",
    "flood": "while True:\n    send(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}')",
    "out_of_turn": "os.write(3, 2 * frame(b'{\"type\":\"ask\",\"sql\":\"x\",\"share\":null,\"rows\":null,\"groups\":null,\"index\":0}'))",
    "second_check": "send(b'{\"type\":\"checked\",\"problem\":null}')",
    "rehearsed_in_a_job": "send(b'{\"type\":\"rehearsed\",\"numbers\":[\"0x1.0p+0\"]}')",
    "result_without_outputs": "send(b'{\"type\":\"result\"}')",
    "failed_of_unknown_kind": "send(b'{\"type\":\"failed\",\"kind\":\"secret\",\"message\":\"x\"}')",
    "blocks_with_a_float_count": "send(b'{\"type\":\"blocks\",\"table\":\"t\",\"columns\":null,\"program\":\"x\",\"parameters\":\"{}\",\"k\":4.0,\"output\":[],\"statistic\":\"mean\",\"milliseconds\":250,\"mode\":\"fast\",\"failures\":false,\"share\":null,\"index\":0}')",
    "silence": "while True:\n    os.read(3, 1)",
}  # fmt: skip
WIRE_HEAD = (
    "import os\ndef frame(b):\n    return len(b).to_bytes(4, 'big') + b\n"
    "def send(b):\n    b = frame(b)\n    while b:\n        b = b[os.write(3, b):]\n"
)


def speak(text: str) -> str:
    """Return a program that puts raw bytes on its wire and then waits to be cut off."""
    return WIRE_HEAD + body(text + "\nos.read(3, 1)", "")
