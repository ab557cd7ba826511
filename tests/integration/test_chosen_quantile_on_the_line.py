"""A quantile by report-noisy-max, from a quote and a signed job to an auditor's replay of the bundle."""

import pytest

from sandbox.errors import QueryError
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.specify import specify
from sandbox.model.keys import Role
from sandbox.model.load_job import load_job
from tests.conftest import SQL_JOB
from tests.support.line_world import replayed

CHOSEN = "SELECT district, MEDIAN(cost) AS m FROM visits GROUP BY district SETTINGS quantile = 'noisy_max'"


def quoted(world):
    with world.records() as records:
        spec = specify(records, load_job(SQL_JOB, "job.yaml"), CHOSEN)
        return quote_job(records, spec, CHOSEN, operator=next(k.key_id for k in records.trusted(Role.OPERATOR)))


def test_a_median_is_quoted_chosen_and_an_auditor_replays_the_choice(world):
    quote = quoted(world)
    assert quote.allowed
    (statistic,) = quote.question.statistics
    assert statistic.mechanism == "report-noisy-max beside a noisy tree"
    released = world.run(SQL_JOB, CHOSEN)
    answer = released.release.outputs["answer"]
    said = [note for note in answer["notes"] if "chosen by report-noisy-max among" in note]
    assert said == [note for note in quote.question.notes if "chosen by report-noisy-max among" in note] != []
    for low, row, high in zip(answer["lower"], answer["rows"], answer["upper"], strict=True):
        assert row[1] is None or low[1] <= row[1] <= high[1]
    assert any(row[1] is not None for row in answer["rows"])
    assert any("exact integers plus noise that fits" in verdict for verdict in replayed(world))


def test_another_shape_is_refused_before_anything_is_spent(world):
    with pytest.raises(QueryError, match="chooses one quantile, by itself") as raised:
        world.run(SQL_JOB, CHOSEN.replace("AS m", "AS m, COUNT(*) AS n"))
    assert raised.value.code == "input.query.quantile"
