"""P08's delivery: flags what differs, and does not accuse for noise that we added."""

import math
import random

import pytest

from products.p08_service_quality.delivery import funnel, funnel_picture
from sandbox.errors import InputError
from sandbox.model.job import CellKind
from sandbox.model.loss import NO_LOSS
from sandbox.model.question import Answer, AnswerColumn, ColumnRole


def answer(rows: list[tuple[str, float, float]], noise: float) -> Answer:
    columns = (
        AnswerColumn("group", ColumnRole.KEY, CellKind.TEXT, "Group", "组"),
        AnswerColumn("cases", ColumnRole.VALUE, CellKind.INTEGER, "Cases", "病例"),
        AnswerColumn("events", ColumnRole.VALUE, CellKind.INTEGER, "Events", "事件"),
    )
    errors = tuple((None, noise, noise) for _ in rows)
    return Answer(columns, tuple(rows), errors, errors, errors, NO_LOSS)


def flags(rows: list[tuple[str, float, float]], noise: float) -> set[str]:
    return {p.group for p in funnel(answer(rows, noise), group="group", cases="cases", events="events") if p.flagged}


ORDINARY = [(f"g{i}", 1000.0, 100.0) for i in range(10)]


def test_a_group_with_twice_the_rate_stands_out() -> None:
    assert flags([*ORDINARY, ("high", 1000.0, 200.0)], noise=5) == {"high"}


def test_a_small_group_is_not_accused_for_the_noise() -> None:
    rows = [*ORDINARY, ("small", 60.0, 16.0)]
    assert flags(rows, noise=0.01) == {"small"}
    assert flags(rows, noise=20) == set()


def test_limits_widen_with_the_noise_and_narrow_with_the_size() -> None:
    quiet, loud = (
        {
            p.group: p.limit_high - p.limit_low
            for p in funnel(
                answer([("a", 100, 10), ("b", 10_000, 1000)], noise), group="group", cases="cases", events="events"
            )
        }
        for noise in (0.1, 20)
    )
    assert loud["a"] > quiet["a"]
    assert quiet["a"] > quiet["b"]


def test_false_alarms_stay_near_five_percent_when_nothing_differs() -> None:
    draw = random.Random(20261123)
    alarms = 0
    for _ in range(300):
        rows = []
        for index in range(20):
            events = sum(draw.random() < 0.1 for _ in range(200))
            rows.append((f"g{index}", 200 + draw.gauss(0, 15), events + draw.gauss(0, 15)))
        alarms += bool(flags(rows, noise=15))
    # Binomial(300, 0.05) is above 33 with probability below 1e-5; the normal tail of a ratio costs a little.
    assert alarms <= 33


def test_groups_without_a_positive_count_are_left_out() -> None:
    points = funnel(answer([("a", 100, 10), ("gone", -3, 2)], 5), group="group", cases="cases", events="events")
    assert [p.group for p in points] == ["a"]
    assert funnel(answer([], 5), group="group", cases="cases", events="events") == ()


def test_a_wrong_column_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="not the columns of a funnel"):
        funnel(answer(ORDINARY, 5), group="group", cases="cases", events="missing")


def test_the_picture_is_a_png() -> None:
    points = funnel(answer([*ORDINARY, ("high", 1000.0, 200.0)], 5), group="group", cases="cases", events="events")
    assert funnel_picture(points, title="Readmission").startswith(b"\x89PNG")
    assert not math.isnan(points[0].rate)
