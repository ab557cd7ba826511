"""Measure over blocks: exact sums of grid points in, noise, an answer out; and the auditor's check of one released.

A mean is one noisy sum for each output.  A median is a search by halving: each round asks how many blocks lie at or
below a grid point, adds noise, and goes to the half in which the middle block seems to be.  Every number that steers
the search is noisy already, so the rounds compose adaptively, and the search itself is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from sandbox.errors import ReplayMismatchError
from sandbox.model.blocks_question import BlockMode, BlockStatistic
from sandbox.model.canonical import canonical_release_bytes
from sandbox.model.job import CellKind
from sandbox.model.question import Answer, AnswerColumn, ColumnRole
from sandbox.privacy.blocks import FAILURES, BlocksPlan, PlannedBlockOutput
from sandbox.privacy.fit import check_fit
from sandbox.privacy.noise import NoiseSource
from sandbox.privacy.scales import Z
from sandbox.privacy.value import Value

SEALED_VERSION: Final = 2

BlockVector = tuple[float, ...] | None
"""What came back from a block's worker: as many numbers as the question has outputs, or None for a failure."""


@dataclass(frozen=True, slots=True)
class MeasuredBlocks:
    """An answer that may leave, and the record under seal that explains it to an auditor."""

    answer: Answer
    sealed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """How the machine kept up while blocks ran, told by blocks of the sandbox's own that held no data.

    Attributes:
        controls: how many ran.
        late: how many of them did not answer in the time that such a block takes on an idle machine.
    """

    controls: int
    late: int

    def notes(self) -> tuple[str, ...]:
        """Return what an answer says of it: nothing when none was late."""
        if self.late == 0:
            return ()
        late = f"{self.late} of {self.controls} control blocks, which hold no data, were late"
        instead = "give each block more milliseconds, or ask again later"
        return (f"the machine was busy: {late}, so more blocks may count with their default; {instead}",)


NOT_WATCHED: Final = Pace(0, 0)


@dataclass(frozen=True, slots=True)
class _Draw:
    """One exact integer, and the noise that was added to it."""

    exact: int
    noise: int


def measure_blocks(
    plan: BlocksPlan, vectors: Sequence[BlockVector], noise: NoiseSource, *, split: str, pace: Pace = NOT_WATCHED
) -> MeasuredBlocks:
    """Return the noisy answer over blocks, and its sealed record.

    Args:
        plan: what to measure.
        vectors: what each block gave, one item a block; a failure is None, never left out.
        noise: draws the noise.
        pace: how the machine kept up; must be independent of the vectors.
        split: names, for the auditor, the key by which units were split; sealed and never released.

    Privacy: if `vectors` differ in one item, the answers are `plan.loss`-close in zCDP.  Nothing but the number of
    items, which is fixed, and the grid points of the items enters.
    """
    if len(vectors) != plan.question.blocks:
        raise AssertionError("a block is missing; failures are None")
    draws = []
    for place, planned in enumerate(plan.outputs):
        steps = grid_steps(plan, place, vectors)
        source = _Drawing(planned, noise)
        _search(plan, planned, lambda point, steps=steps, source=source: source.add(_sum(steps, point)))
        draws.append(source.draws)
    sealed = {
        "v": SEALED_VERSION,
        "kind": "blocks",
        "plan": plan.digest(),
        "split": split,
        "pace": [pace.controls, pace.late],
        "outputs": [[{"exact": str(draw.exact), "noise": str(draw.noise)} for draw in output] for output in draws],
    }
    return MeasuredBlocks(_answer(plan, draws, pace), sealed)


def grid_steps(plan: BlocksPlan, place: int, vectors: Sequence[BlockVector]) -> list[int]:
    """Return one integer a block for an output: in 0..steps, whatever the block gave."""
    planned = plan.outputs[place]
    if planned.output.name == FAILURES:
        return [int(_is_failure(plan, vector)) for vector in vectors]
    return [planned.step_of(None if vector is None else vector[place]) for vector in vectors]


def _is_failure(plan: BlocksPlan, vector: BlockVector) -> bool:
    if vector is None:
        return True
    return not all(
        output.lower <= number <= output.upper  # false for NaN
        for output, number in zip(plan.question.outputs, vector, strict=True)
    )


def _sum(steps: Sequence[int], point: int | None) -> int:
    return sum(steps) if point is None else sum(step <= point for step in steps)


