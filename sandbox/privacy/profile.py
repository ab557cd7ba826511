"""A profile: how many rows units have, released once with noise, so that every later quote can speak of bias.

Each unit stands in exactly one bin (1, 2, …, K rows, or more), so removing a unit moves one count by one: the L2
sensitivity of the whole histogram is 1, whatever the unit holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sandbox.errors import DescriptionError
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer
from sandbox.model.unit import ContributionBound
from sandbox.privacy.algebra import NumberType
from sandbox.privacy.mechanism import gaussian_sigma
from sandbox.privacy.plan import Plan, PlannedKey, PlannedStatistic
from sandbox.privacy.query import AggregateKind, Finish, Formula, FormulaOp, KeyMode, Label, Output, Slot
from sandbox.privacy.statistics import Estimate, Statistic, StatisticKind

MAX_BINS = 1000
_LEAST_KNOWN = 5
"""The number of rows is known where it is at least so many standard errors of the profile's noise."""
_FIELDS = {"v", "dataset", "unit_kind", "counts", "loss"}


@dataclass(frozen=True, slots=True)
class Profile:
    """A released histogram of rows per unit.

    Attributes:
        dataset, unit_kind: of what.
        counts: noisy numbers of units with 1, 2, …, K rows, and last with more than K.
        loss: what it cost.
    """

    dataset: str
    unit_kind: str
    counts: tuple[int, ...]
    loss: PrivacyLoss

    def lost_share(self, rows: int) -> Fraction | None:
        """Return about which share of rows lies beyond a bound of `rows` a unit, at least; None where unknown.

        A unit in the open bin is taken to have one row more than the last closed one.  It is unknown where the data is
        so small that the noise of the profile drowns it: noise in a bin of many rows weighs as many rows.
        """
        total = self.total_rows()
        if not self.tells_rows():
            return None
        return min(max(1 - Fraction(self.kept_rows(rows), total), Fraction(0)), Fraction(1))

    def tells_rows(self) -> bool:
        """Return whether the number of rows stands out of the profile's noise; a function of released numbers."""
        squares = sum(size * size for size in range(1, len(self.counts) + 1))
        # The variance of one count is 1 / (2 rho).
        total = self.total_rows()
        return total > 0 and total * total * 2 * self.loss.rho >= _LEAST_KNOWN**2 * squares

    def total_rows(self) -> int:
        """Return about how many rows there are, at least."""
        return sum(size * count for size, count in enumerate(self.counts, start=1))

    def kept_rows(self, rows: int) -> int:
        """Return about how many rows a bound of `rows` a unit keeps."""
        return sum(min(size, rows) * count for size, count in enumerate(self.counts, start=1))

    def to_record(self) -> dict[str, Any]:
        """Return the profile as a canonical record."""
        return {
            "v": 1,
            "dataset": self.dataset,
            "unit_kind": self.unit_kind,
            "counts": [str(count) for count in self.counts],
            "loss": self.loss.to_record(),
        }

    def digest(self) -> Digest:
        """Return the digest of the record."""
        return digest_of_record(self.to_record())

    @classmethod
    def parse(cls, record: object) -> Profile:
        """Return the profile that a record writes; strict about its fields."""
        malformed = DescriptionError("a profile record is malformed", hint="it is written by `Profile.to_record`")
        if not isinstance(record, dict) or set(record) != _FIELDS or record["v"] != 1:
            raise malformed
        try:
            counts = tuple(int(text) for text in record["counts"])
            profile = cls(record["dataset"], record["unit_kind"], counts, PrivacyLoss.parse(record["loss"]))
        except (TypeError, ValueError) as error:
            raise malformed from error
        if len(counts) < 2 or profile.to_record() != record:
            raise malformed
        return profile


def profile_bins(bound: ContributionBound) -> int:
    """Return how many closed bins a profile has: four times the bound, so that the tail shows."""
    return min(MAX_BINS, max(32, 4 * bound.rows))


def profile_plan(description: DatasetDescription, loss: PrivacyLoss) -> Plan:
    """Return the plan that measures the profile of a dataset; it runs as every other plan does.

    Privacy: costs `loss`; L2 sensitivity 1 by the proof in `docs/proofs/profile.md`, for every contribution of a unit,
    so no bound is needed.
    """
    bins = profile_bins(description.bound)
    of = NumberType(1, bins + 1, Fraction(1))
    rho = loss.rho
    counted = "SELECT least(count(*), {top}) AS _k0 FROM t GROUP BY _unit".format(top=bins + 1)  # noqa: S608, UP032
    return Plan(
        dataset=description.dataset,
        table=description.table,
        unit_kind=description.unit.kind,
        columns=(),
        sql=f"SELECT CAST(_k0 AS VARCHAR), count(*) FROM ({counted}) AS b GROUP BY _k0",  # noqa: S608 (our own SQL)
        keys=(PlannedKey(of, tuple(str(size) for size in range(1, bins + 2))),),
        key_mode=KeyMode.PUBLIC,
        statistics=(PlannedStatistic(Statistic(StatisticKind.UNITS, None, 0, 1), rho, gaussian_sigma(1, rho)),),
        threshold=None,
        histograms=(),
        estimates=(Estimate(AggregateKind.UNITS, None, 0),),
        formulas=(Formula(FormulaOp.AGGREGATE, index=0),),
        outputs=(
            Output(Label("rows", "rows of a unit", "每个单元的行数"), Slot(is_key=True, index=0)),
            Output(Label("units", "number of units", f"{description.unit.label_zh}数"), Slot(is_key=False, index=0)),
        ),
        finish=Finish(),
        bound=description.bound,
        bounding="each unit stands in one bin",
        bounds_rows=False,
        loss=loss,
        max_rows=description.max_rows,
    )


def read_profile(plan: Plan, answer: Answer) -> Profile:
    """Return the profile that the answer to a profile plan holds."""
    counts = tuple(row[1] for row in answer.rows)
    assert all(isinstance(count, int) for count in counts)
    return Profile(plan.dataset, plan.unit_kind, tuple(int(count) for count in counts if count is not None), plan.loss)
