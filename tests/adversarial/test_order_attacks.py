"""Attacks on the order of rows: a bound that looks at rows before must not trust an engine to keep them in order.

A list after IN becomes a join with the list, and that join hands on a small run of rows after the larger run behind it.
Rows that come late stand behind another unit's, and a bound that looks some rows back over what the engine hands on
keeps rows that it must drop.
"""

import numpy as np
import pyarrow as pa
import pytest

from sandbox.compute.run import run_plan
from tests.support.privacy_world import describe, plan
from tests.support.privacy_world import table as table_of

BOUND = 3
UNITS, EACH = 200, 90


def runs(column, lengths):
    """Return a column in runs, each with a dictionary of its own, as partitions put together have."""
    whole = column.combine_chunks()
    starts = np.cumsum([0, *lengths])[:-1].tolist()
    chunks = [whole.slice(start, n).dictionary_encode() for start, n in zip(starts, lengths, strict=True)]
    return pa.chunked_array(chunks)


def rows_in_runs(lengths):
    """Return units of 90 rows each, their texts in runs of some lengths."""
    units, ranks = np.repeat(np.arange(UNITS), EACH), np.tile(np.arange(1, EACH + 1), UNITS).astype(np.int32)
    texts = pa.array([f"D{n % 40}" for n in range(UNITS * EACH)])
    one = table_of([{"_unit": 0, "_rank": 1}])
    columns = {
        name: pa.array([one.column(name)[0].as_py()] * len(units), one.schema.field(name).type)
        for name in one.column_names
    }
    columns |= {"_unit": pa.array(units), "_rank": pa.array(ranks), "diag": runs(pa.chunked_array([texts]), lengths)}
    return pa.table(columns)


LISTED = ", ".join(f"'D{n}'" for n in range(40))
CONDITIONS = [
    f"diag IN ({LISTED})",
    f"diag NOT IN ({LISTED.replace('D', 'E')})",
    f"(diag IN ({LISTED}) OR urgent) AND age < 100",
]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shown", ["COUNT(*) AS n", "COUNT(*) AS n, MEDIAN(age) AS m"])
def test_a_list_after_in_does_not_reorder_what_the_bound_sees(shown, condition, threads):
    whole = rows_in_runs([5000, 17, 3000, 25, 900, 60, 18000 - 9002])
    wanted = plan(f"SELECT {shown} FROM visits WHERE {condition}", describe(rows=BOUND, groups=1))
    cells = run_plan(wanted, [whole], threads=threads).cells
    total = sum(exact[0] for key, exact in cells.items() if key in {(), (None,)})
    assert total == UNITS * BOUND