class _Drawing:
    """Adds noise to exact integers, and remembers both."""

    def __init__(self, planned: PlannedBlockOutput, noise: NoiseSource) -> None:
        self._planned = planned
        self._noise = noise
        self.draws: list[_Draw] = []

    def add(self, exact: int) -> int:
        """Return the exact integer with noise."""
        planned = self._planned
        if len(self.draws) >= planned.rounds:
            raise AssertionError("a search asks more rounds than were paid for")
        noisy = self._noise.gaussian(
            [exact], sigma=planned.sigma, sensitivity_squared=planned.sensitivity**2, rho=planned.rho
        )[0]
        self.draws.append(_Draw(exact, noisy - exact))
        return noisy


def _is_median(plan: BlocksPlan, planned: PlannedBlockOutput) -> bool:
    return plan.question.statistic is BlockStatistic.MEDIAN and planned.output.name != FAILURES


def _search(plan: BlocksPlan, planned: PlannedBlockOutput, ask: Any) -> tuple[int, list[tuple[int, int]]]:
    """Return where a search ends and its points with noisy counts; a mean asks for its sum, at no point."""
    if not _is_median(plan, planned):
        return ask(None), []
    lower, upper = 0, planned.steps
    points: list[tuple[int, int]] = []
    while lower < upper:
        middle = (lower + upper) // 2
        count = ask(middle)
        points.append((middle, count))
        if 2 * count >= plan.question.blocks:
            upper = middle
        else:
            lower = middle + 1
    return lower, points


def _answer(plan: BlocksPlan, draws: Sequence[Sequence[_Draw]], pace: Pace) -> Answer:
    values = []
    for planned, output in zip(plan.outputs, draws, strict=True):
        noisy = iter([draw.exact + draw.noise for draw in output])
        found, points = _search(plan, planned, lambda _, noisy=noisy: next(noisy))
        values.append(
            _median_value(plan, planned, found, points)
            if _is_median(plan, planned)
            else _mean_value(plan, planned, found)
        )
    return Answer(
        columns=tuple(_answer_column(planned) for planned in plan.outputs),
        rows=(tuple(_float(value.amount) for value in values),),
        standard_errors=(tuple(_float(value.standard_error) for value in values),),
        lower=(tuple(_float(value.lower) for value in values),),
        upper=(tuple(_float(value.upper) for value in values),),
        loss=plan.loss,
        notes=blocks_notes(plan) + pace.notes(),
    )


def _answer_column(planned: PlannedBlockOutput) -> AnswerColumn:
    name = planned.output.name
    label_zh = "失败的块所占比例" if name == FAILURES else name
    return AnswerColumn(name, ColumnRole.VALUE, CellKind.NUMBER, name, label_zh)


def _mean_value(plan: BlocksPlan, planned: PlannedBlockOutput, total: int) -> Value:
    blocks = plan.question.blocks
    half = math.ceil(Z * planned.sigma)

    def at(amount: int) -> Fraction:
        # Held to the public bounds: post-processing that brings it nearer to every value that it may have.
        return planned.value_of(max(Fraction(0), min(Fraction(planned.steps), Fraction(amount, blocks))))

    error = planned.sigma * planned.output.resolution / blocks
    return Value(at(total), error, at(total - half), at(total + half))


def _median_value(
    plan: BlocksPlan, planned: PlannedBlockOutput, found: int, points: Sequence[tuple[int, int]]
) -> Value:
    """Return the found point with an interval that holds the blocks' median with a chance of 95 % at least.

    Each noisy count is within `reach` of its exact one, for all rounds together, with that chance.  So the median lies
    above each point whose count is surely below half, and at or below each whose count is surely half or more.
    """
    reach = median_reach(planned)
    half = Fraction(plan.question.blocks, 2)
    lower = max((point + 1 for point, count in points if count + reach < half), default=0)
    upper = min((point for point, count in points if count - reach >= half), default=planned.steps)
    lower, upper = min(lower, found), max(upper, found)
    low, high = planned.value_of(Fraction(lower)), planned.value_of(Fraction(upper))
    return Value(planned.value_of(Fraction(found)), (high - low) / (2 * Z), low, high)


def median_reach(planned: PlannedBlockOutput) -> int:
    """Return how far a noisy count lies from its exact one at most, in all rounds, with a chance of 95 %."""
    # P(|X| >= t) <= 2 exp(-t^2 / (2 sigma^2)) for each draw; a union over the rounds.
    return math.ceil(float(planned.sigma) * math.sqrt(2 * math.log(2 * planned.rounds / 0.05)))


