"""Attack: weigh the sealed part of a transcript.  A bundle is handed to people who may not open it, but can see its size."""

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.transcript import padded_secret, parse_secret
from sandbox.privacy.blocks_measure import measure_blocks
from sandbox.privacy.measure import measure
from tests.support import blocks_world
from tests.support import privacy_world as world

ENGINE = open_engine(1)
CROWD = {unit: [{"age": 20, "diag": "D1"}] * 2 for unit in range(12)}
TARGET = {**CROWD, 99: [{"age": 37, "diag": "D2", "cost": 100_000}] * 4}
BIG = "CASE WHEN age = 37 AND diag = 'D2' THEN 999999999999 ELSE 1 END"


class Drawn(world.NoNoise):
    """Noise of another length at each draw."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return [value + (-7) ** (place % 9) for place, value in enumerate(values)]


def secret(plan, units, noise):
    partials = run_plan(plan, [world.table(world.visits(units))], engine=ENGINE)
    return {"v": 1, "job": "sha256:0", "questions": [measure(plan, partials, noise).sealed]}


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT SUM({BIG}) AS s FROM visits",
        f"SELECT district, AVG({BIG}) AS s, STDDEV({BIG} / 1000000) AS d FROM visits GROUP BY district",
        f"SELECT MEDIAN({BIG}) AS m, COUNT(DISTINCT age) AS n FROM visits",
        f"SELECT MEDIAN({BIG}) AS m FROM visits SETTINGS quantile = 'noisy_max'",
        f"SELECT SUM(LEAST({BIG}, 99999999)) AS s FROM visits SETTINGS bounding = 'rescale'",
    ],
)
def test_the_sealed_part_is_as_long_with_somebody_as_without(sql):
    plan = world.plan(sql)
    secrets = [secret(plan, units, noise) for units in (CROWD, TARGET) for noise in (world.NoNoise(), Drawn())]
    assert len({len(padded_secret(one)) for one in secrets}) == 1
    assert len({len(canonical_bytes(one)) for one in secrets}) > 1, "without padding the sizes would tell"
    assert [parse_secret(padded_secret(one)) for one in secrets] == secrets


def test_the_sealed_part_over_blocks_is_as_long_whatever_the_blocks_gave():
    plan = blocks_world.plan(outputs=(blocks_world.output(upper=1024),))
    sealed = [
        measure_blocks(plan, [vector] * 8, Drawn(), split="00" * 32).sealed for vector in ((0.0,), (1024.0,), None)
    ]
    assert len({len(padded_secret({"questions": [one]})) for one in sealed}) == 1


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: raw + b" ", lambda raw: raw.rstrip(), lambda _: b"[]"]
)
def test_a_sealed_part_with_other_padding_is_refused(change):
    with pytest.raises(CanonicalError):
        parse_secret(change(padded_secret({"v": 1, "exact": ["1", "-22"]})))
