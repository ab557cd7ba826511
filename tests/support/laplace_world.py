"""Questions with Laplace noise, and their answers over one small table."""

from fractions import Fraction

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

ENGINE = open_engine(1)
SETTING = " SETTINGS noise = 'laplace'"
RHO = Fraction(1, 8)
LOSS = PrivacyLoss(RHO)
COUNT = "SELECT COUNT(*) AS n FROM visits"
BY_DISTRICT = "SELECT district, COUNT(*) AS n, AVG(age) AS m FROM visits GROUP BY district"
UNITS = {
    unit: [{"age": 20 + unit % 60, "cost": 100 * unit, "district": world.DISTRICTS[unit % 3]}] * 2
    for unit in range(300)
}
TABLE = world.table(world.visits(UNITS))


def planned(sql, description=None, loss=LOSS):
    return world.plan(sql + SETTING, description, loss=loss)


def measured(sql=BY_DISTRICT, noise=None):
    plan = planned(sql)
    return plan, measure(plan, run_plan(plan, [TABLE], engine=ENGINE), OpenDpNoise() if noise is None else noise)
