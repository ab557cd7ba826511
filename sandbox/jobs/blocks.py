"""Questions to blocks on the line: from a program's request to an answer at a time that nothing in the data moves."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sandbox.compute.split import SplitTable, split_blocks
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.scatter import KEY_BYTES
from sandbox.errors import CancelledError, LimitExceededError, QueryError
from sandbox.jobs.engine import Engine
from sandbox.model.blocks_question import BlockMode, BlockOutput, BlocksQuestion, BlockStatistic
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import hash_bytes
from sandbox.model.exact import parse_exact
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.blocks import BlocksPlan
from sandbox.privacy.blocks_measure import MeasuredBlocks, Pace, measure_blocks
from sandbox.runtime.block_image import BlockJob, ImageColumn, encode_image
from sandbox.runtime.host.blocks import BlockWork
from sandbox.runtime.host.libraries import Libraries, libraries_of
from sandbox.vault.opened import OpenedSnapshot

_CANCEL_SLICE_S: Final = 0.25
_MARGIN_S: Final = 0.1
_TRIALS: Final = 6
START_MS: Final = {Libraries.PLAIN: 15.0, Libraries.SCIENCE: 30.0}
"""What a trivial block takes on an idle machine, forked, fenced in, run and ended, with half as much again."""
_TRIVIAL: Final = "def block(rows, parameters):\n    return [0.0] * parameters['numbers']\n"

Reads = tuple[tuple[str, tuple[str, ...]], ...]


def blocks_question(
    request: Mapping[str, Any], tables: Mapping[str, DatasetDescription], reads: Reads, loss: PrivacyLoss
) -> BlocksQuestion:
    """Return the question that a program's request asks: a function of the request and of the job's own spec.

    Raises:
        QueryError: the request names what is not so.
        ExactError: a bound is no amount.
    """
    return BlocksQuestion(
        table=request["table"],
        columns=_columns(request, tables, reads),
        program=request["program"],
        parameters=request["parameters"],
        blocks=request["k"],
        outputs=tuple(_output(fields) for fields in request["output"]),
        statistic=_choice(BlockStatistic, request["statistic"], "statistic"),
        milliseconds=request["milliseconds"],
        mode=_choice(BlockMode, request["mode"], "mode"),
        count_failures=request["failures"],
        loss=loss,
    )


def _columns(request: Mapping[str, Any], tables: Mapping[str, DatasetDescription], reads: Reads) -> tuple[str, ...]:
    """Return the columns asked for; by default all that the job declared for the table, without the unit's key."""
    if request["columns"] is not None:
        return tuple(request["columns"])
    description = tables.get(request["table"])
    if description is None:
        return ()
    declared = dict(reads).get(description.dataset, ())
    return tuple(column for column in declared if description.column(column) is not None)


def _output(fields: list[str]) -> BlockOutput:
    name, *amounts = fields
    return BlockOutput(name, *(parse_exact(amount) for amount in amounts))


