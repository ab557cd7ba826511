"""Made-up rows: what a description says, nothing else, and the same ones every time."""

from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sandbox.compute.mock_rows import mock_rows
from sandbox.compute.run import _is_stored
from sandbox.model.description import ColumnKind
from tests.support import privacy_world


@pytest.fixture(scope="module")
def description():
    return privacy_world.describe()


def test_the_same_description_gives_the_same_rows_and_another_others(description):
    assert mock_rows(description).equals(mock_rows(description))
    other = replace(description, label_en="another")
    assert not mock_rows(other).equals(mock_rows(description))


def test_rows_have_storage_types_units_that_stand_together_and_ranks_from_one(description):
    rows = mock_rows(description, units=50)
    assert _is_stored(rows)
    units, ranks = rows.column("_unit").to_pylist(), rows.column("_rank").to_pylist()
    assert units == sorted(units)
    assert len(set(units)) == 50
    for unit in set(units):
        own = [rank for each, rank in zip(units, ranks, strict=True) if each == unit]
        assert own == list(range(1, len(own) + 1))
        assert len(own) <= description.bound.rows


def test_every_value_is_one_that_the_description_allows(description):
    rows = mock_rows(description)
    for column in description.columns:
        cells = rows.column(column.name)
        assert (cells.null_count > 0) is column.nullable, column.name
        present = [cell for cell in cells.to_pylist() if cell is not None]
        if column.lower is not None and column.resolution is not None:
            assert all(column.lower <= count * column.resolution <= column.upper for count in present), column.name
        if column.domain is not None:
            assert set(present) == {value.value for value in column.domain}, column.name
        if column.kind is ColumnKind.TEXT or (column.kind is ColumnKind.CATEGORY and column.domain is None):
            assert all(text.startswith("mock-") for text in present), column.name


def test_rows_stay_below_the_public_ceiling(description):
    assert mock_rows(replace(description, max_rows=7), units=100).num_rows <= 7


def test_a_date_without_bounds_and_bounds_off_the_grid_still_give_values(description):
    date = replace(description.columns[0], name="when", kind=ColumnKind.DATE, lower=None, upper=None, domain=None)
    amount = replace(
        date, name="amount", kind=ColumnKind.DECIMAL, lower=Fraction(1, 3), upper=Fraction(2), resolution=Fraction(1, 2)
    )
    rows = mock_rows(replace(description, columns=(date, amount)))
    assert rows.column("when").type == pa.date32()
    assert pc.min(rows.column("amount")).as_py() == 1
    assert pc.max(rows.column("amount")).as_py() == 4
