"""The numerics of models: right, and the same to the last bit wherever IEEE 754 holds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.privacy.models.numerics import applied, eigen_symmetric, logarithm, logarithms, product
from sandbox.privacy.models.synthetic import _chosen

GOLDEN_VALUES = ["0x1.592b31e8d76eep+2", "0x1.99c45e9d3de62p+1", "0x1.9f29ec8899dd1p-2"]
GOLDEN_LOG = "0x1.26bb1bbb55515p+1"
GOLDEN_PLACES = [0, 3, 2, 2, 3, 2, 3, 3]


@pytest.mark.parametrize("size", [1, 2, 5, 21])
def test_eigenvalues_and_axes_are_those_of_the_library(size):
    matrix = np.random.default_rng(size).normal(size=(size, size))
    matrix = (matrix + matrix.T) * 1000
    values, axes = eigen_symmetric(matrix.tolist())
    assert sorted(values) == pytest.approx(np.linalg.eigvalsh(matrix), rel=1e-12, abs=1e-9)
    back = np.array(axes) @ np.diag(values) @ np.array(axes).T
    assert back == pytest.approx(matrix, rel=1e-9, abs=1e-9)
    assert np.array(product(axes, [list(row) for row in zip(*axes, strict=True)])) == pytest.approx(np.eye(size))


@pytest.mark.parametrize(
    "matrix", [[[0.0]], [[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]], [[1e-300, 0], [0, 1e200]]]
)
def test_edges_of_the_eigenvalues(matrix):
    values, _ = eigen_symmetric(matrix)
    assert sorted(values) == pytest.approx(sorted(np.linalg.eigvalsh(np.array(matrix))), rel=1e-12, abs=1e-12)


def test_known_bits():
    """Golden: a change of these bits would make old models come out differently in an auditor's hands."""
    values, _ = eigen_symmetric([[4.0, 1.0, -2.0], [1.0, 3.0, 0.5], [-2.0, 0.5, 2.0]])
    assert [value.hex() for value in values] == GOLDEN_VALUES
    assert logarithm(10.0).hex() == GOLDEN_LOG
    assert applied([[1.0, 2.0]], [3.0, 4.0]) == [11.0]
    assert _chosen(np.array([1, 0, 5, 3]), 8, np.random.PCG64DXSM(7)).tolist() == GOLDEN_PLACES


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_right_to_some_units_in_the_last_place(value):
    assert logarithm(value) == pytest.approx(math.log(value), rel=4e-16, abs=4e-16)


def test_logarithms_of_an_array_are_those_of_its_cells():
    cells = np.array([0.1, 1.0, 2.5, 1e9])
    assert logarithms(cells).tolist() == [logarithm(float(cell)) for cell in cells]


def test_places_are_drawn_in_proportion_to_their_weights_and_never_where_there_is_none():
    """20,000 draws; a false alarm needs six standard deviations."""
    drawn = _chosen(np.array([10, 0, 30]), 20_000, np.random.PCG64DXSM(1))
    assert set(drawn.tolist()) == {0, 2}
    assert abs((drawn == 0).sum() - 5000) < 6 * math.sqrt(20_000 * 0.25 * 0.75)
    assert _chosen(np.array([1]), 0, np.random.PCG64DXSM(1)).tolist() == []
