"""Talk with one worker: send the program, answer its questions, take its outputs, and believe nothing.

Only the time in which the worker has the turn counts against its wall-clock limit.  The engine's own time to answer may
depend on data; a limit that counted it would let that time decide how a job ends.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sandbox.runtime.host.zygote_process import Worker
from sandbox.runtime.wire import FrameReader, TooLargeError, WireError, decode_payload, encode_frame

_SLICE_S: Final = 0.2
_CHUNK_BYTES: Final = 1 << 16
_TO_GUEST_BYTES_MAX: Final = 64 << 20
QUESTION_BYTES_MAX: Final = 1 << 18
_MESSAGE_CHARACTERS_MAX: Final = 500
_SHARE_CHARACTERS_MAX: Final = 64
_BOUND_MAX: Final = 1_000_000
_EXACT_CHARACTERS_MAX: Final = 900
BLOCK_CALLS_MAX: Final = 16
OUTPUT_FIELDS: Final = ("name", "lower", "upper", "resolution", "default")

Answerer = Callable[[dict[str, Any]], dict[str, Any]]


class Ended(Exception):  # noqa: N818 - how a conversation ends, not always an error
    """The conversation is over.

    Attributes:
        status: as in `GuestOutcome`.
        message: one sentence for the operator; empty when all went well.
        said: the last frame, when it was one.
    """

    def __init__(self, status: str, message: str = "", said: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.said = said


class HungUpError(Exception):
    """The worker's end of the socket is closed."""


