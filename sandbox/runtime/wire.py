"""Frames between the host and a guest: a length, then strictly read JSON.

A frame is four bytes, big-endian, with the number of payload bytes, then that many bytes of UTF-8 JSON.  Both ends use
this module; the host trusts nothing that it reads.  There is no pickle and no Arrow: a reader of those follows offsets
that the sender chose, a reader of JSON does not.

What is refused: an empty frame, a frame above the limit (before its bytes are read), text that is not UTF-8, a lone
surrogate, a repeated key, `NaN` and infinities in any spelling, a number that does not fit 64 bits, nesting above
`DEPTH_MAX`, more than `NODES_MAX` values.

The module is pure: bytes in, values out.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

HEADER_BYTES = 4
DEPTH_MAX = 16
NODES_MAX = 2_000_000
INTEGER_DIGITS_MAX = 19
INTEGER_MAX = 2**63 - 1


class WireError(ValueError):
    """Bytes are not a frame that this side reads; the text says why and carries none of the bytes."""


def encode_frame(value: Any, payload_bytes_max: int) -> bytes:
    """Return the frame that carries a JSON value.

    Args:
        value: a JSON value; floats must be finite.
        payload_bytes_max: the most bytes that the other side reads.

    Raises:
        WireError: the value is not JSON, or it is larger than the limit.
    """
    try:
        payload = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError("a value cannot be written as strict JSON") from error
    if len(payload) > payload_bytes_max:
        raise TooLargeError(f"a frame of {len(payload)} bytes is larger than {payload_bytes_max}")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def decode_payload(payload: bytes) -> Any:
    """Return the JSON value that a payload writes.

    Raises:
        WireError: the payload is not strict JSON within the limits of this module.
    """
    try:
        text = payload.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_int=_bounded_integer
        )
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError("a frame is not JSON") from error
    _check_value(value)
    return value


class TooLargeError(WireError):
    """A frame is, or announces that it is, larger than the other side reads."""


class FrameReader:
    """Cuts a byte stream into payloads; a frame that announces too much is refused at its header.

    Args:
        payload_bytes_max: the most bytes that one payload may have.
    """

    def __init__(self, payload_bytes_max: int) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came and return the payloads that are now whole.

        Raises:
            WireError: a header announces an empty frame or one above the limit.
        """
        self._buffer += data
        payloads: list[bytes] = []
        while len(self._buffer) >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if size == 0:
                raise WireError("a frame is empty")
            if size > self._payload_bytes_max:
                raise TooLargeError(f"a frame announces {size} bytes, the limit is {self._payload_bytes_max}")
            end = HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            payloads.append(bytes(self._buffer[HEADER_BYTES:end]))
            del self._buffer[:end]
        return payloads

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise WireError("a frame repeats a key")
    return record


def _refuse_constant(_: str) -> NoReturn:
    raise WireError("a frame has a number that is not finite")


def _bounded_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > INTEGER_DIGITS_MAX or abs(int(digits)) > INTEGER_MAX:
        raise WireError("a frame has an integer that does not fit 64 bits")
    return int(digits)


def _check_value(value: Any) -> None:
    """Walk a value without recursion; refuse depth, number of nodes, lone surrogates and infinities."""
    stack: list[tuple[Any, int]] = [(value, 1)]
    nodes = 0
    while stack:
        node, depth = stack.pop()
        nodes += 1
        if nodes > NODES_MAX:
            raise WireError("a frame has too many values")
        if isinstance(node, str):
            _check_text(node)
        elif isinstance(node, float):
            if not math.isfinite(node):
                raise WireError("a frame has a number that is not finite")
        elif isinstance(node, (dict, list)):
            if depth > DEPTH_MAX:
                raise WireError("a frame is nested too deep")
            if isinstance(node, dict):
                for key in node:
                    _check_text(key)
                stack.extend((child, depth + 1) for child in node.values())
            else:
                stack.extend((child, depth + 1) for child in node)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise WireError("a frame has text that is not Unicode") from None
