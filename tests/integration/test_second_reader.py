"""The pages are enough: a reader written from them alone opens a real state directory, in both suites."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from sandbox.model.keys import Role
from tests.conftest import PASSPHRASE, World, build_world
from tests.support import second_reader
from tests.support.line_world import ROOT
from tests.support.second_reader import SecondReader, read_column

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["gm", "intl"])
def sealed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sandbox.crypto.keyfile._COST_N", 2**14)
        return build_world(tmp_path_factory.mktemp("sealed"), request.param)


def manifests(reader: SecondReader, world: World) -> list[dict]:
    public = json.loads((world.state / "keys" / "sandbox.key").read_bytes())["public"]
    return [reader.manifest(path, public) for path in (world.state / "vault" / "blobs" / "manifests").iterdir()]


def test_it_imports_nothing_of_the_house() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, tests.support.second_reader as r; print(sorted(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "'pyarrow'" in told
    assert "'sandbox" not in told
    assert Path(second_reader.__file__).read_text(encoding="utf-8").count("import ") > 10


def test_the_pages_lead_from_the_passphrase_to_every_row(sealed: World) -> None:
    reader = SecondReader(sealed.state / "vault", PASSPHRASE)
    (record,) = manifests(reader, sealed)
    tables = reader.snapshot(record)
    assert [name for name, _ in ((c["name"], c["type"]) for c in record["columns"])][:2] == ["_unit", "_rank"]
    with sealed.engine() as engine:
        (held,) = engine.state().datasets.values()
        names = [column["name"] for column in record["columns"]][2:]
        with engine.vault.open_snapshot(held.snapshot, names, engine.trusted(Role.SANDBOX)) as opened:
            own = list(opened.partitions())
    order = own[0].column_names
    assert [table.select(order).to_pylist() for table in tables] == [table.to_pylist() for table in own]
    assert sum(table.num_rows for table in tables) > 1000


def test_a_units_rows_lie_together_with_ranks_from_one_and_in_one_partition(sealed: World) -> None:
    reader = SecondReader(sealed.state / "vault", PASSPHRASE)
    (record,) = manifests(reader, sealed)
    seen: set[int] = set()
    for table in reader.snapshot(record):
        units, ranks = table["_unit"].to_pylist(), table["_rank"].to_pylist()
        runs = [unit for place, unit in enumerate(units) if place == 0 or units[place - 1] != unit]
        assert len(runs) == len(set(runs))
        assert not seen & set(runs)
        seen |= set(runs)
        assert all(
            rank == 1 if place == 0 or units[place - 1] != units[place] else rank == ranks[place - 1] + 1
            for place, rank in enumerate(ranks)
        )


def test_another_place_or_key_opens_nothing(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is no yes-man: the column of another partition, or under another key, is refused by its commitment."""
    reader = SecondReader(sealed.state / "vault", PASSPHRASE)
    (record,) = manifests(reader, sealed)
    calls: list[tuple] = []
    monkeypatch.setattr(second_reader, "read_column", lambda *given: calls.append(given) or read_column(*given))
    reader.snapshot(record)
    suite, key, _, each, raw, rows, lengths = calls[0]
    with pytest.raises(AssertionError):
        read_column(suite, bytes(len(key)), record, each, raw, rows, lengths)
    with pytest.raises(AssertionError):
        read_column(suite, key, record, {**each, "partition": each["partition"] + 1}, raw, rows, lengths)
    with pytest.raises(InvalidTag):
        read_column(suite, key, record, each, raw[:-1] + bytes([raw[-1] ^ 1]), rows, lengths)
