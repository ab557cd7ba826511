"""A median by the noisy tree beside one by report-noisy-max over the same 1024 candidates (ADR 0014); not a bar.

Run it with `python benchmarks/study_quantiles.py`; a minute on a quiet machine.  Data is made here, nothing is private.
"""

import math
from fractions import Fraction

import numpy as np
import opendp.prelude as dp

from sandbox.privacy.histogram import Tree, level_counts, levels_of
from sandbox.privacy.mechanism import gaussian_sigma
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quantile import QuantilePlacer

LEAVES, RUNS, HALF = 1024, 25, Fraction(1, 2)
NOISE, DRAW = OpenDpNoise(), np.random.default_rng(1)
dp.enable_features("contrib")


def by_tree(counts, rho, rows):
    """Return where the tree puts the median, and the half-width of its interval."""
    levels = levels_of(LEAVES)
    sigma = gaussian_sigma(rows**2, rho / levels)
    starts, noisy = [], []
    for level in range(1, levels + 1):
        starts.append(len(noisy))
        exact = level_counts(counts, level)
        noisy += NOISE.gaussian(exact, sigma=sigma, sensitivity_squared=rows**2, rho=rho / levels)
    tree = Tree(tuple(starts), LEAVES, 0, LEAVES - 1, 1, Fraction(1))
    placed = QuantilePlacer(tree, HALF, [sigma] * len(noisy), Fraction(196, 100)).place(noisy)
    return (
        (LEAVES / 2, LEAVES / 2) if placed is None else (float(placed.amount), float(placed.upper - placed.lower) / 2)
    )


def by_noisy_max(below, total, rho, rows):
    """Return the candidate whose |2 below - n| is least with noise; a unit moves each score by `rows` at most."""
    measurement = dp.m.make_noisy_max(
        dp.vector_domain(dp.atom_domain(T="i64")),
        dp.linf_distance(T="i64"),
        dp.zero_concentrated_divergence(),
        scale=2 * rows / math.sqrt(8 * float(rho)),
        negate=True,
    )
    return measurement(np.abs(2 * below - total).astype(np.int64))


def rms(errors):
    """Return the root mean square."""
    return math.sqrt(float(np.mean(np.square(errors))))


def main():
    """Print the table."""
    print("rows in the cell | values | rho | rows a unit | error: tree, noisy max | half-width of the tree's interval")
    for size in (300, 1000, 10_000, 100_000):
        for values in ("uniform", "lognormal"):
            found = DRAW.integers(0, LEAVES, size) if values == "uniform" else DRAW.lognormal(4, 1, size)
            counts = np.bincount(np.minimum(LEAVES - 1, found.astype(int)), minlength=LEAVES)
            below = np.concatenate([[0], np.cumsum(counts)])[:-1]
            truth = float(np.median(np.minimum(LEAVES - 1, found.astype(int))))
            for rho in (Fraction(1, 20), Fraction(1, 2)):
                for rows in (1, 10):
                    trees = [by_tree(counts.tolist(), rho, rows) for _ in range(RUNS)]
                    chosen = [by_noisy_max(below, size, rho, rows) - truth for _ in range(RUNS)]
                    errors = rms([amount - truth for amount, _ in trees]), rms(chosen)
                    half = float(np.median([half for _, half in trees]))
                    head = f"{size:7d} | {values:9s} | {rho!s:4s} | {rows:2d}"
                    print(f"{head} | {errors[0]:6.1f} {errors[1]:6.1f} | {half:6.1f}")


if __name__ == "__main__":
    main()