def _float(amount: Fraction | None) -> float | None:
    return None if amount is None else float(amount)


def blocks_notes(plan: BlocksPlan) -> tuple[str, ...]:
    """Return the notes that an answer over blocks carries; a function of public facts."""
    question = plan.question
    notes = [
        f"the {question.statistic} over {question.blocks} blocks; all rows of one {plan.unit_kind} are in one block",
        "the 95 % intervals cover the noise, and not how a block of the table differs from the whole of it",
        "a block that failed, took too long or gave a number outside the bounds counts with its default: "
        + ", ".join(f"`{output.name}` {float(output.default):g}" for output in question.outputs),
    ]
    if question.mode is BlockMode.FAST:
        notes.append(
            "fast mode: two blocks ran side by side; the guarantee assumes that the operator's code in one cannot "
            "signal to the other through the load of the machine they share"
        )
    else:
        notes.append("strict mode: one block ran at a time, for a fixed time each, while every program stood still")
    return tuple(notes)


def verify_blocks(plan: BlocksPlan, answer_record: dict[str, Any], sealed: dict[str, Any]) -> None:
    """Check that a released answer is the post-processing of sealed integers and noise, and that the noise fits.

    The checks of the noise raise a false alarm with probability at most 1e-9 for one answer (`fit.py`).

    Raises:
        ReplayMismatchError: something differs; `details["place"]` names it.
    """
    draws, pace = _parse_sealed(plan, sealed)
    for place, (planned, output) in enumerate(zip(plan.outputs, draws, strict=True)):
        _check_draws(plan, planned, output)
        check_fit(
            [draw.noise for draw in output],
            planned.sigma,
            drawn=len(output),
            selected=False,
            place=f"output {place}",
            share=len(plan.outputs),
        )
    if canonical_release_bytes(_answer(plan, draws, pace).to_record()) != canonical_release_bytes(answer_record):
        raise _mismatch("the answer over blocks is not the replay's", "answer")


def _check_draws(plan: BlocksPlan, planned: PlannedBlockOutput, draws: Sequence[_Draw]) -> None:
    """Check that the exact integers are such as k blocks can give: in range, and rising with the point."""
    name, blocks = planned.output.name, plan.question.blocks
    noisy = iter(draws)
    asked: list[tuple[int, int]] = []

    def ask(point: int | None) -> int:
        draw = next(noisy, None)
        if draw is None:
            raise _mismatch("the search asked more often than the record says", name)
        asked.append((0 if point is None else point, draw.exact))
        return draw.exact + draw.noise

    _search(plan, planned, ask)
    if next(noisy, None) is not None:
        raise _mismatch("the record holds more sums than the search asked for", name)
    most = blocks if _is_median(plan, planned) else blocks * planned.steps
    counts = [exact for _, exact in sorted(asked)]
    if counts != sorted(counts) or not all(0 <= count <= most for count in counts):
        raise _mismatch("the sealed sums are not such as blocks can give", name)


def _parse_sealed(plan: BlocksPlan, sealed: dict[str, Any]) -> tuple[list[list[_Draw]], Pace]:
    if set(sealed) != {"v", "kind", "plan", "split", "pace", "outputs"} or sealed["v"] != SEALED_VERSION:
        raise _mismatch("the sealed record has unknown or missing fields", "sealed")
    if sealed["plan"] != plan.digest():
        raise _mismatch("the sealed record belongs to another plan", "plan")
    try:
        draws = [[_Draw(_integer(d["exact"]), _integer(d["noise"])) for d in output] for output in sealed["outputs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _mismatch("the sealed record is malformed", "sealed") from error
    if len(draws) != len(plan.outputs):
        raise _mismatch("the sealed record has another number of outputs", "sealed")
    controls, late = sealed["pace"]
    if type(controls) is not int or type(late) is not int or not 0 <= late <= controls:
        raise _mismatch("the sealed record counts controls that cannot be", "pace")
    return draws, Pace(controls, late)


def _integer(text: object) -> int:
    if not isinstance(text, str) or len(text) > 40 or str(int(text)) != text:
        raise ValueError("not a canonical integer")
    return int(text)


def _mismatch(message: str, place: str) -> ReplayMismatchError:
    return ReplayMismatchError(message, hint="keep both records as evidence and look at who wrote them", place=place)
