"""One job behind the walls: read the program from the wire, run it, send what it declared."""

from __future__ import annotations

import base64
import os
import traceback
from typing import Any, Final

from sandbox.runtime.guest.block_calls import block_calls
from sandbox.runtime.guest.block_worker import run_block
from sandbox.runtime.guest.chance import seed_process
from sandbox.runtime.guest.faults import PROGRAM_NAME, ProgramFault, QuestionRefused
from sandbox.runtime.guest.outputs import OutputFault, write_outputs
from sandbox.runtime.guest.program_api import Data
from sandbox.runtime.guest.spoken import Language
from sandbox.runtime.guest.syscalls import WIRE_FD
from sandbox.runtime.wire import FrameReader, TooLargeError, WireError, decode_payload, encode_frame

_INCOMING_BYTES_MAX: Final = 64 << 20
_QUESTION_BYTES_MAX: Final = 1 << 18
_CHUNK_BYTES: Final = 1 << 16
_MESSAGE_CHARACTERS_MAX: Final = 500
ENTRY: Final = "analyze"


class Wire:
    """The worker's end of the socket; blocking, one frame at a time."""

    def __init__(self) -> None:
        self._reader = FrameReader(_INCOMING_BYTES_MAX)

    def receive(self) -> Any:
        """Return the next value from the host; ends the process when the host has hung up."""
        while True:
            data = os.read(WIRE_FD, _CHUNK_BYTES)
            if not data:
                os._exit(0)
            payloads = self._reader.feed(data)
            if payloads:
                return decode_payload(payloads[0])

    def send(self, value: Any, payload_bytes_max: int) -> None:
        """Send one value.

        Raises:
            WireError: the value is too large or not JSON; nothing was sent.
        """
        frame = memoryview(encode_frame(value, payload_bytes_max))
        while frame:
            frame = frame[os.write(WIRE_FD, frame) :]

    def exchange(self, value: Any) -> Any:
        """Send a question and return the host's reply."""
        self.send(value, _QUESTION_BYTES_MAX)
        return self.receive()


def serve(language: Language) -> None:
    """Do the one job of this process."""
    wire = Wire()
    wire.send({"type": "ready"}, _QUESTION_BYTES_MAX)
    job = wire.receive()
    try:
        match job["mode"]:
            case "check":
                reply = _check(language, job)
            case "rehearse":
                reply = _rehearse(language, job)
            case _:
                reply = _run(language, job, wire)
        wire.send(reply, job["output_bytes"])
    except TooLargeError:
        message = f"the outputs are larger than {job['output_bytes']} bytes"
        wire.send({"type": "failed", "kind": "limit", "message": message}, _QUESTION_BYTES_MAX)
    except WireError:
        message = "the outputs hold text that is not Unicode"
        wire.send({"type": "failed", "kind": "program", "message": message}, _QUESTION_BYTES_MAX)
    except MemoryError:
        wire.send({"type": "failed", "kind": "limit", "message": "the program used up its memory"}, _QUESTION_BYTES_MAX)


def _check(language: Language, job: dict[str, Any]) -> dict[str, Any]:
    try:
        language.compile(job["source"], job["entry"])
    except ProgramFault as fault:
        return {"type": "checked", "problem": fault.to_record(), "blocks": []}
    return {"type": "checked", "problem": None, "blocks": block_calls(job["source"])}


def _rehearse(language: Language, job: dict[str, Any]) -> dict[str, Any]:
    """Run a function over one block of made-up rows, and say what went wrong; a block of real rows never says it."""
    try:
        numbers = run_block(language, base64.b64decode(job["image"]))
        return {"type": "rehearsed", "numbers": [number.hex() for number in numbers]}
    except ProgramFault as fault:
        return {"type": "failed", "kind": "program", "message": fault.sentence()}
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a function raises is told
        return {"type": "failed", "kind": "program", "message": _describe(error)}


def _run(language: Language, job: dict[str, Any], wire: Wire) -> dict[str, Any]:
    seed_process(bytes.fromhex(job["seed"]))
    try:
        analyze = language.load(job["source"], {"QuestionRefused": QuestionRefused}, ENTRY)
        outputs = analyze(Data(wire.exchange, job["parameters"]))
        return {"type": "result", "outputs": write_outputs(outputs)}
    except ProgramFault as fault:
        return {"type": "failed", "kind": "program", "message": fault.sentence()}
    except OutputFault as fault:
        return {"type": "failed", "kind": "program", "message": str(fault)}
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is the program's failure
        return {"type": "failed", "kind": "program", "message": _describe(error)}


def _describe(error: BaseException) -> str:
    """Return one sentence about an error of the program, with the line it came from."""
    line = next(
        (
            frame.lineno
            for frame in reversed(traceback.extract_tb(error.__traceback__))
            if frame.filename == PROGRAM_NAME
        ),
        None,
    )
    place = f"line {line}: " if line is not None else ""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a program's own exception may fail to print
        text = ""
    if isinstance(error, QuestionRefused):
        return f"{place}the question was refused ({error.code}): {error.message}"[:_MESSAGE_CHARACTERS_MAX]
    name = type(error).__name__
    return (f"{place}{name}: {text}" if text else f"{place}{name}")[:_MESSAGE_CHARACTERS_MAX]
