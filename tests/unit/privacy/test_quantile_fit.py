"""Quantiles are read from the counts that fit the whole noisy tree best: beside least squares by linear algebra."""

from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.privacy import quantile
from sandbox.privacy.histogram import BRANCHING, Tree, level_counts, levels_of, tree_counts
from sandbox.privacy.quantile import Placed, QuantilePlacer, excess_variances, fitted_leaves, scale_of

Z = Fraction(196, 100)


def design(levels):
    """Which leaves each node counts, level by level."""
    leaves = BRANCHING**levels
    return np.vstack(
        [np.kron(np.eye(BRANCHING**level), np.ones(leaves // BRANCHING**level)) for level in range(1, levels + 1)]
    )


def variances(levels, fraction):
    found, below = excess_variances(levels, fraction)
    return [variance / below for variance in found]


def tree(levels, leaves=None):
    starts = [sum(BRANCHING**level for level in range(1, before)) for before in range(1, levels + 1)]
    leaves = leaves or BRANCHING**levels
    return Tree(tuple(starts), leaves, 0, leaves - 1, 1, Fraction(1))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_fit_is_that_of_least_squares(levels):
    draw = np.random.default_rng(levels)
    noisy = [draw.integers(-50, 200, BRANCHING**level).tolist() for level in range(1, levels + 1)]
    expected = np.linalg.lstsq(design(levels), np.concatenate(noisy).astype(float), rcond=None)[0]
    found = np.array([leaf / scale_of(levels) for leaf in fitted_leaves(noisy)])
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("fraction", [Fraction(1, 2), Fraction(1, 10), Fraction(0), Fraction(1)])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_variance_of_what_is_read_is_that_of_least_squares(levels, fraction):
    leaves = BRANCHING**levels
    covariance = np.linalg.inv(design(levels).T @ design(levels))
    reads = np.vstack([np.tril(np.ones((leaves, leaves)), -1), np.ones(leaves)]) - float(fraction)
    expected = np.einsum("ij,jk,ik->i", reads, covariance, reads)
    np.testing.assert_allclose(variances(levels, fraction), expected, atol=1e-9)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=70))
def test_counts_that_agree_already_stay_exactly(leaves):
    levels = tree_counts(leaves)
    padded = [*leaves, *([0] * (BRANCHING ** len(levels) - len(leaves)))]
    assert fitted_leaves(levels).tolist() == [scale_of(len(levels)) * leaf for leaf in padded]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=84, max_size=84), st.fractions(0, 1, max_denominator=50))
def test_64_bits_and_python_integers_give_the_same(noisy, fraction):
    placer = QuantilePlacer(tree(3, 50), fraction, [Fraction(10**5)] * 84, Z)
    short = placer.place(noisy)
    with patch.object(quantile, "_WHOLE", 0):
        assert placer.place(noisy) == short


