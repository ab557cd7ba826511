"""Plan a question to blocks (sample and aggregate): exact sensitivities, noise scales, and what is known beforehand.

Whole units go to one of k blocks; an untrusted function gives each block a vector that is held to public bounds and
rounded to a public grid; the mean or the median of the k vectors is noised.  One unit is in one block, so it moves one
of the k vectors, whatever the function does (`docs/proofs/blocks.md`).

Source: Nissim, Raskhodnikova, Smith 2007, "Smooth sensitivity and sampling"; Mohan et al. 2012 (GUPT).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from sandbox.errors import BoundError, QueryError
from sandbox.model.blocks_question import BlockMode, BlockOutput, BlocksQuestion, BlockStatistic
from sandbox.model.description import Column, DatasetDescription
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.exact import format_exact
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.guard import broken_guard
from sandbox.privacy.hints import names_hint
from sandbox.privacy.mechanism import gaussian_sigma

PLAN_VERSION: Final = 1
BLOCKS_MIN, BLOCKS_MAX = 2, 4096
OUTPUTS_MAX: Final = 32
STEPS_MAX: Final = 2**40
MEDIAN_STEPS_MAX: Final = 2**20
PROGRAM_BYTES_MAX: Final = 65_536
PARAMETERS_BYTES_MAX: Final = 16_384
MILLISECONDS: Final = (25, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000)
"""How long a block's worker may run: a short public list, so that the choice itself says little."""

QUESTION_SECONDS_MAX: Final = 3_600
_LARGEST_FLOAT: Final = 10**300
LANES: Final = {BlockMode.STRICT: 1, BlockMode.FAST: 2}
FAILURES: Final = "failures"
"""The name of the share of blocks that gave no valid answer."""

_FAILURE_OUTPUT: Final = BlockOutput(FAILURES, Fraction(0), Fraction(1), Fraction(1), Fraction(1))


