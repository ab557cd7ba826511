"""Numbering texts of one short length: the number is right, or the text is left to the slower way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.vault import short_texts
from sandbox.vault.lanes import TextLane
from sandbox.vault.short_texts import table_of

ASCII = st.characters(min_codepoint=0, max_codepoint=127)


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Return some distinct texts of one length, and others of the same length to look up."""
    length = draw(st.integers(1, 16))
    text = st.text(ASCII, min_size=length, max_size=length)
    known = draw(st.lists(text, min_size=1, max_size=40, unique=True))
    return known, draw(st.lists(st.one_of(text, st.sampled_from(known)), min_size=1, max_size=60))


@given(texts(), st.integers(0, 5), st.sampled_from([1, 3, 16]))
def test_a_code_that_holds_is_the_place_of_the_text(drawn: tuple[list[str], list[str]], skip: int, bits: int) -> None:
    known, looked_up = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short_texts, "_SLOT_BITS", bits)  # few slots: most texts fall on others
        table = table_of(pa.array(known))
        assert table is not None
        values = pa.array([known[0]] * skip + looked_up).slice(skip)
        found = table.codes(values)
    assert found is not None
    codes, holds = found
    expected = pc.index_in(values, value_set=pa.array(known)).fill_null(-1).to_numpy() + 1
    assert (codes[holds] == expected[holds]).all()
    assert holds[0] == bool(expected[0]) or bits < 16
    if bits == 16 and len(known) == 1:
        assert (holds == (expected > 0)).all()


@pytest.mark.parametrize(
    "values",
    [[], ["ab", None], ["ab", "abc"], ["abc", "a"], [""], ["a" * 17], ["区", "ab"]],
    ids=["none", "missing", "longer", "of the length in sum", "empty", "long", "bytes and not letters"],
)
def test_texts_of_other_lengths_are_left_to_the_slower_way(values: list[str | None]) -> None:
    array = pa.array(values, pa.string())
    assert table_of(array) is None
    table = table_of(pa.array(["ab", "cd"]))
    assert table is not None
    assert table.codes(array) is None


def test_a_lane_gives_the_same_codes_on_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    batches = [
        pa.array([f"{number:04d}" for number in draw.integers(0, 10 * step + 1, 1000)]) for step in (1, 2, 300)
    ] + [pa.array(["0001", None, "00001", "x", "0002"])]
    lanes = []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr("sandbox.vault.lanes.table_of", lambda _: None)
        lane, found = TextLane(), []
        for batch in batches:
            codes = lane.narrow(batch)
            assert codes is not None
            found.append(lane.widen(codes.astype(lane.code_type)).cast(pa.string()).to_pylist())
        lanes.append(found)
    assert lanes[0] == lanes[1] == [batch.to_pylist() for batch in batches]
