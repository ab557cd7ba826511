"""Quote a question to blocks: what the noise would be for several numbers of blocks, from public facts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sandbox.model.blocks_question import BlocksQuestion, BlockStatistic
from sandbox.model.description import DatasetDescription
from sandbox.privacy.blocks import BLOCKS_MAX, BLOCKS_MIN, FAILURES, LANES, BlocksPlan, plan_blocks
from sandbox.privacy.blocks_measure import median_reach

_FACTORS: Final = ((1, 4), (1, 2), (1, 1), (2, 1), (4, 1))


@dataclass(frozen=True, slots=True)
class QuotedBlocks:
    """What a question would carry with one number of blocks.

    Attributes:
        blocks: the number.
        asked: whether it is the one that the program names.
        seconds: how long the blocks take together, at least.
        outputs: `(name, standard error)`: of the noise of a mean, in the output's own measure; for a median, the
            share of blocks by which the found one may be off the middle.
        statistic: mean or median.
    """

    blocks: int
    asked: bool
    seconds: float
    outputs: tuple[tuple[str, float], ...]
    statistic: BlockStatistic

    def to_record(self) -> dict[str, Any]:
        """Return the quote as a record with floats."""
        return {
            "blocks": self.blocks,
            "asked": self.asked,
            "seconds": self.seconds,
            "statistic": self.statistic.value,
            "outputs": [[name, error] for name, error in self.outputs],
        }


def quote_blocks(question: BlocksQuestion, tables: Mapping[str, DatasetDescription]) -> tuple[QuotedBlocks, ...]:
    """Return the quote for the number of blocks asked for and for a few others.

    More blocks mean less noise and fewer units in each: what a function makes of a block then strays more, or is
    biased.  Nothing is known of that before data is asked, so it is not in the quote.

    Raises:
        QueryError, BoundError: as `plan_blocks`.
    """
    plan_blocks(question, tables)
    counts = sorted({question.blocks * up // down for up, down in _FACTORS})
    quotes = []
    for blocks in counts:
        if BLOCKS_MIN <= blocks <= BLOCKS_MAX:
            seconds = blocks / LANES[question.mode] * question.milliseconds / 1000
            plan = plan_blocks(replace(question, blocks=blocks, milliseconds=25), tables)
            asked = blocks == question.blocks
            quotes.append(QuotedBlocks(blocks, asked, seconds, _errors(plan), question.statistic))
    return tuple(quotes)


def _errors(plan: BlocksPlan) -> tuple[tuple[str, float], ...]:
    blocks = plan.question.blocks
    is_median = plan.question.statistic is BlockStatistic.MEDIAN
    return tuple(
        (
            planned.output.name,
            min(0.5, median_reach(planned) / blocks)
            if is_median and planned.output.name != FAILURES
            else float(planned.sigma * planned.output.resolution / blocks),
        )
        for planned in plan.outputs
    )
