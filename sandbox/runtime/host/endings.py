"""How a program may end, and how its end is told: few sentences, none of them from the walls' insides."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.errors import GuestFailedError
from sandbox.runtime.host.conversation import Conversation, Ended, clean_sentence
from sandbox.runtime.host.declared_outputs import parse_outputs
from sandbox.runtime.wire import WireError

Status = Literal["ok", "program_error", "limit", "killed", "protocol"]


@dataclass(frozen=True, slots=True)
class GuestLimits:
    """What one program may use.

    Attributes:
        cpu_s: seconds of processor time.
        wall_s: seconds for which it has the turn; the time in which the engine answers does not count.
        memory_bytes: address space on top of the interpreter with its libraries.
        questions: how often it may ask.
        output_bytes: size of its outputs as JSON.
        source_bytes: size of its source.
    """

    cpu_s: float = 20
    wall_s: float = 120
    memory_bytes: int = 1 << 30
    questions: int = 64
    output_bytes: int = 1 << 20
    source_bytes: int = 65536


@dataclass(frozen=True, slots=True)
class GuestOutcome:
    """How a program ended.

    Attributes:
        status: `ok`; `program_error` (it raised, or is not in the language); `limit`; `killed` (cancelled, or ended by
            the walls); `protocol` (its process did not keep to the wire).
        outputs: name to table or number, only when `ok`.
        message: one sentence, a function of the program and of released answers only; empty when `ok`.
        questions: how many it asked.
    """

    status: Status
    outputs: dict[str, Any] | None
    message: str
    questions: int


def outcome_of(said: dict[str, Any] | None, questions: int) -> GuestOutcome:
    """Return how a program ended that said its last frame."""
    match said:
        case {"type": "result", "outputs": outputs}:
            try:
                return GuestOutcome("ok", parse_outputs(outputs), "", questions)
            except WireError as error:
                return GuestOutcome("protocol", None, f"the declared outputs are malformed: {error}", questions)
        case {"type": "failed", "kind": "limit", "message": message}:
            return GuestOutcome("limit", None, clean_sentence(message), questions)
        case {"type": "failed", "kind": "program", "message": message}:
            return GuestOutcome("program_error", None, clean_sentence(message), questions)
        case _:
            return GuestOutcome(
                "protocol", None, "the program's process ended with a frame that means nothing", questions
            )


def how_it_died(status: int, conversation: Conversation, limits: GuestLimits) -> Ended:
    """Say how a worker ended that hung up.

    Raises:
        GuestFailedError: it ended before its walls were up, so the fault is not the program's.
    """
    if not conversation.ready:
        raise GuestFailedError(
            "a guest ended before its walls were up",
            hint="run `saggar doctor`; the machine may be out of memory",
            code="isolation.guest_failed.walls",
        )
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in {signal.SIGPROF, signal.SIGXCPU}:
            return Ended("limit", f"the program used more than {limits.cpu_s:g} seconds of processor time")
        if number == signal.SIGSYS:
            return Ended("killed", "the program did what the walls forbid and was ended")
        return Ended("killed", "the program's process ended abnormally")
    return Ended("protocol", "the program's process ended without a result")


def status_of(text: str) -> Status:
    """Return the status that a conversation ended with."""
    match text:
        case "limit" | "killed" | "protocol":
            return text
        case _:
            raise AssertionError(f"{text} is not how a conversation ends")