def _choice(kind: Any, text: str, what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        choices = ", ".join(f"`{choice.value}`" for choice in kind)
        raise QueryError(
            f"`{text[:40]}` is no {what} of blocks", hint=f"choose one of {choices}", code="input.query.blocks"
        ) from None


def answer_blocks(
    engine: Engine, plan: BlocksPlan, snapshot: OpenedSnapshot, *, seed: bytes, cancel: threading.Event | None
) -> MeasuredBlocks:
    """Split the opened columns, run the function on each block, and return the noisy answer at the padded time.

    All programs stand still from the first row read until the answer is due.

    Args:
        engine: the trusted side.
        plan: what was checked and paid for.
        snapshot: the opened columns.
        seed: the question's entropy, a function of the job; the same for each block.
        cancel: ends the question; it stays paid.

    Raises:
        CancelledError: `cancel` was set.
        GuestFailedError: the machinery failed.

    Privacy: `plan.loss`, for the answer and for the moment at which it is given: that is `started`, a power of two of
    seconds for the split, and one slot a block, all functions of public facts but for the power of two.
    """
    guests = engine.guests()
    started = engine.clock.monotonic_s()
    with guests.frozen():
        key = random_bytes(KEY_BYTES)
        table = split_blocks(snapshot.partitions(), plan.columns, blocks=plan.question.blocks, key=key)
        work = BlockWork(
            image=_Images(plan, table, seed).image,
            blocks=plan.question.blocks,
            outputs=len(plan.question.outputs),
            wall_s=plan.question.milliseconds / 1000,
            lanes=plan.lanes,
            libraries=libraries_of(plan.question.program),
        )
        split_s = engine.clock.monotonic_s() - started
        control = _control(plan)
        run = guests.watch_blocks(work, control, cancel=cancel)
        pace = Pace(run.controls, run.late)
        measured = measure_blocks(plan, run.vectors, engine.noise, split=key.hex(), pace=pace)
        _wait(engine, started, padded_s(split_s, work.planned_with_s(control)), cancel)
    return measured


def check_pace(engine: Engine, plan: BlocksPlan) -> None:
    """Raise unless the machine, as busy as it is, gets trivial blocks through in the time that `control_ms` says.

    It runs before anything is paid for, on no data: on a machine that is too busy most blocks would count with their
    default, and the answer would be paid for and worthless.

    Raises:
        LimitExceededError: it does not.
    """
    work = replace(_control(plan), blocks=_TRIALS)
    if None in engine.guests().run_blocks(work):
        allowed = f"a trivial one took longer than {work.wall_s * 1000:g}"
        raise LimitExceededError(
            f"the machine is too busy to run blocks of {plan.question.milliseconds} milliseconds: {allowed}",
            hint="give each block more milliseconds, or ask again later; nothing was spent",
            code="isolation.limit.pace",
        )


def _control(plan: BlocksPlan) -> BlockWork:
    """Return a trivial block for each lane, without data."""
    names = tuple(output.name for output in plan.question.outputs)
    image = encode_image(BlockJob(_TRIVIAL, {"numbers": len(names)}, names, "00" * 32), 0, [])
    libraries = libraries_of(plan.question.program)
    wall_s = control_ms(plan.question.milliseconds, libraries) / 1000
    return BlockWork(lambda _: image, plan.lanes, len(names), wall_s, plan.lanes, libraries=libraries)


def control_ms(milliseconds: int, libraries: Libraries) -> float:
    """Return how long a trivial block may take before the machine counts as busy: public facts alone decide it.

    Half of what the operator's blocks have, but no less than such a guest takes to start on an idle machine, and never
    more than a block has.
    """
    return min(float(milliseconds), max(milliseconds / 2, START_MS[libraries]))


class _Images:
    """Writes each block's image when its turn comes."""

    def __init__(self, plan: BlocksPlan, table: SplitTable, seed: bytes) -> None:
        question = plan.question
        names = tuple(output.name for output in question.outputs)
        self._job = BlockJob(question.program, json.loads(question.parameters), names, seed.hex())
        self._table = table

    def image(self, number: int) -> bytes:
        """Return the image of one block."""
        rows, columns = self._table.block(number)
        return encode_image(self._job, rows, [ImageColumn(c.name, c.kind, c.values) for c in columns])


def block_seed(seed: bytes, index: int) -> bytes:
    """Return the entropy of a question's blocks: a function of the job and of the question's number."""
    return hash_bytes(b"saggar/block-seed/1\0" + seed + index.to_bytes(4, "big"))


def padded_s(split_s: float, planned_s: float) -> float:
    """Return when an answer is due, in seconds from its beginning: the split's time is rounded up to a power of two."""
    return max(0.25, 2.0 ** math.ceil(math.log2(max(split_s, 1e-9)))) + planned_s * 1.05 + _MARGIN_S


def _wait(engine: Engine, started: float, due_s: float, cancel: threading.Event | None) -> None:
    """Sleep until the answer is due; one that is late waits for the next power of two of that time."""
    late_s = engine.clock.monotonic_s() - started
    while due_s < late_s:
        due_s *= 2
    moment = started + due_s
    while (now := engine.clock.monotonic_s()) < moment:
        if cancel is not None and cancel.is_set():
            raise CancelledError("the job was cancelled", hint="what it had been answered is spent")
        engine.clock.sleep_until_s(min(moment, now + _CANCEL_SLICE_S))
