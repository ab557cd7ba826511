"""A question to blocks: an operator's function over raw rows, run on one block of whole units at a time.

The function is text and its parameters are JSON; nothing of the asking process travels with it.  Everything here is
public and fixed before a row is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.errors import CanonicalError, SaggarError
from sandbox.model.exact import format_exact, parse_exact
from sandbox.model.loss import PrivacyLoss


class BlockStatistic(StrEnum):
    """How the blocks' numbers become one: their `mean`, or their `median`."""

    MEAN = "mean"
    MEDIAN = "median"


class BlockMode(StrEnum):
    """`strict`: one block at a time.  `fast`: two side by side, under an assumption that the answer states."""

    STRICT = "strict"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """One number that the function returns for each block.

    Attributes:
        name: letters, digits, underscore.
        lower, upper: public bounds; a number outside them counts as `default`.
        resolution: the step that numbers are rounded to; it divides `upper - lower`.
        default: what a block counts with that gives no number.
    """

    name: str
    lower: Fraction
    upper: Fraction
    resolution: Fraction
    default: Fraction

    def to_record(self) -> dict[str, str]:
        """Return the output as a canonical record."""
        return {
            "name": self.name,
            "lower": format_exact(self.lower),
            "upper": format_exact(self.upper),
            "resolution": format_exact(self.resolution),
            "default": format_exact(self.default),
        }

    @classmethod
    def parse(cls, record: Any) -> BlockOutput:
        """Return the output that a record writes."""
        bounds = (parse_exact(record[name]) for name in ("lower", "upper", "resolution", "default"))
        return cls(str(record["name"]), *bounds)


@dataclass(frozen=True, slots=True)
class BlocksQuestion:
    """One question to blocks and the loss it may spend.

    Attributes:
        table: the table's name in SQL.
        columns: those that each block carries, in order.
        program: the function's source, with `def block(rows)` or `def block(rows, parameters)`.
        parameters: a JSON object as text, handed to the function.
        blocks: how many blocks; fixed, whatever the table holds.
        outputs: the numbers that the function returns, in order.
        statistic: how the blocks' numbers become one.
        milliseconds: how long each block's worker may run, from the public list; each takes that long.
        mode: strict or fast.
        count_failures: whether the share of blocks without a valid answer is released too, for its part of the loss.
        loss: what the answer may cost; all of it is charged.
    """

    table: str
    columns: tuple[str, ...]
    program: str
    parameters: str
    blocks: int
    outputs: tuple[BlockOutput, ...]
    statistic: BlockStatistic
    milliseconds: int
    mode: BlockMode
    count_failures: bool
    loss: PrivacyLoss

    def to_record(self) -> dict[str, Any]:
        """Return the question as a canonical record."""
        return {
            "kind": "blocks",
            "table": self.table,
            "columns": list(self.columns),
            "program": self.program,
            "parameters": self.parameters,
            "blocks": self.blocks,
            "outputs": [output.to_record() for output in self.outputs],
            "statistic": self.statistic.value,
            "milliseconds": self.milliseconds,
            "mode": self.mode.value,
            "count_failures": self.count_failures,
            "loss": self.loss.to_record(),
        }

    @classmethod
    def parse(cls, record: Any) -> BlocksQuestion:
        """Return the question that a record writes; strict about its fields."""
        try:
            question = cls(
                table=record["table"],
                columns=tuple(record["columns"]),
                program=record["program"],
                parameters=record["parameters"],
                blocks=record["blocks"],
                outputs=tuple(BlockOutput.parse(output) for output in record["outputs"]),
                statistic=BlockStatistic(record["statistic"]),
                milliseconds=record["milliseconds"],
                mode=BlockMode(record["mode"]),
                count_failures=record["count_failures"],
                loss=PrivacyLoss.parse(record["loss"]),
            )
        except (KeyError, TypeError, ValueError, SaggarError) as error:
            raise CanonicalError("a blocks question is malformed", hint="see docs/reference/transcript.md") from error
        if question.to_record() != record:
            raise CanonicalError("a blocks question has unknown fields", hint="see docs/reference/transcript.md")
        return question
