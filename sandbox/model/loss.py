"""Privacy loss: what a release costs one privacy unit.

Inside, every loss is a point (rho, delta) of approximate zero-concentrated differential privacy: with probability at
least 1 - delta the mechanism is rho-zCDP (Bun and Steinke 2016, definition 8.1).  Both add under adaptive composition
(lemma 8.2).  Both are exact rationals.  People read (epsilon, delta), converted once, at the edge, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sandbox.errors import ExactError
from sandbox.model.exact import format_exact, parse_exact

GRID = 10**30
"""Steps of one: the finest loss that an account holds."""


@dataclass(frozen=True, slots=True)
class PrivacyLoss:
    """A loss of `rho` (zCDP) and `delta` (failure probability), both exact and not negative."""

    rho: Fraction
    delta: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.rho < 0 or self.delta < 0 or self.delta > 1:
            raise ExactError("a privacy loss is out of range", hint="rho is 0 or more, delta lies between 0 and 1")

    def __add__(self, other: PrivacyLoss) -> PrivacyLoss:
        return PrivacyLoss(self.rho + other.rho, min(Fraction(1), self.delta + other.delta))

    def scaled(self, share: Fraction) -> PrivacyLoss:
        """Return `share` of this loss, for 0 <= share <= 1."""
        if not 0 <= share <= 1:
            raise ExactError("a share of a loss is out of range", hint="a share lies between 0 and 1")
        return PrivacyLoss(self.rho * share, self.delta * share)

    def on_grid(self) -> PrivacyLoss:
        """Return the largest loss on the grid of accounts that is within this one.

        What is asked for is put on the grid before it is held or charged, so that sums of any number of losses stay
        short: fractions with denominators of their own would make an account that nobody can write down.
        """
        return PrivacyLoss(Fraction(self.rho * GRID // 1, GRID), Fraction(self.delta * GRID // 1, GRID))

    def fits(self, limit: PrivacyLoss) -> bool:
        """Return whether this loss is within `limit`, component by component."""
        return self.rho <= limit.rho and self.delta <= limit.delta

    def minus(self, other: PrivacyLoss) -> PrivacyLoss:
        """Return what remains after `other`, which must fit."""
        return PrivacyLoss(self.rho - other.rho, self.delta - other.delta)

    def to_record(self) -> dict[str, str]:
        """Return `{"rho": text, "delta": text}`."""
        return {"rho": format_exact(self.rho), "delta": format_exact(self.delta)}

    @classmethod
    def parse(cls, record: object) -> PrivacyLoss:
        """Return the loss that a record writes; strict about its fields."""
        if not isinstance(record, dict) or set(record) - {"rho", "delta"} or "rho" not in record:
            raise ExactError("a privacy loss needs `rho` and may have `delta`", hint='as in {"rho": "1/100"}')
        return cls(parse_exact(record["rho"]), parse_exact(record.get("delta", 0)))


NO_LOSS = PrivacyLoss(Fraction(0))