@dataclass(frozen=True, slots=True)
class PlannedBlockOutput:
    """One number of the function, on its grid, with its share of the loss.

    Attributes:
        output: as asked.
        steps: how many steps of the resolution lie between the bounds; a block's number is an integer in 0..steps.
        default_step: the default on the grid.
        rounds: how many noisy sums are drawn at most: 1 for a mean, one a bit of the grid for a median.
        sensitivity: how far one unit moves one of them.
        rho: the loss of each round.
        sigma: the scale of the noise of each round.
    """

    output: BlockOutput
    steps: int
    default_step: int
    rounds: int
    sensitivity: int
    rho: Fraction
    sigma: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the planned output as a canonical record."""
        return {
            "output": self.output.to_record(),
            "steps": str(self.steps),
            "default_step": str(self.default_step),
            "rounds": self.rounds,
            "sensitivity": str(self.sensitivity),
            "rho": format_exact(self.rho),
            "sigma": format_exact(self.sigma),
        }

    def step_of(self, number: float | None) -> int:
        """Return the grid point of what a block gave for this output; None, NaN and what is outside is the default.

        Total and exact: whatever the number is, the step lies in 0..steps.  That is all that the guarantee rests on.
        """
        if number is None or number != number or not self.output.lower <= number <= self.output.upper:  # noqa: PLR0124
            return self.default_step
        place = (Fraction(number) - self.output.lower) / self.output.resolution
        return max(0, min(self.steps, (2 * place.numerator + place.denominator) // (2 * place.denominator)))

    def value_of(self, step: Fraction) -> Fraction:
        """Return the number at a point of the grid, or between two."""
        return self.output.lower + step * self.output.resolution


@dataclass(frozen=True, slots=True)
class BlocksPlan:
    """Everything that decides an answer over blocks besides the data, the split and the noise.

    Attributes:
        dataset: whose rows.
        unit_kind: whom the promise protects.
        columns: the described columns that each block carries.
        question: what is asked.
        outputs: in the order of the answer; the share of failures last, where it is asked for.
        loss: what the answer costs; all of it is charged.
    """

    dataset: str
    unit_kind: str
    columns: tuple[Column, ...]
    question: BlocksQuestion
    outputs: tuple[PlannedBlockOutput, ...]
    loss: PrivacyLoss

    @property
    def lanes(self) -> int:
        """How many blocks run side by side."""
        return LANES[self.question.mode]

    def to_record(self) -> dict[str, Any]:
        """Return the plan as a canonical record."""
        return {
            "v": PLAN_VERSION,
            "kind": "blocks",
            "dataset": self.dataset,
            "unit_kind": self.unit_kind,
            "columns": [column.to_record() for column in self.columns],
            "question": self.question.to_record(),
            "outputs": [output.to_record() for output in self.outputs],
            "loss": self.loss.to_record(),
        }

    def digest(self) -> Digest:
        """Return the digest of the canonical record."""
        return digest_of_record(self.to_record())


def plan_blocks(question: BlocksQuestion, tables: Mapping[str, DatasetDescription]) -> BlocksPlan:
    """Return the plan of a question to blocks, after checking it against public facts alone.

    Raises:
        QueryError: a table, column, name or number is not what it may be.
        BoundError: the loss is too small, or a bound is not one.

    Privacy: for tables that differ in all rows of one unit, `measure_blocks` of this plan costs at most `loss`.  The
    rho is split evenly over the outputs and over the rounds of each; each round is a discrete Gaussian on an integer
    that one unit moves by at most `sensitivity` (`docs/proofs/blocks.md`).
    """
    description = tables.get(question.table)
    if description is not None and description.also_protects:
        raise BoundError(
            "a block holds whole units of one kind, and this table protects several",
            hint="ask it in SQL with `data.ask`",
            code="privacy.bound.units",
        )
    if description is None:
        raise QueryError(
            f"no table is called `{question.table}`",
            hint=f"the tables are {', '.join(sorted(tables)) or 'none'}",
            code="input.query.unknown_table",
        )
    _check_shape(question)
    asked = [*question.outputs, *([_FAILURE_OUTPUT] if question.count_failures else [])]
    if question.loss.rho <= 0:
        raise BoundError(
            "the question has no loss to spend", hint="give it a rho above zero", code="privacy.bound.loss"
        )
    share = question.loss.rho / len(asked)
    outputs = tuple(_plan_output(output, question.statistic, share) for output in asked)
    if sum(planned.rho * planned.rounds for planned in outputs) > question.loss.rho:
        raise broken_guard("the outputs of a question to blocks cost more than its loss")
    return BlocksPlan(
        dataset=description.dataset,
        unit_kind=description.unit.kind,
        columns=tuple(_column(description, name) for name in question.columns),
        question=question,
        outputs=outputs,
        loss=PrivacyLoss(question.loss.rho),
    )


def _plan_output(output: BlockOutput, statistic: BlockStatistic, share: Fraction) -> PlannedBlockOutput:
    steps = _steps(output)
    default_step = int((output.default - output.lower) / output.resolution)
    is_median = statistic is BlockStatistic.MEDIAN and output.name != FAILURES
    if is_median and steps > MEDIAN_STEPS_MAX:
        raise BoundError(
            f"the median of `{output.name}` is searched on {steps} steps, more than {MEDIAN_STEPS_MAX}",
            hint="give the output a coarser resolution",
            code="privacy.bound.resolution",
        )
    rounds = steps.bit_length() if is_median else 1
    sensitivity = 1 if is_median else steps
    rho = share / rounds
    return PlannedBlockOutput(
        output, steps, default_step, rounds, sensitivity, rho, gaussian_sigma(sensitivity * sensitivity, rho)
    )


def _steps(output: BlockOutput) -> int:
    is_float = max(abs(output.lower), abs(output.upper)) <= _LARGEST_FLOAT
    is_ordered = output.lower <= output.default <= output.upper and output.lower < output.upper
    if not is_float or not is_ordered or output.resolution <= 0:
        raise BoundError(
            f"the bounds of `{output.name}` are not `lower <= default <= upper` with room between them",
            hint='write for example {"lower": 0, "upper": 200, "default": 100}',
            code="privacy.bound.output",
        )
    steps = (output.upper - output.lower) / output.resolution
    if steps.denominator != 1 or not 1 <= steps <= STEPS_MAX:
        raise BoundError(
            f"the resolution of `{output.name}` does not divide its range into 1 to {STEPS_MAX} steps",
            hint="leave the resolution out, or take a fraction of the range",
            code="privacy.bound.resolution",
        )
    return int(steps)


def _check_shape(question: BlocksQuestion) -> None:
    if not BLOCKS_MIN <= question.blocks <= BLOCKS_MAX:
        raise _refuse(f"{question.blocks} blocks are asked for", f"take {BLOCKS_MIN} to {BLOCKS_MAX}")
    if question.milliseconds not in MILLISECONDS:
        listed = ", ".join(str(choice) for choice in MILLISECONDS)
        raise _refuse(f"a block cannot be given {question.milliseconds} milliseconds", f"choose one of {listed}")
    if question.milliseconds * question.blocks / LANES[question.mode] > QUESTION_SECONDS_MAX * 1000:
        raise _refuse("the question would take more than an hour", "take fewer blocks or less time for each")
    names = [output.name for output in question.outputs]
    if not 1 <= len(names) <= OUTPUTS_MAX or len(set(names)) != len(names) or FAILURES in names:
        raise _refuse(
            "the outputs are none, too many, or two of one name",
            f"declare 1 to {OUTPUTS_MAX} outputs with names of their own; `{FAILURES}` is taken",
        )
    for name in names:
        if not (name.isidentifier() and name.isascii() and len(name) <= 64 and not name.startswith("_")):
            raise _refuse(f"`{name}` is not a name for an output", "use letters, digits and underscore")
    if len(set(question.columns)) != len(question.columns) or not question.columns:
        raise _refuse("the columns are none, or one is named twice", "name each column once")
    if len(question.program.encode()) > PROGRAM_BYTES_MAX:
        raise _refuse(f"the block function is longer than {PROGRAM_BYTES_MAX} bytes", "make it shorter")
    _check_parameters(question.parameters)


def _check_parameters(text: str) -> None:
    try:
        value = json.loads(text) if len(text) <= PARAMETERS_BYTES_MAX else None
        json.dumps(value, allow_nan=False)  # `NaN` and `1e999` are read as floats that JSON has no words for
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _refuse(
            "the parameters are not a JSON object of bounded size",
            f"give a dict of plain values, at most {PARAMETERS_BYTES_MAX} bytes",
        )


def _column(description: DatasetDescription, name: str) -> Column:
    column = description.column(name)
    if column is None:
        raise QueryError(
            f"table `{description.table}` has no column `{name}`",
            hint=names_hint(name, [c.name for c in description.columns], "its columns are"),
            code="input.query.unknown_column",
        )
    return column


def _refuse(message: str, hint: str) -> QueryError:
    return QueryError(message, hint=hint, code="input.query.blocks")
