"""A program that fits a model to released answers, through the whole line, and what an auditor needs to run it again."""

import pytest

from sandbox.errors import ReplayMismatchError
from sandbox.jobs.export import export_bundle
from sandbox.jobs.replay import replay_bundle
from sandbox.model.entry import EntryKind
from sandbox.model.transcript import Transcript
from sandbox.runtime.host.libraries import Libraries
from sandbox.service.compose import lazy_guests, unlock_named
from tests.conftest import PASSPHRASE, PYTHON_JOB
from tests.support.line_world import last

pytestmark = pytest.mark.isolation
JOB = PYTHON_JOB[: PYTHON_JOB.index("outputs:")] + "outputs:\n  - {name: slope, kind: number}\n"
PROGRAM = """
from sklearn.linear_model import LinearRegression

def analyze(data):
    t = data.ask("SELECT days, COUNT(*) AS n FROM visits GROUP BY days", share="1").table
    return {"slope": float(LinearRegression().fit(t[["days"]], t["n"]).coef_[0])}
"""


@pytest.fixture
def bundle(world):
    world.run(JOB, PROGRAM)
    with world.engine() as engine:
        return export_bundle(engine, by=unlock_named(world.state, "auditor", PASSPHRASE).public.key_id)


def test_a_model_on_released_answers_is_released_and_replayed(world, bundle):
    with world.records() as records:
        transcript = Transcript.parse(records.documents.get(last(world, EntryKind.JOB_SETTLED)["transcript"]))
    assert {"scikit-learn", "scipy", "statsmodels"} <= transcript.guest.keys()
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    with lazy_guests() as guests:
        verdicts = [finding.verdict for finding in replay_bundle(bundle, level=3, auditor=auditor, guests=guests)]
    assert "the program, run again on the recorded answers, hands over the same bytes" in verdicts


def test_a_replay_without_the_libraries_says_which_are_missing(world, bundle, monkeypatch):
    monkeypatch.setattr("sandbox.runtime.host.guests.libraries_of", lambda *_: Libraries.PLAIN)
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    told = "the program ran with scikit-learn .*, scipy .*, statsmodels .*, which this machine does not have to run it again"
    with lazy_guests() as guests, pytest.raises(ReplayMismatchError, match=told) as caught:
        replay_bundle(bundle, level=3, auditor=auditor, guests=guests)
    assert caught.value.code == "job.replay_mismatch"
