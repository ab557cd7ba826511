"""What a worker says of one block of made-up rows; read as strictly as everything that comes out of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from sandbox.runtime.host.conversation import Ended, clean_sentence

_HEX: Final = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|-?inf|nan")


@dataclass(frozen=True, slots=True)
class TriedBlock:
    """One block that was rehearsed.

    Attributes:
        numbers: what it gave, or None when it would count with its default.
        reason: why, one sentence; empty when it gave its numbers.
        took_s: seconds from handing over to the end.
    """

    numbers: tuple[float, ...] | None
    reason: str
    took_s: float


def read_tried(said: dict[str, Any] | None, ended: Ended | None, took_s: float) -> TriedBlock:
    """Return what came of a block."""
    match said:
        case {"type": "rehearsed", "numbers": list(texts)} if ended is None:
            if all(isinstance(text, str) and _HEX.fullmatch(text) for text in texts):
                return TriedBlock(tuple(float.fromhex(text) for text in texts), "", took_s)
            return TriedBlock(None, "the function's process sent what are no numbers", took_s)
        case {"type": "failed", "message": message}:
            return TriedBlock(None, clean_sentence(message), took_s)
        case _:
            told = "the function's process ended without numbers" if ended is None else ended.message
            return TriedBlock(None, told.replace("the program", "the function"), took_s)
