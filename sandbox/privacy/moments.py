"""Moments: the expressions whose sums make variances, covariances and correlations.

A variance is the mean of squares less the square of the mean.  Both means are of one row's values, so each is a clamped
sum like any other (`docs/proofs/variance.md`).  Values are shifted to the middle of their range before they are
squared, which halves their size; a square that could pass 62 bits in total is taken in coarser steps.
"""

from __future__ import annotations

from fractions import Fraction

from sandbox.privacy import build
from sandbox.privacy.algebra import Expr, NumberType

ROOM = 2**61
"""What a total of squares may reach before it is taken in coarser steps."""


def pair_of(left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """Return two expressions that are NULL in the same rows: where either of the two given is."""
    return _beside(left, right), _beside(right, left)


def _beside(expr: Expr, other: Expr) -> Expr:
    if not other.nullable:
        return expr
    return build.case([(build.negated(build.is_null(other)), expr)], build.nothing())


def product(left: Expr, right: Expr, max_rows: int) -> Expr:
    """Return the product of two centred expressions, in steps so coarse that a total of `max_rows` fits."""
    exact = build.multiply(centred(left), centred(right))
    of = build.number_type(exact, "a product")
    largest = max(abs(of.lower), abs(of.upper), of.upper - of.lower, 1) * max(1, max_rows)
    if largest < ROOM:
        return exact
    step = 1 << (largest // ROOM).bit_length()
    coarse = build.floor(build.multiply(exact, build.number(1 / (of.resolution * step))))
    return build.multiply(coarse, build.number(of.resolution * step))


def centred(expr: Expr) -> Expr:
    """Return an expression less the middle of its range."""
    middle = centre_of(build.number_type(expr, "a moment"))
    return expr if middle == 0 else build.add(expr, build.number(-middle))


def centre_of(of: NumberType) -> Fraction:
    """Return the middle of a range, in whole steps."""
    return (of.lower + of.upper) // 2 * of.resolution
