"""A partition as a plan asks: in order, a unit's first rows alone, groups numbered one to one; and nothing else."""

import numpy as np
import pyarrow as pa
import pytest

from sandbox.compute import arrange
from sandbox.compute.arrange import Groups, batches, clustered, few_rows, first_rows, is_clustered, numbered
from sandbox.errors import CanonicalError
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, PLAIN, Bins, Layout
from sandbox.privacy.tallies import Count, Factor, Sum


def table(units, ranks, **texts):
    columns = {"_unit": pa.array(units, pa.int64()), "_rank": pa.array(ranks, pa.int32())}
    return pa.table(columns | texts)


def plainly(units, groups):
    """First rows, one at a time."""
    seen, marks = set(), []
    for pair in zip(units, groups, strict=True):
        marks.append(pair not in seen)
        seen.add(pair)
    return marks


@pytest.mark.parametrize(("rows", "kinds"), [(5, 3), (60, 2), (60, 50), (1, 1), (300, 9)])
@pytest.mark.parametrize("slice_rows", [1, 7, 64, 1 << 17])
def test_first_rows_are_those_that_one_finds_one_at_a_time(rows, kinds, slice_rows, monkeypatch):
    monkeypatch.setattr(arrange, "_SLICE", slice_rows)
    draw = np.random.default_rng([rows, kinds])
    counts = draw.integers(1, rows + 1, 30)
    units = np.repeat(draw.permutation(30) * 7 - 3, counts)
    positions = np.concatenate([np.arange(1, count + 1) for count in counts]).astype(np.int32)
    groups = draw.integers(0, kinds, len(units)).astype(np.int32)
    assert first_rows(positions, groups).tolist() == plainly(units.tolist(), groups.tolist())


def test_first_rows_of_wide_numbers_do_not_meet(monkeypatch):
    """Numbers of pairs would not fit: groups get smaller ones first."""
    monkeypatch.setattr(arrange, "WIDEST", 2**33)
    monkeypatch.setattr(arrange, "MOST_STEPS", 0)
    groups = np.array([2**40, 2**40, 2**40, 0])
    assert first_rows(np.array([1, 2, 1, 2], np.int32), groups).tolist() == [True, False, True, True]


def test_no_rows_have_no_first_row():
    assert first_rows(np.zeros(0, np.int32), np.zeros(0, np.int32)).tolist() == []
    assert is_clustered(table([], []))


@pytest.mark.parametrize(
    ("units", "ranks", "expected"),
    [
        ([1, 1, 2], [1, 2, 1], True),
        ([1, 2, 1], [1, 1, 2], False),
        ([1, 1, 2], [2, 1, 1], False),
        ([1, 1], [1, 3], False),
        ([1], [2], False),
        ([2, 1, 1], [1, 1, 2], True),
        ([0, 0], [1, 2], True),
        ([0], [1], True),
        ([1, 1, 1], [1, 2, 2], False),
        ([1, 2], [1, 2], False),
    ],
)
@pytest.mark.parametrize("slice_rows", [1, 2, 1 << 17])
def test_only_runs_of_ascending_ranks_are_clustered(units, ranks, expected, slice_rows, monkeypatch):
    monkeypatch.setattr(arrange, "_SLICE", slice_rows)
    whole = table(units, ranks)
    assert is_clustered(whole) is expected
    assert is_clustered(pa.concat_tables([whole.slice(place, 1) for place in range(len(whole))])) is expected


def test_a_partition_in_another_order_is_sorted():
    found = clustered(table([1, 2, 1, 2], [2, 2, 1, 1]))
    assert clustered(found) is found
    assert found.column("_unit").to_pylist() == [1, 1, 2, 2]
    assert found.column("_rank").to_pylist() == [1, 2, 1, 2]


def keys_of(whole, layout):
    found, groups = numbered(whole, layout)
    return groups.keys(found.column(GROUP_COLUMN).to_pylist())


