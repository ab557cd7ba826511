"""Run operators' programs in guests: processes without data, keys, files, network or clock.

A guest holds nothing but the program, its public parameters and the answers that the engine has already released to
it, so whatever it computes is post-processing of released answers, whether or not the program escapes its language.
The walls are there so that it can touch nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from sandbox.errors import GuestFailedError, ProgramError
from sandbox.runtime.host.blocks import BlockWork, run_blocks
from sandbox.runtime.host.conversation import (
    Answerer,
    Conversation,
    Ended,
    HungUpError,
    clean_sentence,
    parse_block_calls,
)
from sandbox.runtime.host.declared_outputs import parse_outputs
from sandbox.runtime.host.memory import memory_bytes
from sandbox.runtime.host.parameters import Scalar, check_parameters
from sandbox.runtime.host.report import IsolationReport, Level, too_thin_error
from sandbox.runtime.host.zygote_process import GUEST_COMMAND, Worker, ZygoteProcess
from sandbox.runtime.wire import WireError

Status = Literal["ok", "program_error", "limit", "killed", "protocol"]

_SEED_BYTES: Final = 32


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


DEFAULT_LIMITS: Final = GuestLimits()
_CHECK_LIMITS: Final = GuestLimits(cpu_s=5, wall_s=30, memory_bytes=512 << 20, questions=0)


@dataclass(frozen=True, slots=True)
class Program:
    """An operator's program.

    Attributes:
        source: Python, with a function `analyze(data)`.
        parameters: public values, by name.
        seed: 32 bytes derived from the job; every draw of chance in the program follows from them.
    """

    source: str
    parameters: Mapping[str, Scalar]
    seed: bytes


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


class GuestHost:
    """Runs programs, each in a process of its own; several threads may run programs at once.

    Args:
        least: the level below which no program runs.

    Raises:
        LayerMissingError: from `start`, when the machine gives less than `least`.
        GuestFailedError: from `start`, `check` and `run`, when the guests' own machinery fails.
    """

    _command: ClassVar[tuple[str, ...]] = GUEST_COMMAND

    def __init__(self, *, least: Level = Level.STANDARD) -> None:
        if least < Level.FLOOR:
            raise AssertionError("a level below the floor is not isolation")
        self._least = least
        self._lock = threading.Lock()
        self._zygote: ZygoteProcess | None = None
        self._block_zygote: ZygoteProcess | None = None
        self._live_lock = threading.Lock()
        self._live: dict[int, Worker] = {}
        self._freezes = 0

    def start(self) -> None:
        """Start the process that guests are forked from, and try its walls; does nothing if it runs."""
        self._running()

    def close(self) -> None:
        """End it, and every program that still runs."""
        with self._lock:
            for zygote in (self._zygote, self._block_zygote):
                if zygote is not None:
                    zygote.close()
            self._zygote = self._block_zygote = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def report(self) -> IsolationReport:
        """What isolation this machine gives, as found by trying at the start."""
        return self._running().report

    def memory_bytes(self) -> tuple[int, ...]:
        """Return the memory of each program that runs now, in bytes."""
        with self._live_lock:
            return tuple(memory_bytes(worker.handle) for worker in self._live.values())

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every program for a while, and those that start meanwhile.

        For questions whose computing can be steered by the data: a program that runs beside them could measure how busy
        the machine is.  The time does not count for the programs.
        """
        with self._live_lock:
            self._freezes += 1
            for worker in self._live.values():
                worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with self._live_lock:
                self._freezes -= 1
                if self._freezes == 0:
                    for worker in self._live.values():
                        worker.send_signal(signal.SIGCONT)

    def _is_frozen(self) -> bool:
        return self._freezes > 0

    def _enter(self, worker: Worker) -> None:
        with self._live_lock:
            self._live[worker.handle] = worker
            if self._freezes:
                worker.send_signal(signal.SIGSTOP)

    def _leave(self, worker: Worker) -> None:
        with self._live_lock:
            del self._live[worker.handle]

    def check(self, source: str, *, entry: str = "analyze") -> tuple[dict[str, Any], ...]:
        """Compile a program behind the walls, without running it.

        Args:
            source: the text.
            entry: the function that it must have: `analyze`, or `block` for a function over blocks.

        Returns:
            The requests to blocks that its text spells out; help for a quote, and nothing to rely on.

        Raises:
            ProgramError: it is not in the language; `details` has `line` and `column`.
        """
        _check_source(source, _CHECK_LIMITS)
        job = {"mode": "check", "source": source, "entry": entry}
        said, ended = self._converse(job, _no_answer, _CHECK_LIMITS, None)[:2]
        match said:
            case {"type": "checked", "problem": None, "blocks": list(calls)} if ended is None:
                return tuple(parse_block_calls(calls))
            case {"type": "checked", "problem": {"message": message, "hint": hint, "line": line, "column": column}}:
                raise ProgramError(
                    clean_sentence(message), hint=clean_sentence(hint), line=_place(line), column=_place(column)
                )
            case _:
                raise ProgramError(
                    "the program cannot be compiled within the limits",
                    hint="make it shorter or less nested",
                    code="input.program.too_complex",
                    line=None,
                    column=None,
                )

    def run(
        self,
        program: Program,
        answer: Answerer,
        *,
        limits: GuestLimits = DEFAULT_LIMITS,
        cancel: threading.Event | None = None,
    ) -> GuestOutcome:
        """Run a program to its end.

        Args:
            program: what to run.
            answer: called in this thread for each question with `sql`, `share`, `rows`, `groups`, `index`; returns
                `{"ok": True, "answer": <Answer record>}` or `{"ok": False, "code", "message", "hint"}`.  If it raises,
                the program is ended and the exception goes on to the caller.
            limits: what the program may use.
            cancel: set it from another thread to end the program; it ends within a second, or when a call of `answer`
                that is under way returns.

        Returns:
            How it ended.  A failing program is an outcome, never an exception.

        Raises:
            ProgramError: a parameter is not a plain value.
            GuestFailedError: the machinery failed; the program may be run again.
        """
        check_parameters(program.parameters)
        try:
            _check_source(program.source, limits)
        except ProgramError as error:
            return GuestOutcome("program_error", None, error.message, 0)
        if len(program.seed) != _SEED_BYTES:
            raise AssertionError("a seed has 32 bytes")
        job = {
            "mode": "run",
            "source": program.source,
            "parameters": dict(program.parameters),
            "seed": program.seed.hex(),
        }
        said, ended, questions = self._converse(job, answer, limits, cancel)
        if ended is not None:
            return GuestOutcome(_status(ended.status), None, ended.message, questions)
        return _outcome(said, questions)

    def run_blocks(self, work: BlockWork, *, cancel: threading.Event | None = None) -> list[tuple[float, ...] | None]:
        """Run a function on each block, each in a worker of its own that dies after it, while programs stand still.

        Block workers come from a zygote of their own: it has never seen a program, and nothing that a worker does
        comes back to it.

        Returns:
            For each block, in order, its numbers, or None for a block that failed in any way.

        Raises:
            CancelledError: from `sandbox.errors`, when `cancel` is set.
            GuestFailedError: the machinery failed.
        """
        with self._lock:
            self._block_zygote = self._alive(self._block_zygote)
            zygote = self._block_zygote
        with self.frozen():
            return run_blocks(zygote, work, cancel)

    def _converse(
        self, job: dict[str, Any], answer: Answerer, limits: GuestLimits, cancel: threading.Event | None
    ) -> tuple[dict[str, Any] | None, Ended | None, int]:
        """Hold one conversation; return the last frame, or how else it ended, and the number of questions."""
        zygote = self._running()
        worker = zygote.spawn(cpu_s=limits.cpu_s, memory_bytes=limits.memory_bytes)
        conversation = Conversation(
            worker, limits.wall_s, limits.questions, limits.output_bytes, cancel, self._is_frozen
        )
        said: dict[str, Any] | None = None
        ended: Ended | None = None
        hung_up = False
        self._enter(worker)
        try:
            said = conversation.hold({**job, "output_bytes": limits.output_bytes}, answer)
        except Ended as end:
            ended = end
        except HungUpError:
            hung_up = True
            worker.has_ended(1.0)
        finally:
            self._leave(worker)
            status = zygote.reap(worker)
        if hung_up:
            ended = _how_it_died(status, conversation, limits)
        return said, ended, conversation.questions

    def _running(self) -> ZygoteProcess:
        with self._lock:
            self._zygote = self._alive(self._zygote)
            return self._zygote

    def _alive(self, zygote: ZygoteProcess | None) -> ZygoteProcess:
        """Return a zygote that runs: this one, or a new one where there is none or it died; the lock is held."""
        if zygote is not None and zygote.alive:
            return zygote
        if zygote is not None:
            zygote.close()
        fresh = ZygoteProcess(self._command)
        if fresh.report.level < self._least:
            fresh.close()
            raise too_thin_error(fresh.report, self._least)
        return fresh


def _check_source(source: str, limits: GuestLimits) -> None:
    try:
        size = len(source.encode("utf-8"))
    except UnicodeEncodeError:
        raise ProgramError("the program is not Unicode text", hint="save it as UTF-8", line=None, column=None) from None
    if size > limits.source_bytes:
        raise ProgramError(
            f"the program has {size} bytes, more than {limits.source_bytes}",
            hint="make it shorter; what is large belongs into parameters or public tables",
            code="input.program.too_long",
            line=None,
            column=None,
        )


def _place(value: Any) -> int | None:
    return value if type(value) is int else None


def _no_answer(_: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError("a program that is only checked asks nothing")


def _outcome(said: dict[str, Any] | None, questions: int) -> GuestOutcome:
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


def _how_it_died(status: int, conversation: Conversation, limits: GuestLimits) -> Ended:
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


def _status(text: str) -> Status:
    match text:
        case "limit" | "killed" | "protocol":
            return text
        case _:
            raise AssertionError(f"{text} is not how a conversation ends")
