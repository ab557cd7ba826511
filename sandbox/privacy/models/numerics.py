"""The little numerics of models, the same to the last bit on every machine.

An auditor makes a model again from the recorded answers and compares bytes.  A linear algebra library gives other last
bits with another processor or number of threads, and so does the C library's logarithm; what stands here uses only
operations that IEEE 754 rounds exactly (+, -, *, /, square root), one after the other, and `math.fsum`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Matrix = list[list[float]]

_SWEEPS = 60
_TINY = 1e-15
_LN2 = 0.6931471805599453
_TERMS = 14


def eigen_symmetric(matrix: Sequence[Sequence[float]]) -> tuple[list[float], Matrix]:
    """Return the eigenvalues of a symmetric matrix and its eigenvectors, one in each column; by Jacobi's rotations.

    Cost: some ten sweeps of size**3 operations.

    Source: Golub and Van Loan 2013, section 8.5.
    """
    size = len(matrix)
    a = [[float(cell) for cell in row] for row in matrix]
    v = [[1.0 if i == j else 0.0 for j in range(size)] for i in range(size)]
    scale = math.sqrt(math.fsum(cell * cell for row in a for cell in row))
    for _ in range(_SWEEPS):
        off = math.sqrt(math.fsum(a[i][j] * a[i][j] for i in range(size) for j in range(size) if i != j))
        if off <= _TINY * scale:
            break
        for p in range(size - 1):
            for q in range(p + 1, size):
                if a[p][q] != 0.0:
                    _rotate(a, v, p, q)
    return [a[i][i] for i in range(size)], v


def _rotate(a: Matrix, v: Matrix, p: int, q: int) -> None:
    """Make a[p][q] zero by a rotation of the plane of p and q."""
    half = (a[q][q] - a[p][p]) / (2.0 * a[p][q])
    root = math.sqrt(half * half + 1.0) if abs(half) < 1e150 else abs(half)
    tangent = (1.0 if half >= 0 else -1.0) / (abs(half) + root)
    cosine = 1.0 / math.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    for row in a:
        row[p], row[q] = cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]
    a[p], a[q] = (
        [cosine * one - sine * other for one, other in zip(a[p], a[q], strict=True)],
        [sine * one + cosine * other for one, other in zip(a[p], a[q], strict=True)],
    )
    a[p][q] = a[q][p] = 0.0
    for row in v:
        row[p], row[q] = cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]


def product(one: Matrix, other: Matrix) -> Matrix:
    """Return the product of two matrices."""
    columns = list(zip(*other, strict=True))
    return [[math.fsum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in one]


def applied(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    """Return a matrix times a vector."""
    return [math.fsum(x * y for x, y in zip(row, vector, strict=True)) for row in matrix]


def logarithms(values: Array) -> Array:
    """Return the natural logarithms of positive numbers, right to some three units in the last place."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = np.where(low, exponent - 1, exponent).astype(np.float64)
    # ln(m) = 2 artanh((m - 1)/(m + 1)), and |(m - 1)/(m + 1)| < 0.172.
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = np.full_like(square, 1.0 / (2 * _TERMS + 1))
    for term in range(_TERMS - 1, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    found: Array = exponent * _LN2 + 2.0 * ratio * series
    return found


def logarithm(value: float) -> float:
    """Return the natural logarithm of a positive number."""
    return float(logarithms(np.array([value]))[0])
