"""A quantile read from the noisy tree beside one chosen by report-noisy-max, for the same loss (ADR 0014); not a bar.

Both go the way of the engine: `tree` has the whole loss; `chosen` has half for the choice and half for the tree that
gives its interval.  Run it with `python benchmarks/study_quantiles.py`; some minutes on a quiet machine.  Data is made
here, nothing is private.
"""

import argparse
import math
from fractions import Fraction

import numpy as np

from sandbox.privacy.chosen_quantile import SHARE, LeafChoice, choose_leaves
from sandbox.privacy.histogram import BRANCHING, Tree, levels_of, tree_counts
from sandbox.privacy.mechanism import choice_scale, gaussian_sigma
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quantile import QuantilePlacer

LEAVES, Z = 1024, Fraction(196, 100)
NOISE = OpenDpNoise()


class NoisyTree:
    """A tree over all bins at one loss, read again and again."""

    def __init__(self, fraction, rho, rows):
        levels = levels_of(LEAVES)
        self.how = {"rho": rho / levels, "sensitivity_squared": rows**2, "sigma": gaussian_sigma(rows**2, rho / levels)}
        starts = [sum(BRANCHING**level for level in range(1, before)) for before in range(1, levels + 1)]
        tree = Tree(tuple(starts), LEAVES, 0, LEAVES - 1, 1, Fraction(1))
        self.placer = QuantilePlacer(tree, fraction, [self.how["sigma"]] * (starts[-1] + BRANCHING**levels), Z)

    def read(self, nodes, leaf=None):
        """Return where the quantile lies, or the leaf that was chosen, and the half-width of its interval."""
        placed = self.placer.place(NOISE.gaussian(nodes, **self.how), leaf)
        if placed is None:
            return LEAVES / 2, LEAVES / 2
        return float(placed.amount), float(placed.upper - placed.lower) / 2


def both_ways(counts, fraction, rho, rows, runs):
    """Return what `runs` releases give by the tree, and by the choice."""
    sensitivity = rows * max(fraction.numerator, fraction.denominator - fraction.numerator)
    choice = LeafChoice(fraction, LEAVES, sensitivity, rho * SHARE, choice_scale(sensitivity, rho * SHARE))
    whole, rest = (NoisyTree(fraction, part, rows) for part in (rho, rho * (1 - SHARE)))
    nodes = [node for level in tree_counts(counts) for node in level]
    chosen = [rest.read(nodes, leaf) for leaf in choose_leaves(choice, [counts] * runs, NOISE)]
    return [whole.read(nodes) for _ in range(runs)], chosen


def rms(errors):
    """Return the root mean square."""
    return math.sqrt(float(np.mean(np.square(errors))))


def cells(draw):
    """Yield `(rows, name, values)`: what is asked of."""
    for size in (300, 1000, 10_000, 100_000):
        yield size, "uniform", draw.integers(0, LEAVES, size)
        yield size, "lognormal", np.minimum(LEAVES - 1, draw.lognormal(4, 1, size).astype(int))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=25)
    runs = parser.parse_args().runs
    print(
        f"root mean squared error in bins of {LEAVES}, {runs} runs; in brackets the median half-width of the interval"
    )
    print("rows in the cell | values | fraction | rho | rows a unit | tree | chosen | tree's error / chosen's")
    for size, name, values in cells(np.random.default_rng(1)):
        counts = np.bincount(values, minlength=LEAVES).tolist()
        for fraction in (Fraction(1, 2), Fraction(9, 10)):
            truth = float(np.quantile(values, float(fraction)))
            for rho in (Fraction(1, 20), Fraction(1, 2)):
                for rows in (1, 10):
                    ways = both_ways(counts, fraction, rho, rows, runs)
                    tree, chosen = (rms([amount - truth for amount, _ in way]) for way in ways)
                    halves = [float(np.median([half for _, half in way])) for way in ways]
                    ratio = tree / chosen if chosen else math.inf if tree else 1.0
                    head = f"{size:7d} | {name:9s} | {fraction!s:4s} | {rho!s:4s} | {rows:2d}"
                    print(f"{head} | {tree:6.1f} ({halves[0]:5.1f}) | {chosen:6.1f} ({halves[1]:5.1f}) | {ratio:5.1f}")


if __name__ == "__main__":
    main()
