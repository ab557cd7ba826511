"""The last look at bounds: one comparison a value says what two would."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.errors import InputError
from sandbox.model.description import ColumnKind
from sandbox.vault.columns import BatchCheck, batch_schema

EDGES = (-(2**63), -(2**63) + 1, -(2**31), -1, 0, 1, 7, 2**31, 2**63 - 2, 2**63 - 1)
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(-(2**63), 2**63 - 1), st.integers(-20, 20))
BOUNDS = st.one_of(st.none(), NUMBERS, st.integers(-(2**70), 2**70))


def _refused(tools: SimpleNamespace, kind: ColumnKind, values: list[int | None], **bounds: object) -> bool:
    described = tools.describe(tools.column("c", kind, nullable=True, **bounds))
    schema = batch_schema(described)
    units = pa.array(range(len(values)), pa.int64())
    counts = pa.array(values, pa.int32() if kind is ColumnKind.DATE else pa.int64()).cast(schema.field("c").type)
    try:
        BatchCheck(described).check(pa.RecordBatch.from_arrays([units, counts], schema=schema))
    except InputError as error:
        return error.code == "input.batch.bounds"
    return False


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), NUMBERS), max_size=6), BOUNDS, BOUNDS)
def test_a_count_outside_its_bounds_is_refused_and_no_other(
    tools: SimpleNamespace, values: list[int | None], lower: int | None, upper: int | None
) -> None:
    outside = any(
        (lower is not None and value < lower) or (upper is not None and value > upper)
        for value in values
        if value is not None
    )
    assert _refused(tools, ColumnKind.INTEGER, values, lower=lower, upper=upper) == outside


@pytest.mark.parametrize("lower", [None, -10_000, 0, 15])
@pytest.mark.parametrize("upper", [None, 20, 40_000])
def test_a_day_outside_its_bounds_is_refused(tools: SimpleNamespace, lower: int | None, upper: int | None) -> None:
    for day in (-(2**31), -10_001, -10_000, 14, 15, 20, 21, 40_000, 40_001, 2**31 - 1):
        outside = (lower is not None and day < lower) or (upper is not None and day > upper)
        assert _refused(tools, ColumnKind.DATE, [None, day], lower=lower, upper=upper) == outside


def test_bounds_between_two_counts_are_rounded_outward(tools: SimpleNamespace) -> None:
    bounds = {"lower": Fraction(-1, 3), "upper": Fraction(4, 3)}
    assert not _refused(tools, ColumnKind.INTEGER, [-1, 2], **bounds)
    assert _refused(tools, ColumnKind.INTEGER, [-2], **bounds)
    assert _refused(tools, ColumnKind.INTEGER, [3], **bounds)