@pytest.mark.parametrize("largest", [2**40, 2**62, 10**40])
def test_counts_beyond_64_bits_are_fitted_as_well(largest):
    noisy = [largest, 0, 0, 0, *[largest // 4] * 4, *[0] * 12]
    leaves = fitted_leaves([noisy[:4], noisy[4:]])
    assert leaves.tolist() == [scale_of(2) * each for each in noisy[4:]]


def test_fitting_takes_a_third_of_the_error_and_more_in_the_middle():
    """Single nodes leave at the middle of 1,024 leaves: two of four top nodes at a quarter each way, times 5 levels."""
    fitted = variances(5, Fraction(1, 2))[:1024]
    single = [prefix_variance(place, 5) for place in range(1024)]
    assert all(best <= alone + 1e-9 for best, alone in zip(fitted, single, strict=True))
    assert np.sqrt(np.mean(fitted)) < 0.6 * np.sqrt(np.mean(single))


def prefix_variance(place, levels):
    """The variance of F(i) - n / 2 by left siblings on the path alone."""
    digits = [place // BRANCHING ** (levels - level) % BRANCHING for level in range(1, levels + 1)]
    return BRANCHING / 4 + sum(digits[1:])


def test_a_cell_without_rows_has_no_quantile():
    placer = QuantilePlacer(tree(2), Fraction(1, 2), [Fraction(5)] * 20, Z)
    assert placer.place([0] * 20) is None
    assert placer.place([-1] * 20) is None


def test_without_noise_the_place_is_the_quantile_and_the_interval_is_as_wide_as_the_noise_says():
    counts = [7, 0, 0, 3, 5, 90, 1, 4, 4, 0, 0, 2, 8]
    noisy = [*level_counts(counts, 1), *level_counts(counts, 2)]
    narrow = QuantilePlacer(tree(2, 13), Fraction(1, 2), [Fraction(1, 100)] * 20, Z).place(noisy)
    wide = QuantilePlacer(tree(2, 13), Fraction(1, 2), [Fraction(40)] * 20, Z).place(noisy)
    assert (narrow.amount, narrow.lower, narrow.upper) == (5, 5, 5)
    assert wide.amount == 5
    assert wide.lower < 5 < wide.upper
    assert QuantilePlacer(tree(2, 13), Fraction(1, 2), [Fraction(10**9)] * 20, Z).place(noisy).upper == 12


def place_plainly(tree, fraction, noisy, sigma, z):
    """Place a quantile as the docstring says: leaf by leaf, in exact fractions."""
    levels = [noisy[start : start + BRANCHING**level] for level, start in enumerate(tree.starts, start=1)]
    leaves = [Fraction(leaf, scale_of(len(levels))) for leaf in fitted_leaves(levels).tolist()]
    total = sum(leaves)
    if total <= 0:
        return None
    above = [sum(leaves[:end]) - fraction * total for end in [*range(tree.leaves), len(leaves)]]
    found, below = excess_variances(len(levels), fraction)
    limits = [Fraction(v, below) * (z * sigma) ** 2 for v in [*found[: tree.leaves], found[-1]]]
    over = [e > 1 and (e - 1) ** 2 > limit for e, limit in zip(above, limits, strict=True)]
    under = [e < -1 and (e + 1) ** 2 > limit for e, limit in zip(above, limits, strict=True)]
    possible = [i for i in range(tree.leaves) if not over[i] and not under[i + 1]]
    place = min(sum(e < 0 for e in above[1:-1]), tree.leaves - 1)
    share = Fraction(1, 2)
    if above[place] < 0 < above[place + 1]:
        share = -above[place] / (above[place + 1] - above[place])
    amount = tree.lower + place * tree.width + share * (tree.width - 1)
    ends = min([*possible, place]), max([*possible, place])
    highest = min(tree.lower + (ends[1] + 1) * tree.width - 1, tree.upper)
    return Placed(min(amount, Fraction(tree.upper)), Fraction(tree.lower + ends[0] * tree.width), Fraction(highest))


@given(st.data())
def test_a_quantile_is_placed_where_one_finds_it_leaf_by_leaf(data):
    leaves = data.draw(st.integers(1, 70))
    levels, before = levels_of(leaves), data.draw(st.integers(0, 3))
    starts = tuple(before + sum(BRANCHING**each for each in range(1, level)) for level in range(1, levels + 1))
    lower, width = data.draw(st.integers(-1000, 1000)), data.draw(st.integers(1, 5))
    upper = lower + leaves * width - data.draw(st.integers(1, width))
    tree = Tree(starts, leaves, lower, upper, width, Fraction(1, 100))
    count = starts[-1] + BRANCHING**levels
    size = data.draw(st.sampled_from([3, 1000, 2**40, 2**58, 2**63]))
    noisy = data.draw(st.lists(st.integers(-size, size), min_size=count, max_size=count))
    noisy[starts[0]] += data.draw(st.sampled_from([0, size]))
    sigma = data.draw(st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(87, 8), Fraction(2**50), Fraction(2**70)]))
    fraction = data.draw(st.fractions(0, 1, max_denominator=1000))
    placed = QuantilePlacer(tree, fraction, [sigma] * count, Z).place(noisy)
    assert placed == place_plainly(tree, fraction, noisy, sigma, Z)
    if placed is not None:
        assert lower <= placed.lower <= placed.amount <= placed.upper <= upper
