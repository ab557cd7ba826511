"""How far noise reaches: standard deviations, and how many of them hold 95 % of what noise of a kind makes.

Values are made of sums of independent noises, weighed as the value needs.  For discrete Gaussians such a sum is as good
as normal: 95 % lie within 1.96 standard deviations.  For discrete Laplace noise it is ln(20) / sqrt(2) = 2.118 of them:
exact for one noise, and more than enough for any sum of several, which is the nearer to normal the more evenly it is
weighed (`docs/proofs/laplace.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import overload

Z = Fraction(1_959_964, 1_000_000)
"""The 97.5 % point of the normal law, rounded up."""

Z_LAPLACE = Fraction(2_118_303, 1_000_000)
"""ln(20) / sqrt(2), rounded up: the 97.5 % point of Laplace's law in standard deviations."""


_BOTH = Fraction(2_241_403, 1_959_964)
_BOTH_LAPLACE = Fraction(1_231_379, 1_000_000)


@dataclass(frozen=True, slots=True)
class LaplaceScales(Sequence[Fraction]):
    """Standard deviations of discrete Laplace noise; a plain sequence is of discrete Gaussians."""

    deviations: tuple[Fraction, ...]

    def __len__(self) -> int:
        return len(self.deviations)

    @overload
    def __getitem__(self, place: int) -> Fraction: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Fraction]: ...
    def __getitem__(self, place: int | slice) -> Fraction | Sequence[Fraction]:
        return self.deviations[place]


def reach_of_95(deviations: Sequence[Fraction]) -> Fraction:
    """Return how many standard deviations hold 95 % of what these noises make of a value, rounded up."""
    return Z_LAPLACE if isinstance(deviations, LaplaceScales) else Z


def widening_for_two(deviations: Sequence[Fraction]) -> Fraction:
    """Return what widens two 95 % intervals so that both hold together in 95 % of cases, whatever they share.

    It is the 98.75 % point of the law over its 97.5 % point: of Laplace's ln(40) / ln(20).
    """
    return _BOTH_LAPLACE if isinstance(deviations, LaplaceScales) else _BOTH


def of_the_same_law(deviations: Sequence[Fraction], changed: Sequence[Fraction]) -> Sequence[Fraction]:
    """Return changed standard deviations of noise of the same kind."""
    return LaplaceScales(tuple(changed)) if isinstance(deviations, LaplaceScales) else changed
