"""The limit on a further unit's rows: over all batches, exact at its edge, and silent about values."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.errors import InputError
from sandbox.model.unit import OtherUnit
from sandbox.vault import unit_rows
from sandbox.vault.columns import BatchCheck, batch_schema
from sandbox.vault.unit_rows import UnitRowLimits

KINDS = (OtherUnit("person", "person_id", "自然人", 3), OtherUnit("vehicle-day", "plate", "车日", 2))


def batch(people, vehicles=None):
    return pa.record_batch(
        {
            "_unit_person": pa.array(people, pa.int64()),
            "_unit_vehicle_day": pa.array(range(len(people)) if vehicles is None else vehicles, pa.int64()),
        }
    )


@pytest.fixture
def limits(tools: SimpleNamespace) -> UnitRowLimits:
    return UnitRowLimits(replace(tools.describe(*tools.columns), also_protects=KINDS))


def one_more(limits):
    """Add a fourth row of one person; where rows are counted late, only the end tells."""
    limits.add(batch([-7], [99]))
    limits.finish()


@pytest.mark.parametrize("pending", [1, 2, 1 << 20])
def test_the_limit_holds_at_its_edge_over_all_batches(limits, pending, monkeypatch):
    monkeypatch.setattr(unit_rows, "_PENDING_ROWS", pending)
    for start in range(3):
        limits.add(batch([7, -7, 2**62 - start], [10 * start, 10 * start + 1, 10 * start + 2]))
    limits.finish()
    with pytest.raises(InputError) as caught:
        one_more(limits)
    assert caught.value.code == "input.seal.unit_rows"
    assert (
        caught.value.message
        == "a person in the column `person_id` has more rows than the 3 that the description allows"
    )


def test_each_kind_has_its_own_limit(limits):
    limits.add(batch([1, 2, 3], [5, 5, 5]))
    with pytest.raises(InputError, match="a vehicle-day in the column `plate` has more rows than the 2 "):
        limits.finish()


def test_many_random_rows_are_counted_exactly(tools: SimpleNamespace):
    draw = np.random.default_rng(5)
    tokens = draw.integers(-50, 50, 5000)
    most = int(np.unique(tokens, return_counts=True)[1].max())
    for limit, held in ((most, True), (most - 1, False)):
        description = replace(tools.describe(*tools.columns), also_protects=(replace(KINDS[0], rows=limit),))
        counting = UnitRowLimits(description)
        for part in np.array_split(tokens, 17):
            counting.add(batch(part))
        if held:
            counting.finish()
        else:
            with pytest.raises(InputError):
                counting.finish()


def test_a_batch_carries_the_tokens_of_every_kind_and_none_is_missing(tools: SimpleNamespace):
    description = replace(tools.describe(*tools.columns), also_protects=KINDS)
    schema = batch_schema(description)
    assert schema.names[:3] == ["_unit", "_unit_person", "_unit_vehicle_day"]
    arrays = [pa.array([None], field.type) for field in schema]
    arrays[0] = pa.array([1], pa.int64())
    with pytest.raises(InputError, match="a value of the column `_unit_person` is missing") as caught:
        BatchCheck(description).check(pa.RecordBatch.from_arrays(arrays, schema=schema))
    assert caught.value.code == "input.batch.null"
    with pytest.raises(InputError) as caught:
        BatchCheck(description).check(pa.RecordBatch.from_arrays(arrays[:1], schema=pa.schema([schema.field(0)])))
    assert caught.value.code == "input.batch.schema"
