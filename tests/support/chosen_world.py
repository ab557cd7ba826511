"""Visits of which one quantile is chosen by report-noisy-max."""

from __future__ import annotations

from fractions import Fraction

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from tests.support import privacy_world as world

ENGINE = open_engine(1)
RHO = PrivacyLoss(Fraction(1, 2))
SQL = "SELECT district, MEDIAN(age) AS m FROM visits WHERE age >= 5 GROUP BY district"
SETTING = " SETTINGS quantile = 'noisy_max'"
UNITS = {
    u: [{"age": (37 * u + v) % 100, "district": world.DISTRICTS[u % 2], "cost": 100 * u} for v in range(3)]
    for u in range(600)
}
TABLE = world.table(world.visits(UNITS))


def measured(sql=SQL + SETTING, noise=None, loss=RHO, table=TABLE, rows=4):
    """Return a plan and what it measures, without noise unless a source is given."""
    plan = world.plan(sql, world.describe(rows=rows, groups=2), loss=loss)
    return plan, measure(plan, run_plan(plan, [table], engine=ENGINE), world.NoNoise() if noise is None else noise)
