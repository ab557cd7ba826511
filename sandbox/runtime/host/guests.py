"""Run operators' programs in guests: processes without data, keys, files, network or clock.

A guest holds nothing but the program, its public parameters and the answers that the engine has already released to
it, so whatever it computes is post-processing of released answers, whether or not the program escapes its language.
The walls are there so that it can touch nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from sandbox.errors import ProgramError
from sandbox.runtime.host.ahead import Ahead
from sandbox.runtime.host.blocks import BlockRun, BlockWork, run_blocks
from sandbox.runtime.host.conversation import (
    Answerer,
    Conversation,
    Ended,
    HungUpError,
    clean_sentence,
    parse_block_calls,
)
from sandbox.runtime.host.endings import GuestLimits, GuestOutcome, how_it_died, outcome_of, status_of
from sandbox.runtime.host.libraries import Libraries, libraries_of
from sandbox.runtime.host.memory import memory_bytes
from sandbox.runtime.host.parameters import Scalar, check_parameters
from sandbox.runtime.host.rehearsing import TriedBlock, read_tried
from sandbox.runtime.host.report import IsolationReport, Level
from sandbox.runtime.host.zygote_process import GUEST_COMMAND, Worker, ZygoteProcess
from sandbox.runtime.host.zygotes import Purpose, Zygotes

_SEED_BYTES: Final = 32
_HANDOVER_S: Final = 1.0


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
        self._zygotes = Zygotes(self._command, least)
        self._one_at_a_time = threading.Lock()
        self._live_lock = threading.Lock()
        self._live: dict[int, Worker] = {}
        self._freezes = 0
        self._ahead = Ahead(self._bury)

    def start(self) -> None:
        """Start the process that guests are forked from, and try its walls; does nothing if it runs."""
        self._zygotes.get(Purpose.PROGRAMS, Libraries.PLAIN)

    def close(self) -> None:
        """End it, and every program that still runs."""
        self._ahead.close()
        self._zygotes.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def report(self) -> IsolationReport:
        """What isolation this machine gives, as found by trying at the start."""
        return self._zygotes.get(Purpose.PROGRAMS, Libraries.PLAIN).report

    def report_for(self, source: str) -> IsolationReport:
        """Return what isolation a program gets, and the versions of what it runs with."""
        return self._zygotes.get(Purpose.PROGRAMS, libraries_of(source)).report

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

    def begin_check(self, source: str) -> None:
        """Begin what `check` of this program will wait for, and return at once."""
        self._ahead.begin_check(source, lambda text: self._checked(text, "analyze"))

    def begin_process(self, source: str) -> None:
        """Begin to start the process, still told nothing, in which the next `run` of such a program takes place."""
        zygote = self._zygotes.get(Purpose.PROGRAMS, libraries_of(source))
        self._ahead.begin_process(zygote, lambda ready: self._spawn(ready, DEFAULT_LIMITS))

    def end_begun(self) -> None:
        """End the process that was begun and that no `run` has taken; does nothing if there is none."""
        self._ahead.end_process()

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
        begun = self._ahead.take_check(source) if entry == "analyze" else None
        return self._checked(source, entry) if begun is None else begun

    def _checked(self, source: str, entry: str) -> tuple[dict[str, Any], ...]:
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
            return GuestOutcome(status_of(ended.status), None, ended.message, questions)
        return outcome_of(said, questions)

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
        return self.watch_blocks(work, None, cancel=cancel).vectors

    def watch_blocks(
        self, work: BlockWork, control: BlockWork | None, *, cancel: threading.Event | None = None
    ) -> BlockRun:
        """Run blocks as `run_blocks` does, with the host's own controls in between, which tell how busy the machine is.

        One question to blocks at a time: another's blocks, whose load data may steer, would show in the controls.
        """
        zygote = self._zygotes.get(Purpose.BLOCKS, work.libraries)
        with self._one_at_a_time, self.frozen():
            return run_blocks(zygote, work, cancel, control)

    def rehearse_block(self, source: str, image: bytes, *, wall_s: float) -> TriedBlock:
        """Run a function over one block of made-up rows behind the same walls, and say what went wrong.

        Args:
            source: the function's text.
            image: the block (`block_image.encode_image`); never of real rows, since what went wrong is told.
            wall_s: how long it may run.
        """
        limits = GuestLimits(cpu_s=wall_s, wall_s=wall_s + _HANDOVER_S, memory_bytes=512 << 20, questions=0)
        job = {"mode": "rehearse", "source": source, "image": base64.b64encode(image).decode("ascii")}
        started = time.monotonic()
        said, ended, _ = self._converse(job, _no_answer, limits, None)
        return read_tried(said, ended, time.monotonic() - started)

    def _converse(
        self, job: dict[str, Any], answer: Answerer, limits: GuestLimits, cancel: threading.Event | None
    ) -> tuple[dict[str, Any] | None, Ended | None, int]:
        """Hold one conversation; return the last frame, or how else it ended, and the number of questions."""
        zygote = self._zygotes.get(Purpose.PROGRAMS, libraries_of(job["source"]))
        worker = self._ahead.take_process(zygote) if limits is DEFAULT_LIMITS else None
        if worker is None:
            worker = self._spawn(zygote, limits)
        conversation = Conversation(
            worker, limits.wall_s, limits.questions, limits.output_bytes, cancel, self._is_frozen
        )
        said: dict[str, Any] | None = None
        ended: Ended | None = None
        hung_up = False
        try:
            said = conversation.hold({**job, "output_bytes": limits.output_bytes}, answer)
        except Ended as end:
            ended = end
        except HungUpError:
            hung_up = True
            worker.has_ended(1.0)
        finally:
            status = self._bury(zygote, worker)
        if hung_up:
            ended = how_it_died(status, conversation, limits)
        return said, ended, conversation.questions

    def _spawn(self, zygote: ZygoteProcess, limits: GuestLimits) -> Worker:
        """Return a fresh worker, which stands still while programs are frozen."""
        worker = zygote.spawn(cpu_s=limits.cpu_s, memory_bytes=limits.memory_bytes)
        self._enter(worker)
        return worker

    def _bury(self, zygote: ZygoteProcess, worker: Worker) -> int:
        """End a worker and return its wait status."""
        self._leave(worker)
        return zygote.reap(worker)


def guest_memory_bytes(zygote: ZygoteProcess) -> int:
    """Return the memory of a guest that has started and been told nothing yet, in bytes, as the kernel counts it.

    Raises:
        GuestFailedError: no guest starts.
    """
    worker = zygote.spawn(cpu_s=DEFAULT_LIMITS.cpu_s, memory_bytes=DEFAULT_LIMITS.memory_bytes)
    try:
        return memory_bytes(worker.handle)
    finally:
        zygote.reap(worker)


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
