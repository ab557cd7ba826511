"""Run a function over blocks: one worker a block, a fixed time each, exactly k numbers back or none.

Every block has a slot of fixed length: its image is written, a worker is forked, and at the slot's deadline the worker
is gone, finished or not.  The next slot begins when this one's time is up and not before, so how long a function took
shows nowhere.  Between rounds of slots, when no block's worker is alive, controls may run: blocks of the host's own,
without data, whose lateness tells of the machine and of nothing else.  What comes back on a pipe is read as raw
numbers; one byte more or less is a failure, and how the worker ended is not looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from sandbox.errors import CancelledError
from sandbox.runtime.host.libraries import Libraries
from sandbox.runtime.host.zygote_process import BlockProcess, ZygoteProcess

HANDOVER_S: Final = 0.008
"""What a slot has beyond the worker's own time: to fork, to end it, to clear it away."""

ROUND_SLOTS: Final = 16
"""How many slots there are between two controls."""

NUMBER_BYTES: Final = 8
_MEMORY_BYTES: Final = 512 << 20
_CANCEL_SLICE_S: Final = 0.25
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class BlockWork:
    """What to run over blocks.

    Attributes:
        image: returns the image of block i (`block_image.encode_image`).
        blocks: how many.
        outputs: how many numbers a block gives.
        wall_s: how long each worker may run; each slot takes this and `HANDOVER_S`.
        lanes: how many workers run side by side.
        memory_bytes: address space of a worker, on top of the interpreter with its libraries.
        libraries: what the function may import.
    """

    image: Callable[[int], bytes]
    blocks: int
    outputs: int
    wall_s: float
    lanes: int = 1
    memory_bytes: int = _MEMORY_BYTES
    libraries: Libraries = Libraries.PLAIN

    @property
    def slots(self) -> int:
        """How many slots follow one another."""
        return -(-self.blocks // self.lanes)

    @property
    def planned_s(self) -> float:
        """How long all slots take together: a function of public facts."""
        return self.slots * (self.wall_s + HANDOVER_S)

    def planned_with_s(self, control: BlockWork) -> float:
        """How long it takes with controls before each round and after the last: a function of public facts."""
        return self.planned_s + (-(-self.slots // ROUND_SLOTS) + 1) * control.planned_s


@dataclass(frozen=True, slots=True)
class BlockRun:
    """What blocks gave, and how the machine was meanwhile.

    Attributes:
        vectors: each block's numbers, or None for a block that failed.
        controls: how many controls ran.
        late: how many of them did not answer in their time; independent of the blocks' functions and rows.
    """

    vectors: list[tuple[float, ...] | None]
    controls: int = 0
    late: int = 0


def run_blocks(
    zygote: ZygoteProcess,
    work: BlockWork,
    cancel: threading.Event | None = None,
    control: BlockWork | None = None,
) -> BlockRun:
    """Run blocks in rounds, and a control's blocks around each round; takes the planned time.

    Raises:
        CancelledError: `cancel` was set.
        GuestFailedError: the zygote does not answer.
    """
    stop = cancel if cancel is not None else threading.Event()
    vectors: list[tuple[float, ...] | None] = []
    watched: list[tuple[float, ...] | None] = []
    length = ROUND_SLOTS * work.lanes
    for start in range(0, work.blocks, length):
        if control is not None:
            watched += _run_round(zygote, control, range(control.blocks), stop)
        vectors += _run_round(zygote, work, range(start, min(start + length, work.blocks)), stop)
    if control is not None:
        watched += _run_round(zygote, control, range(control.blocks), stop)
    return BlockRun(vectors, len(watched), watched.count(None))


def _run_round(
    zygote: ZygoteProcess, work: BlockWork, numbers: range, stop: threading.Event
) -> list[tuple[float, ...] | None]:
    """Return what these blocks gave; when it returns, none of their workers is left."""
    answers: dict[int, tuple[float, ...] | None] = {}
    with ThreadPoolExecutor(work.lanes) as pool:
        lanes = [
            pool.submit(_run_lane, zygote, work, numbers[lane :: work.lanes], stop, answers)
            for lane in range(work.lanes)
        ]
        for lane in lanes:
            lane.result()
    return [answers[number] for number in numbers]


def _run_lane(
    zygote: ZygoteProcess,
    work: BlockWork,
    numbers: range,
    stop: threading.Event,
    answers: dict[int, tuple[float, ...] | None],
) -> None:
    for number in numbers:
        started = time.monotonic()
        answers[number] = _run_one(zygote, work, number, started + work.wall_s, stop)
        _sleep_until(started + work.wall_s + HANDOVER_S, stop)


def _run_one(
    zygote: ZygoteProcess, work: BlockWork, number: int, deadline: float, stop: threading.Event
) -> tuple[float, ...] | None:
    image = _sealed_file(work.image(number))
    try:
        block = zygote.spawn_block(image, cpu_s=work.wall_s, memory_bytes=work.memory_bytes)
    finally:
        os.close(image)
    try:
        raw = _read_until(block, work.outputs * NUMBER_BYTES, deadline, stop)
    finally:
        zygote.bury(block)
    if raw is None:
        return None
    return struct.unpack(f"<{work.outputs}d", raw)


def _sealed_file(image: bytes) -> int:
    """Return a memory file with these bytes and nothing else, which nobody can change any more."""
    descriptor = os.memfd_create("block", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(image)
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read_until(block: BlockProcess, size: int, deadline: float, stop: threading.Event) -> bytes | None:
    """Return exactly so many bytes, after which the worker hung up; None for anything else."""
    raw = bytearray()
    poll = select.poll()
    poll.register(block.pipe, select.POLLIN)
    while True:
        left_s = deadline - time.monotonic()
        _check(stop)
        if left_s <= 0:
            return None
        if not poll.poll(max(1, int(min(left_s, _CANCEL_SLICE_S) * 1000))):
            continue
        with contextlib.suppress(BlockingIOError):
            part = os.read(block.pipe, size + 1 - len(raw))
            if not part:
                return bytes(raw) if len(raw) == size else None
            raw += part
            if len(raw) > size:
                return None


def _sleep_until(moment: float, stop: threading.Event) -> None:
    while (left_s := moment - time.monotonic()) > 0:
        stop.wait(min(left_s, _CANCEL_SLICE_S))
        _check(stop)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise CancelledError(
            "the job was cancelled", hint="what it had been answered is spent; submit a new job to ask again"
        )