@dataclass(slots=True)
class Conversation:
    """The host's side of one job.

    Attributes:
        worker: the process.
        wall_s: seconds for which the worker may have the turn, in all.
        questions_max: how often it may ask.
        output_bytes: how large its outputs may be.
        cancel: set by another thread to end the job.
        is_frozen: whether all programs are stopped; that time is not the worker's.
        questions: how often it has asked.
        ready: whether the worker has said that its walls are up.
    """

    worker: Worker
    wall_s: float
    questions_max: int
    output_bytes: int
    cancel: threading.Event | None = None
    is_frozen: Callable[[], bool] = bool
    questions: int = 0
    ready: bool = False
    _spent_s: float = 0.0
    _reader: FrameReader | None = None

    def hold(self, job: dict[str, Any], answer: Answerer) -> dict[str, Any]:
        """Send a job and talk until the worker declares its last frame, which is returned.

        Raises:
            Ended: a limit, a cancellation, or a worker that does not keep to the wire.
            HungUpError: the worker is gone; its wait status tells why.
        """
        if self._receive() != {"type": "ready"}:
            raise Ended("protocol", "the program's process did not begin as it must")
        self.ready = True
        self._send(job)
        while True:
            said = self._receive()
            match said:
                case {"type": "ask" | "blocks"}:
                    self._answer(said, answer)
                case {"type": "result" | "failed" | "checked" | "rehearsed"}:
                    return dict(said)
                case _:
                    raise Ended("protocol", "the program's process sent a frame that means nothing")

    def _answer(self, said: dict[str, Any], answer: Answerer) -> None:
        if self.questions >= self.questions_max:
            raise Ended("limit", f"the program asked more than {self.questions_max} questions")
        request = parse_request(said, self.questions)
        self.questions += 1
        reply = answer(request)
        self._check_cancelled()
        try:
            self._send(reply)
        except TooLargeError:
            self._send(
                {
                    "ok": False,
                    "code": "isolation.limit.answer",
                    "message": "the answer is too large to hand over",
                    "hint": "ask for fewer groups",
                }
            )

    def _receive(self) -> Any:
        """Return the next value; a second frame that came with it was sent out of turn."""
        if self._reader is None:
            self._reader = FrameReader(max(self.output_bytes, QUESTION_BYTES_MAX))
        try:
            while True:
                self._wait(select.POLLIN)
                try:
                    data = self.worker.wire.recv(_CHUNK_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    raise HungUpError
                payloads = self._reader.feed(data)
                if len(payloads) > 1 or (payloads and self._reader.pending):
                    raise Ended("protocol", "the program's process spoke out of turn")
                if payloads:
                    return decode_payload(payloads[0])
        except WireError as error:
            status = "limit" if isinstance(error, TooLargeError) else "protocol"
            raise Ended(status, f"the program's process broke the wire: {error}") from None

    def _send(self, value: dict[str, Any]) -> None:
        frame = memoryview(encode_frame(value, _TO_GUEST_BYTES_MAX))
        while frame:
            self._wait(select.POLLOUT)
            try:
                frame = frame[self.worker.wire.send(frame) :]
            except BlockingIOError:
                continue
            except OSError:
                raise HungUpError from None

    def _wait(self, event: int) -> None:
        """Wait until the socket is ready, in slices, counting the time as the worker's."""
        poll = select.poll()
        poll.register(self.worker.wire, event)
        while True:
            self._check_cancelled()
            left_s = self.wall_s - self._spent_s
            if left_s <= 0:
                raise Ended("limit", f"the program ran longer than {self.wall_s:g} seconds")
            started = time.monotonic()
            frozen = self.is_frozen()
            ready = poll.poll(math.ceil(min(_SLICE_S, left_s) * 1000))
            if not frozen and not self.is_frozen():
                self._spent_s += time.monotonic() - started
            if ready:
                return

    def _check_cancelled(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Ended("killed", "the job was cancelled")


def parse_request(said: dict[str, Any], index: int) -> dict[str, Any]:
    """Return a question as the engine gets it; the index is our own count, not the worker's.

    Raises:
        Ended: a field is missing, of the wrong kind or out of its range.
    """
    shape = _SHAPES.get(said["type"]) if isinstance(said.get("type"), str) else None
    kind, fields, holds = shape or ({}, (), bool)
    if shape is None or said.keys() != {"type", "index", *fields} or not holds(said):
        raise Ended("protocol", "the program's process sent a question that is malformed")
    return kind | {key: said[key] for key in fields} | {"index": index}


def _is_question(said: dict[str, Any]) -> bool:
    return (
        isinstance(said["sql"], str)
        and _is_share(said["share"])
        and all(_is_bound(said[name]) for name in ("rows", "groups"))
    )


def _is_share(share: Any) -> bool:
    return share is None or (isinstance(share, str) and len(share) <= _SHARE_CHARACTERS_MAX)


def _is_blocks(said: dict[str, Any]) -> bool:
    columns, outputs = said["columns"], said["output"]
    return (
        all(isinstance(said[name], str) for name in ("table", "program", "parameters", "statistic", "mode"))
        and (columns is None or (isinstance(columns, list) and all(isinstance(name, str) for name in columns)))
        and isinstance(outputs, list)
        and all(_is_output(output) for output in outputs)
        and all(said[name] is not None and _is_bound(said[name]) for name in ("k", "milliseconds"))
        and isinstance(said["failures"], bool)
        and _is_share(said["share"])
    )


def _is_output(output: Any) -> bool:
    return (
        isinstance(output, list)
        and len(output) == len(OUTPUT_FIELDS)
        and all(isinstance(field, str) and len(field) <= _EXACT_CHARACTERS_MAX for field in output)
    )


def _is_bound(value: Any) -> bool:
    return value is None or (type(value) is int and 1 <= value <= _BOUND_MAX)


# What each kind of question carries: what the engine is told of its kind, its fields, and the check of them.
_SHAPES: Final[dict[str, tuple[dict[str, str], tuple[str, ...], Callable[[dict[str, Any]], bool]]]] = {
    "ask": ({}, ("sql", "share", "rows", "groups"), _is_question),
    "blocks": (
        {"kind": "blocks"},
        (
            "table", "columns", "program", "parameters", "k", "output", "statistic", "milliseconds", "mode",
            "failures", "share",
        ),
        _is_blocks,
    ),
}  # fmt: skip


def clean_sentence(text: Any) -> str:
    """Return what a worker said as one printable line of bounded length."""
    if not isinstance(text, str):
        return "the program failed"
    printable = "".join(character if character.isprintable() else " " for character in text[:4000])
    return " ".join(printable.split())[:_MESSAGE_CHARACTERS_MAX] or "the program failed"


def parse_block_calls(calls: list[Any]) -> list[dict[str, Any]]:
    """Return those of the questions to blocks that a check found which are well-formed; the others are dropped."""
    found = []
    for said in calls[:BLOCK_CALLS_MAX]:
        if isinstance(said, dict) and said.get("type") == "blocks":
            try:
                found.append(parse_request(said, 0))
            except (Ended, KeyError):
                continue
    return found
