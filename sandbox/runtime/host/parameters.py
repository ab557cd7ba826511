"""Public parameters of programs: plain values by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sandbox.errors import ProgramError
from sandbox.runtime.wire import HEADER_BYTES, WireError, decode_payload, encode_frame

Scalar = str | int | float | bool | None
_PARAMETER_BYTES_MAX: Final = 1 << 16


def check_parameters(parameters: Mapping[str, Scalar]) -> None:
    """Raise `ProgramError` unless every value is text, a finite number within 64 bits, true, false or null."""
    for name, value in parameters.items():
        try:
            plain = type(name) is str and type(value) in {str, int, float, bool, type(None)}
            decode_payload(encode_frame({name: value}, _PARAMETER_BYTES_MAX)[HEADER_BYTES:])
        except WireError:
            plain = False
        if not plain:
            raise ProgramError(
                f"the parameter `{name!s:.60}` is not a plain value",
                hint="parameters are text, finite numbers within 64 bits, true, false or null",
                code="input.program.parameter",
                line=None,
                column=None,
            )
