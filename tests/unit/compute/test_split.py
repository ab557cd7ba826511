"""The split into blocks: whole units, a fixed number, nothing of one block in another."""

import datetime as dt
import math

import numpy as np
import pytest

from sandbox.crypto.scatter import scatter
from sandbox.errors import VaultError
from sandbox.runtime.block_image import BlockJob, ImageColumn, ImageError, decode_image, encode_image
from tests.support import blocks_world as world
from tests.support import privacy_world


def plain(table, number):
    rows, columns = table.block(number)
    return rows, {c.name: c.values if isinstance(c.values, list) else c.values.tolist() for c in columns}


def test_every_row_is_in_one_block_and_all_rows_of_a_unit_in_the_same():
    rows = [row | {"diag": f"U{row['_unit']}"} for row in world.units(300, rows=3)]
    table = world.split(rows, blocks=16)
    homes = {}
    total = 0
    for number in range(table.count):
        count, cells = plain(table, number)
        total += count
        for unit in cells["diag"]:
            assert homes.setdefault(unit, number) == number
        assert sorted(set(cells["unit"])) == list(range(len(set(cells["diag"]))))
    assert total == 900
    assert len(homes) == 300
    assert len(set(homes.values())) == 16


@pytest.mark.parametrize("key", [bytes(32), world.KEY])
def test_one_unit_more_changes_one_block_and_no_byte_of_another(key):
    rows = world.units(200)
    extra = privacy_world.visits({10_000: [{"diag": "extra", "age": 3}] * 7})
    without, with_unit = world.split(rows, key=key), world.split([*rows, *extra], key=key)
    changed = [number for number in range(8) if plain(without, number) != plain(with_unit, number)]
    assert len(changed) == 1
    more, less = plain(with_unit, changed[0])[0], plain(without, changed[0])[0]
    assert more == less + 7


def test_which_block_a_unit_is_in_depends_on_its_token_and_the_key_alone():
    tokens = np.arange(-500, 500)
    assert (scatter(world.KEY, tokens)[::-1] == scatter(world.KEY, tokens[::-1])).all()
    assert (scatter(world.KEY, tokens) != scatter(bytes(32), tokens)).all()
    shares = np.bincount(scatter(world.KEY, np.arange(80_000)) % 8, minlength=8)
    assert abs(shares - 10_000).max() < 700  # more than seven standard deviations


def test_columns_have_the_types_of_the_description_and_not_of_the_rows():
    names = ("age", "cost", "delta", "district", "day", "seen", "urgent")
    row = {"_unit": 1, "_rank": 1, "cost": None, "delta": 4, "urgent": None, "day": dt.date(2020, 5, 1)}
    table = world.split([row], blocks=2, names=names)
    number = next(n for n in range(2) if table.block(n)[0])
    _, columns = table.block(number)
    kinds = {column.name: column.kind for column in columns}
    assert kinds == {"unit": "number", "age": "number", "cost": "number", "delta": "number", "district": "text",
                     "day": "date", "seen": "date", "urgent": "number"}  # fmt: skip
    cells = {column.name: column.values[0] for column in columns}
    assert cells["age"] == 40.0
    assert math.isnan(cells["cost"])
    assert math.isnan(cells["urgent"])
    assert cells["delta"] == 4 / 3
    assert cells["day"] == (dt.date(2020, 5, 1) - dt.date(1970, 1, 1)).days
    assert cells["seen"] == np.iinfo(np.int64).min
    _, empty = table.block(1 - number)
    assert {column.name: column.kind for column in empty} == kinds


def test_no_rows_are_blocks_without_rows():
    assert [world.split([], blocks=3).block(number)[0] for number in range(3)] == [0, 0, 0]


def test_a_unit_whose_rows_do_not_stand_together_is_refused():
    rows = privacy_world.visits({1: [{}], 2: [{}]})
    torn = privacy_world.table([*rows, {**rows[0], "_rank": 2}])
    with pytest.raises(VaultError, match="do not stand together"):
        world.split_blocks([torn], privacy_world.COLUMNS[:1], blocks=2, key=world.KEY)


def test_an_image_holds_its_block_and_nothing_beside_it():
    columns = [
        ImageColumn("x", "number", np.asarray([1.5, math.nan])),
        ImageColumn("d", "date", np.asarray([1, 2])),
        ImageColumn("t", "text", ["ä", None]),
    ]
    job = BlockJob("def block(rows): ...", {"a": [1, "b"]}, ("x", "y"), "00" * 32)
    raw = encode_image(job, 2, columns)
    read, rows, cells = decode_image(raw)
    assert (read, rows) == (job, 2)
    assert [c.name for c in cells] == ["x", "d", "t"]
    assert cells[2].cells == ["ä", None]
    assert cells[0].cells[0] == 1.5
    assert len(raw) < 500


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-8], lambda raw: raw + bytes(8), lambda raw: b"X" + raw[1:], lambda _: b""]
)
def test_an_image_that_was_cut_or_stretched_is_not_read(change):
    raw = encode_image(BlockJob("", {}, ("x",), "00"), 1, [ImageColumn("t", "text", ["ab"])])
    with pytest.raises(ImageError):
        decode_image(change(raw))
