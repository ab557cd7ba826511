"""Where a job's time goes beyond its questions, stage by stage: the clock stops for whatever is measured on its own."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from sandbox.crypto.sm2 import Sm2
from sandbox.jobs.engine import Engine
from sandbox.jobs.line import run_job
from sandbox.jobs.questions import Questioner
from sandbox.jobs.stages import SignedJob
from sandbox.ledger.store import Ledger
from sandbox.runtime.host.guests import GuestHost
from sandbox.service.documents import DocumentDirectory
from sandbox.service.witness_client import LocalWitness
from sandbox.vault.store import Vault

QUESTIONS, REST = "its questions, not counted", "the line's own work"
PARTS: tuple[tuple[str, type, str], ...] = (
    (QUESTIONS, Questioner, "answer"),
    ("the program compiled behind the walls", GuestHost, "check"),
    ("the program run behind the walls", GuestHost, "run"),
    ("entries of the log, each durable", Ledger, "append_all"),
    ("checkpoints kept", Ledger, "keep_checkpoint"),
    ("documents, each durable", DocumentDirectory, "put"),
    ("the witness, a process of its own", LocalWitness, "cosign"),
    ("signatures made", Sm2, "sign"),
    ("signatures verified", Sm2, "verify"),
    ("keys of columns unwrapped", Vault, "open_snapshot"),
)


@dataclass
class Stopwatch:
    """What one job cost; wall and processor time go to the innermost part that is at work.

    Attributes:
        wall_ms, processor_ms: by part; the processor time is this process's.
        syncs: writes that waited for the disk, in this process, questions and log not counted.
        padding_ms: what the line would have slept.
    """

    wall_ms: Counter[str] = field(default_factory=Counter)
    processor_ms: Counter[str] = field(default_factory=Counter)
    syncs: int = 0
    padding_ms: float = 0.0
    _stack: list[str] = field(default_factory=lambda: [REST])
    _since: tuple[float, float] = (0.0, 0.0)

    @property
    def whole_ms(self) -> float:
        """All of it."""
        return sum(self.wall_ms.values())

    @property
    def beyond_ms(self) -> float:
        """All but the questions."""
        return self.whole_ms - self.wall_ms[QUESTIONS]

    @property
    def processor_beyond_ms(self) -> float:
        """This process's time, all but the questions'."""
        return sum(self.processor_ms.values()) - self.processor_ms[QUESTIONS]

    def run(self, act: Callable[[], object]) -> None:
        """Time an act as a whole."""
        self._since = _now()
        act()
        self._charge()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Attribute what happens inside to a part; questions are one part, whatever happens in them."""
        if QUESTIONS in self._stack:
            yield
            return
        self._charge()
        self._stack.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def count_sync(self) -> None:
        """Count a write that waits for the disk."""
        self.syncs += QUESTIONS not in self._stack

    def _charge(self) -> None:
        wall, processor = _now()
        self.wall_ms[self._stack[-1]] += (wall - self._since[0]) * 1000  # type: ignore[assignment]
        self.processor_ms[self._stack[-1]] += (processor - self._since[1]) * 1000  # type: ignore[assignment]
        self._since = (wall, processor)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


@dataclass
class Costs:
    """What several runs of one job cost."""

    runs: list[Stopwatch] = field(default_factory=list)

    def median(self, of: Callable[[Stopwatch], float]) -> float:
        """Return the median of one number over the runs."""
        return statistics.median(map(of, self.runs))


def cost_of(engine: Engine, signed: SignedJob) -> Stopwatch:
    """Run a job to its release, without padding, and return what it cost."""
    watch = Stopwatch()
    clock = _NoPadding(engine.clock)
    sync = os.fsync
    with ExitStack() as stack:
        for name, owner, attribute in PARTS:
            stack.enter_context(patch.object(owner, attribute, _timed(getattr(owner, attribute), name, watch)))
        stack.enter_context(patch.object(os, "fsync", lambda handle: (watch.count_sync(), sync(handle))[1]))
        watch.run(lambda: run_job(replace(engine, clock=clock), signed))
    watch.padding_ms = clock.slept_s * 1000
    return watch


def _timed(act: Callable[..., Any], name: str, watch: Stopwatch) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        with watch.part(name):
            return act(*given, **named)

    return timed


class _NoPadding:
    """A clock that notes what the line would sleep and does not."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.slept_s = 0.0

    def now(self) -> str:
        return str(self._clock.now())

    def monotonic_s(self) -> float:
        return float(self._clock.monotonic_s())

    def sleep_until_s(self, moment_s: float) -> None:
        self.slept_s += max(0.0, moment_s - self._clock.monotonic_s())
