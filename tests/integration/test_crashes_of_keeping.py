"""`kill -9` or a full disk while rows are taken in, an agreement is registered, the log is handed out, a dataset is
destroyed, a key is rotated, a second factor is drawn.

Afterwards the old state or the new one is there: every snapshot in the log that was not destroyed opens, every seal
holds, what lies about is told as garbage and goes, and the act can be done again.
"""

import pytest

from sandbox.model.keys import Role
from tests.conftest import World, copy_world
from tests.integration.test_crashes import Driver
from tests.support.line_world import check_log

pytestmark = pytest.mark.slow

KILLED, REFUSED = -9, 1
MOMENTS = {
    "ingest": [
        *(("append", 1, when) for when in ("before", "inside", "after")),
        *(("blob", n, when) for n, when in ((1, "after"), (2, "inside"), (3, "before"), (9, "inside"), (9, "after"))),
        *(("file", 1, when) for when in ("before", "inside", "after")),
    ],
    "agree": [
        *(("append", 1, when) for when in ("before", "inside", "after")),
        *(("file", n, when) for n in (1, 2) for when in ("before", "inside", "after")),
    ],
    "export": [
        *(("append", 1, when) for when in ("before", "inside", "after")),
        *(("file", n, when) for n, when in ((1, "inside"), (2, "before"), (4, "inside"), (7, "after"))),
    ],
    "destroy": [
        *(("append", 1, when) for when in ("before", "inside", "after")),
        *(("blob", n, when) for n, when in ((1, "before"), (1, "after"), (2, "after"), (5, "inside"), (9, "after"))),
        *(("file", 1, when) for when in ("before", "inside", "after")),
    ],
    "rotate": [("rename", n, when) for n in range(1, 5) for when in ("before", "after")],
    "rotate-dataset": [("rename", n, when) for n in range(1, 6) for when in ("before", "after")],
    "second-factor": [("rename", n, when) for n in range(1, 11) for when in ("before", "after")],
}
# How many writes the act has at least, of which each is the first that finds no room.
WRITES = {"ingest": (1, 2, 3, 5, 9, 12), "agree": (1, 2), "export": (1, 3, 5), "destroy": (1, 2),
          "rotate": (1, 2, 3, 4), "rotate-dataset": (1, 2, 4), "second-factor": (1, 2, 3, 4, 5)}  # fmt: skip


@pytest.fixture(scope="module")
def driver():
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture
def standing(_fired_gm: World, tmp_path):
    return copy_world(_fired_gm, tmp_path / "world")


def check_whole(world: World, act: str, acknowledged: set[str]) -> None:
    """What was acknowledged is there; all that was not destroyed opens; what lies about is garbage, and goes."""
    with world.engine(wait_s=10) as engine:
        trusted, facts = engine.trusted(Role.SANDBOX), engine.state().datasets["clinic"]
        if "agreement.registered" in acknowledged:
            assert "clinic-second" in engine.state().agreements
        if "dataset.sealed" in acknowledged:
            assert len(facts.snapshots) == 2
        if act == "destroy" and "dataset.destroyed" in acknowledged:
            assert facts.certificate_of(facts.snapshot) is not None
        whole = [s for s, _ in facts.snapshots if facts.certificate_of(s) is None]
        report = engine.vault.check(trusted)
        if act == "destroy":
            # Half destroyed counts as gone: it does not open, and the act can be called again.
            assert whole == [] or report.locked or not report.faults
        else:
            assert report.faults == ()
            assert report.locked == ()
            for snapshot in whole:
                with engine.vault.open_snapshot(snapshot, (), trusted, past=True) as opened:
                    assert sum(table.num_rows for table in opened.partitions()) > 0
            engine.vault.collect(trusted)
            assert engine.vault.check(trusted).garbage == ()
        check_log(engine)


def check_again(driver, world: World, act: str) -> None:
    again, told = driver.run(world, act)
    assert (again, told[-1:]) == (0, [{"kept": act}]), told
    with world.engine(wait_s=10) as engine:
        check_log(engine)


@pytest.mark.parametrize("act", MOMENTS)
def test_a_kill_leaves_the_old_or_the_new_state(driver, standing, tmp_path, act):
    killed = 0
    for number, (at, n, when) in enumerate(MOMENTS[act]):
        world = copy_world(standing, tmp_path / str(number) / "world")
        status, said = driver.run(world, act, at=at, n=n, when=when)
        assert status in (KILLED, 0), (at, n, when)
        killed += status == KILLED
        acknowledged = {line["appended"] for line in said if "appended" in line}
        check_whole(world, act, acknowledged)
        done_for_good = {"destroy": "dataset.destroyed", "agree": "agreement.registered"}.get(act) in acknowledged
        if number % 4 == 0 and not done_for_good:
            check_again(driver, world, act)
    assert killed > len(MOMENTS[act]) // 2, "most moments were met"


@pytest.mark.parametrize("act", WRITES)
def test_a_full_disk_leaves_the_old_state_or_the_new_one_and_says_so(driver, standing, tmp_path, act):
    for n in WRITES[act]:
        world = copy_world(standing, tmp_path / str(n) / "world")
        status, said = driver.run(world, act, at="disk", n=n)
        assert status == REFUSED, (n, said)
        refusal = said[-1]
        # The log says in its own words that it could not be written; SQLite does not always tell why.
        assert refusal["refused"] in {"vault.storage.full", "vault.storage.ledger"}, (n, refusal)
        assert refusal["hint"]
        check_whole(world, act, set())
        check_again(driver, world, act)
