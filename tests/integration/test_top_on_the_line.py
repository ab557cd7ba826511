"""The first groups by report-noisy-max, from a signed job to an auditor's replay of the bundle."""

import pytest

from sandbox.errors import QueryError
from tests.conftest import SQL_JOB
from tests.support.line_world import replayed

TOP = (
    "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district ORDER BY n DESC LIMIT 2 "
    "SETTINGS top = 'noisy_max'"
)


def test_the_first_groups_are_released_and_an_auditor_replays_the_choice(world):
    released = world.run(SQL_JOB, TOP)
    answer = released.release.outputs["answer"]
    # 600 patients, half of whose visits are in the north: it is ahead by more than a hundred at a scale of about 2.
    assert answer["rows"][0][0] == "north"
    assert len(answer["rows"]) == 2
    assert any("report-noisy-max" in note for note in answer["notes"])
    assert any("exact integers plus noise that fits" in verdict for verdict in replayed(world))


def test_another_shape_is_refused_before_anything_is_spent(world):
    with pytest.raises(QueryError, match="chooses the first groups of one count of units") as raised:
        world.run(SQL_JOB, TOP.replace("COUNT(DISTINCT patient)", "COUNT(*)"))
    assert raised.value.code == "input.query.top"
