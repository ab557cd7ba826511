"""A partition as a plan asks: in order, groups numbered one to one, first rows marked; and nothing else changed."""

import numpy as np
import pyarrow as pa
import pytest

from sandbox.compute import arrange
from sandbox.compute.arrange import Groups, arranged, batches, first_rows, is_clustered, with_kept
from sandbox.errors import CanonicalError
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, KEPT_COLUMN, PLAIN, Layout


def table(units, ranks, **texts):
    columns = {"_unit": pa.array(units, pa.int64()), "_rank": pa.array(ranks, pa.int32())}
    return pa.table(columns | texts)


def plainly(units, ranks, groups, most):
    """First rows, one at a time."""
    seen, marks = set(), []
    for unit, rank, group in zip(units, ranks, groups, strict=True):
        fresh = rank <= most and (unit, group) not in seen
        marks.append(fresh)
        if fresh:
            seen.add((unit, group))
    return marks


@pytest.mark.parametrize("most", [1, 2, 7, 40, 1000])
@pytest.mark.parametrize(("rows", "kinds"), [(5, 3), (60, 2), (60, 50), (1, 1)])
@pytest.mark.parametrize("slice_rows", [1, 7, 64, 1 << 17])
def test_first_rows_are_those_that_one_finds_one_at_a_time(most, rows, kinds, slice_rows, monkeypatch):
    monkeypatch.setattr(arrange, "_SLICE", slice_rows)
    draw = np.random.default_rng([most, rows, kinds])
    counts = draw.integers(1, rows + 1, 30)
    units = np.repeat(draw.permutation(30) * 7 - 3, counts)
    ranks = np.concatenate([np.arange(1, count + 1) for count in counts]).astype(np.int32)
    groups = draw.integers(0, kinds, len(units)).astype(np.int32)
    assert first_rows(units, ranks, groups, most).tolist() == plainly(units, ranks, groups, most)


def test_first_rows_of_wide_numbers_do_not_meet(monkeypatch):
    """Numbers of pairs would not fit: groups get smaller ones first."""
    monkeypatch.setattr(arrange, "WIDEST", 2**33)
    units, ranks = np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2], np.int32)
    groups = np.array([2**40, 2**40, 2**40, 0])
    assert first_rows(units, ranks, groups, 9).tolist() == [True, False, True, True]


def test_no_rows_have_no_first_row():
    assert first_rows(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), 3).tolist() == []
    assert is_clustered(table([], []))


@pytest.mark.parametrize(
    ("units", "ranks", "clustered"),
    [
        ([1, 1, 2], [1, 2, 1], True),
        ([1, 2, 1], [1, 1, 2], False),
        ([1, 1, 2], [2, 1, 1], False),
        ([1, 1], [1, 3], False),
        ([1], [2], False),
        ([2, 1, 1], [1, 1, 2], True),
    ],
)
@pytest.mark.parametrize("slice_rows", [1, 2, 1 << 17])
def test_only_runs_of_ascending_ranks_are_clustered(units, ranks, clustered, slice_rows, monkeypatch):
    monkeypatch.setattr(arrange, "_SLICE", slice_rows)
    assert is_clustered(table(units, ranks)) is clustered


def test_a_partition_in_another_order_is_sorted():
    found, groups = arranged(table([1, 2, 1, 2], [2, 2, 1, 1]), Layout(clustered=True))
    assert groups is None
    assert found.column("_unit").to_pylist() == [1, 1, 2, 2]
    assert found.column("_rank").to_pylist() == [1, 2, 1, 2]


def numbered(columns):
    rows = len(next(iter(columns.values())))
    whole, groups = arranged(table(range(rows), [1] * rows, **columns), Layout(groups=tuple(columns)))
    return [groups.key(number) for number in whole.column(GROUP_COLUMN).to_pylist()]


ONE = ["x", None, "", "x", "陶"]
OTHER = [None, None, "a'b", "c", "c"]


def repeated_dictionary():
    """A dictionary that holds a value twice, and NULL as a value."""
    return pa.DictionaryArray.from_arrays(pa.array([0, 3, 2, 1, 4]), pa.array(["x", "x", "", None, "陶"]))