def keys_of_texts(columns):
    rows = len(next(iter(columns.values())))
    return keys_of(table(range(rows), [1] * rows, **columns), Layout(groups=tuple(columns)))


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
    assert keys_of_texts({"one": one}) == [(text,) for text in ONE]
    assert keys_of_texts({"one": one, "other": pa.array(OTHER)}) == list(zip(ONE, OTHER, strict=True))
    monkeypatch.setattr(arrange, "WIDEST", 10)
    whole = {"one": one, "other": pa.array(OTHER), "third": one}
    assert keys_of_texts(whole) == list(zip(ONE, OTHER, ONE, strict=True))


def test_a_value_that_a_dictionary_holds_twice_is_one_group():
    """Two numbers for one text would count a unit twice in its group."""
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["x", "x"]))
    whole, _ = numbered(table([1, 1, 2], [1, 2, 1], one=one), Layout(groups=("one",), few=5, firsts=True))
    assert whole.column(FIRST_COLUMN).to_pylist() == [1, 0, 1]


def test_no_rows_have_no_numbers():
    assert keys_of_texts({"one": pa.array([], pa.string())}) == []
    assert keys_of_texts({"one": pa.array([], pa.string()).dictionary_encode()}) == []


def test_the_last_number_of_many_columns_is_read_back():
    groups = Groups([["a", "b"], ["c"], ["d", "e"]], [None, None, None])
    assert groups.keys([0, 17]) == [("a", "c", "d"), (None, None, None)]
    assert groups.keys([]) == []


def test_tables_are_put_together_while_they_are_few_and_alike():
    small = table([1], [1], one=pa.array(["x"]))
    other = table([2], [1], one=pa.array(["x"]).dictionary_encode())
    found = list(batches(iter([small, small, small, other, other]), 2))
    assert [len(each) for each in found] == [2, 1, 2]
    assert list(batches(iter([]), 2)) == []


def in_chunks(whole, size):
    return pa.concat_tables([whole.slice(start, size) for start in range(0, len(whole), size)])


