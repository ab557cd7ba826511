"""How far one unit moves the scores of a chosen quantile, tried on random questions and tables with every extreme."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.privacy.chosen_quantile import leaf_scores
from sandbox.privacy.vectors import gather, vector_width
from tests.support import privacy_world as world
from tests.support.privacy_strategies import CONDITIONS, KEYS, tables

ENGINE = open_engine(1)
QUANTILES = st.sampled_from(
    [
        "MEDIAN(age)",
        "QUANTILE_CONT(cost, 0.9)",
        "QUANTILE_CONT(LEAST(cost, 7), 0.999)",
        "PERCENTILE_CONT(0.1) WITHIN GROUP (ORDER BY delta)",
        "MEDIAN(age + cost) FILTER (WHERE urgent)",
        "QUANTILE_CONT(CASE WHEN urgent THEN delta END, 0.3)",
    ]
)


@st.composite
def chosen_quantiles(draw):
    """Return a question with one chosen quantile, mostly in the language."""
    keys = draw(st.lists(KEYS, max_size=2, unique=True))
    sql = f"SELECT {', '.join([*keys, draw(QUANTILES)])} FROM visits"
    if draw(st.booleans()):
        sql += f" WHERE {draw(CONDITIONS)}"
    if keys:
        sql += " GROUP BY " + ", ".join(str(index + 1) for index in range(len(keys)))
    return sql + " SETTINGS quantile = 'noisy_max'"


def scores(plan, rows):
    vectors = gather(plan, run_plan(plan, [world.table(rows)], engine=ENGINE))
    return {key: leaf_scores(vector, plan.leaf_choice.fraction) for key, vector in vectors.items()}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(chosen_quantiles(), tables(), st.integers(1, 4), st.data())
def test_no_unit_moves_the_scores_of_all_groups_together_further_than_its_sensitivity(sql, rows, bound_rows, data):
    groups = data.draw(st.integers(1, bound_rows))
    try:
        plan = world.plan(sql, world.describe(rows=bound_rows, groups=groups))
    except (QueryError, BoundError):
        return
    assert vector_width(plan) == plan.leaf_choice.leaves
    empty = leaf_scores([0] * plan.leaf_choice.leaves, plan.leaf_choice.fraction)
    whole = scores(plan, rows)
    for unit in {row["_unit"] for row in rows}:
        rest = scores(plan, [row for row in rows if row["_unit"] != unit])
        moved = [
            max(abs(a - b) for a, b in zip(whole.get(key, empty), rest.get(key, empty), strict=True))
            for key in set(whole) | set(rest)
        ]
        assert sum(moved) <= plan.leaf_choice.sensitivity