@pytest.mark.parametrize(
    "one",
    [
        pa.array(ONE),
        pa.array(ONE, pa.large_string()),
        pa.array(ONE).dictionary_encode(),
        pa.chunked_array([pa.array(ONE[:2]).dictionary_encode(), pa.array(ONE[2:]).dictionary_encode()]),
        pa.DictionaryArray.from_arrays(pa.array([2, None, 1, 2, 0], pa.int8()), pa.array(["陶", "", "x"])),
        repeated_dictionary(),
    ],
)
def test_numbers_stand_for_texts_one_to_one(one, monkeypatch):
    assert numbered({"one": one}) == [(text,) for text in ONE]
    assert numbered({"one": one, "other": pa.array(OTHER)}) == list(zip(ONE, OTHER, strict=True))
    monkeypatch.setattr(arrange, "WIDEST", 10)
    whole = {"one": one, "other": pa.array(OTHER), "third": one}
    assert numbered(whole) == list(zip(ONE, OTHER, ONE, strict=True))


def test_a_value_that_a_dictionary_holds_twice_is_one_group():
    """Two numbers for one text would count a unit twice in its group."""
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["x", "x"]))
    whole, _ = arranged(table([1, 1, 2], [1, 2, 1], one=one), Layout(clustered=True, groups=("one",), firsts=5))
    assert whole.column(FIRST_COLUMN).to_pylist() == [True, False, True]


def test_no_rows_have_no_numbers():
    assert numbered({"one": pa.array([], pa.string())}) == []
    assert numbered({"one": pa.array([], pa.string()).dictionary_encode()}) == []


def test_the_last_number_of_many_columns_is_read_back():
    groups = Groups([["a", "b"], ["c"], ["d", "e"]], [None, None, None])
    assert [groups.key(number) for number in (0, 17)] == [("a", "c", "d"), (None, None, None)]


def test_tables_are_put_together_while_they_are_few_and_alike():
    small = table([1], [1], one=pa.array(["x"]))
    other = table([2], [1], one=pa.array(["x"]).dictionary_encode())
    found = list(batches(iter([small, small, small, other, other]), 2))
    assert [len(each) for each in found] == [2, 1, 2]
    assert list(batches(iter([]), 2)) == []


@pytest.mark.parametrize("few", [1, 2, 5, 5000])
def test_marked_rows_are_the_first_of_each_unit_among_those_that_pass_in_any_order(few):
    draw = np.random.default_rng(few)
    counts = draw.integers(1, 9, 40)
    units = np.repeat(draw.permutation(40), counts)
    whole = table(units, np.concatenate([np.arange(1, count + 1) for count in counts]))
    places = draw.permutation(len(units))[: len(units) // 2]
    held, expected = {}, []
    for place, unit in enumerate(units):
        passes = place in places
        held[unit] = held.get(unit, 0) + passes
        expected.append(bool(passes and held[unit] <= few))
    assert with_kept(whole, places, few).column(KEPT_COLUMN).to_pylist() == expected


def test_no_row_that_passes_marks_none():
    assert with_kept(table([1], [1]), np.zeros(0, np.int64), 3).column(KEPT_COLUMN).to_pylist() == [False]
    assert with_kept(table([], []), np.zeros(0, np.int64), 3).column(KEPT_COLUMN).to_pylist() == []


@pytest.mark.parametrize(
    "asked",
    [
        {"few": 3},
        {"few": 3, "clustered": True},
        {"filter": "x > 0"},
        {"few": 3, "filter": "x > 0"},
        {"firsts": 2, "clustered": True},
    ],
)
def test_a_layout_without_what_its_marks_rest_on_is_refused(asked):
    record = {**PLAIN.to_record(), **asked}
    with pytest.raises(CanonicalError, match="a layout is malformed"):
        Layout.parse(record)


def test_a_layout_with_another_field_is_refused():
    with pytest.raises(CanonicalError, match="a layout is malformed"):
        Layout.parse({**PLAIN.to_record(), "more": 1})
    layout = Layout(clustered=True, few=3, filter="x > 0")
    assert Layout.parse(layout.to_record()) == layout


def test_runs_whose_dictionaries_hold_null_are_numbered_too():
    runs = [pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([name, None])) for name in ("a", "b")]
    one = pa.chunked_array(runs)
    whole, groups = arranged(table([1, 2, 3, 4], [1, 1, 1, 1], one=one), Layout(groups=("one",)))
    assert [groups.key(number) for number in whole.column(GROUP_COLUMN).to_pylist()] == [
        ("a",),
        (None,),
        ("b",),
        (None,),
    ]
