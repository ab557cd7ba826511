"""What the tests of this room share: a ledger with a city in it, and the states of one job's line."""

from __future__ import annotations

import pytest

from tests.support import ledger_world as city


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch):
    """Temporary directories may be in memory on some machines; what is tested here is not that."""
    monkeypatch.setattr("sandbox.ledger.store.read_mounts", lambda: "/dev/sda / ext4 rw 0 0\n")


@pytest.fixture
def ledger(tmp_path):
    """A ledger in `tmp_path / "state"` with everything that comes before jobs."""
    with city.create(tmp_path / "state") as made:
        city.found(made)
        yield made


@pytest.fixture(scope="session")
def founded():
    """The state before any job."""
    return city.after(city.founding())


@pytest.fixture(scope="session")
def stages(founded):
    """The state after each step of the line of `job 1`, by the kind of the step."""
    states, state = {}, founded
    for kind, body in city.line_of(city.digest("job 1")):
        state = city.after([(kind, body)], state)
        states[kind] = state
    return states