@pytest.mark.parametrize("few", [1, 2, 5, 5000])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("filtered", [False, True])
def test_few_rows_are_the_first_of_each_unit_that_pass_in_any_order(few, size, filtered):
    draw = np.random.default_rng([few, size])
    counts = draw.integers(1, 9, 40)
    units = np.repeat(draw.permutation(40), counts)
    texts = draw.integers(0, 3, len(units)).astype(str)
    ranks = np.concatenate([np.arange(1, count + 1) for count in counts])
    whole = in_chunks(table(units, ranks, one=pa.array(texts), age=pa.array(np.arange(len(units)))), size)
    places = draw.permutation(len(units))[: len(units) // 2] if filtered else None
    held, expected = {}, []
    for place, unit in enumerate(units.tolist()):
        passes = places is None or place in places
        held[unit] = held.get(unit, 0) + passes
        expected += [place] if passes and held[unit] <= few else []
    layout = Layout(("one",), None, few, "x > 0" if filtered else "", firsts=True, carried=("age",))
    found = few_rows(whole, layout, places)
    assert found.column("age").to_pylist() == expected
    shown, groups = numbered(found, layout)
    assert shown.column_names == ["age", GROUP_COLUMN, FIRST_COLUMN]
    assert groups.keys(shown.column(GROUP_COLUMN).to_pylist()) == [(text,) for text in texts[expected]]
    marks = plainly(units[expected].tolist(), texts[expected].tolist())
    assert shown.column(FIRST_COLUMN).to_pylist() == [int(mark) for mark in marks]


@pytest.mark.parametrize("filtered", [False, True])
def test_no_rows_have_no_few(filtered):
    layout = Layout((), None, 3, "x > 0" if filtered else "", carried=("_unit",))
    places = np.zeros(0, np.int64) if filtered else None
    assert few_rows(table([], []), layout, places).column_names == ["_unit"]
    assert len(few_rows(table([1, 1], [7, 8]), layout, places)) == 0


@pytest.mark.parametrize(
    ("lower", "upper", "width"), [(0, 99, 7), (-5, 5, 1), (-(2**61), 2**61, 2**58), (10, 10, 1), (0, 2**40, 2**33)]
)
def test_bins_hold_what_is_clamped_and_leave_out_null(lower, upper, width):
    ages = [None, -(2**63), -6, -5, -1, 0, 3, 6, 7, 98, 99, 100, 2**35, 2**60, None, 2**63 - 1]
    column = pa.chunked_array([pa.array(ages[:5], pa.int64()), pa.array(ages[5:], pa.int64())])
    whole = pa.table({"_unit": range(16), "_rank": pa.array([1] * 16, pa.int32()), "age": column})
    texts = ["x" if place % 3 else None for place in range(16)]
    layout = Layout(("one",), Bins("age", lower, upper, width), few=1)
    expected = [
        (text, f"0:{(min(max(age, lower), upper) - lower) // width}")
        for text, age in zip(texts, ages, strict=True)
        if age is not None
    ]
    assert keys_of(few_rows(whole.append_column("one", pa.array(texts)), layout), layout) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"few": 3},
        {"few": -1, "carried": ["x"]},
        {"few": 3, "filter": "x > 0"},
        {"filter": "x > 0"},
        {"filter": "x > 0", "carried": ["x"]},
        {"carried": ["x"]},
        {"firsts": True, "groups": ["x"]},
        {"firsts": True, "few": 3, "carried": ["x"]},
        {"bins": {"column": "x", "lower": "0", "upper": "9", "width": "1"}},
        {"few": 1, "bins": {"column": "x", "lower": "0", "upper": "9", "width": "0"}},
        {"few": 1, "bins": {"column": "x", "lower": "5", "upper": "4", "width": "1"}},
        {"few": 1, "bins": {"column": "x", "lower": "0", "upper": str(2**62), "width": "1"}},
        {"few": 1, "bins": {"column": "x", "lower": "0", "upper": "9"}},
        {"groups": ["x"], "tallies": [Count("rows").to_record()]},
        {"few": 1, "carried": ["x"], "tallies": [Count("rows").to_record()]},
        {"few": 1, "groups": ["x"], "tallies": [Count("rows", ("y",)).to_record()]},
        {"few": 1, "groups": ["x"], "tallies": [Count("units").to_record()]},
        {"few": 1, "groups": ["x"], "tallies": [{"of": "sums", "present": []}]},
        {"few": 1, "groups": ["x"], "tallies": [Sum((Factor("y", 0, 9, 1, 0),), 0, 9, 0).to_record()]},
    ],
)
def test_a_layout_without_what_it_rests_on_is_refused(asked):
    record = {**PLAIN.to_record(), **asked}
    with pytest.raises(CanonicalError, match="a layout is malformed"):
        Layout.parse(record)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(("a", "b")),
        Layout((), None, 3, "x > 0", carried=("_unit",)),
        Layout(("a",), Bins("x", -(2**60), 9, 2**40), 4, "y", firsts=True),
        Layout(("a",), None, 4, "y", firsts=True, tallies=(Count("units"), Count("rows"))),
        Layout(("a",), None, 4, "y", carried=("x",), tallies=(Sum((Factor("x", 0, 9, 2, 1),), 0, 9, 4),)),
    ],
)
def test_a_layout_comes_back_and_another_field_is_refused(layout):
    assert Layout.parse(layout.to_record()) == layout
    with pytest.raises(CanonicalError, match="a layout is malformed"):
        Layout.parse({**PLAIN.to_record(), "more": 1})


def test_runs_whose_dictionaries_hold_null_are_numbered_too():
    runs = [pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([name, None])) for name in ("a", "b")]
    one = pa.chunked_array(runs)
    assert keys_of(table([1, 2, 3, 4], [1, 1, 1, 1], one=one), Layout(groups=("one",))) == [
        ("a",),
        (None,),
        ("b",),
        (None,),
    ]
