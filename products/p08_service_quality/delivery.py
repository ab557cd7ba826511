"""The funnel: each group's rate against limits that are wide enough for its size *and* for the privacy noise.

Limits that ignore the noise turn it into an accusation: a small group would be flagged for what we added ourselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.errors import InputError
from sandbox.model.question import Answer

FALSE_DISCOVERY = 0.05
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class FunnelPoint:
    """One group in the funnel.

    Attributes:
        group: its name.
        cases: its noisy number of cases.
        rate: its noisy rate.
        limit_low, limit_high: 95 % limits around the overall rate, widened by the noise of both counts.
        flagged: whether it stands out, at a false discovery rate of 5 % over all groups.
    """

    group: str
    cases: float
    rate: float
    limit_low: float
    limit_high: float
    flagged: bool


def funnel(answer: Answer, *, group: str, cases: str, events: str) -> tuple[FunnelPoint, ...]:
    """Return the funnel of a released answer, the largest group first; groups without a positive count are left out.

    A rate's variance is p(1-p)/n for chance plus (v_events + p^2 v_cases)/n^2 for the noise, by the delta method, with
    the overall rate for p.  Flags are by Benjamini and Hochberg (1995) over the two-sided normal p-values.

    Args:
        answer: a release's answer; post-processing costs nothing.
        group: the key column.
        cases: the column of the denominators.
        events: the column of the numerators.
    """
    names = [column.name for column in answer.columns]
    try:
        key, n, k = names.index(group), names.index(cases), names.index(events)
    except ValueError as error:
        raise InputError("the answer has not the columns of a funnel", hint=f"its columns are {names}") from error
    rows = [i for i, row in enumerate(answer.rows) if _number(row[n]) > 0 and row[k] is not None]
    total = sum(_number(answer.rows[i][n]) for i in rows)
    if not rows or total <= 0:
        return ()
    overall = min(1.0, max(0.0, sum(_number(answer.rows[i][k]) for i in rows) / total))
    spreads = {i: _spread(answer, i, n, k, overall) for i in rows}
    rates = {i: _number(answer.rows[i][k]) / _number(answer.rows[i][n]) for i in rows}
    flagged = _discoveries([math.erfc(abs(rates[i] - overall) / spreads[i] / math.sqrt(2)) for i in rows])
    points = (
        FunnelPoint(
            str(answer.rows[i][key]),
            _number(answer.rows[i][n]),
            rates[i],
            max(0.0, overall - _Z95 * spreads[i]),
            min(1.0, overall + _Z95 * spreads[i]),
            flag,
        )
        for i, flag in zip(rows, flagged, strict=True)
    )
    return tuple(sorted(points, key=lambda point: -point.cases))


def funnel_picture(points: Sequence[FunnelPoint], *, title: str) -> bytes:
    """Return a PNG of the funnel: rates over group sizes, limits shaded, flagged groups named."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    shown = sorted(points, key=lambda point: point.cases)
    sizes = [point.cases for point in shown]
    axes.fill_between(
        sizes,
        [p.limit_low for p in shown],
        [p.limit_high for p in shown],
        color="#dfe9ee",
        label="95 % limits with noise",
    )
    for flag, colour, label in ((False, "#2c5f7c", "within"), (True, "#8c2d19", "stands out")):
        chosen = [point for point in shown if point.flagged is flag]
        axes.scatter([p.cases for p in chosen], [p.rate for p in chosen], color=colour, s=22, label=label, zorder=3)
    for point in shown:
        if point.flagged:
            axes.annotate(point.group, (point.cases, point.rate), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("cases in the group")
    axes.set_ylabel("rate")
    axes.set_title(title, loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    return picture.getvalue()


def _spread(answer: Answer, row: int, cases: int, events: int, overall: float) -> float:
    n = _number(answer.rows[row][cases])
    noise = (
        _number(answer.standard_errors[row][events]) ** 2 + (overall * _number(answer.standard_errors[row][cases])) ** 2
    )
    return max(1e-12, math.sqrt(max(0.0, overall * (1 - overall)) / n + noise / n**2))


def _discoveries(p_values: Sequence[float]) -> list[bool]:
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    last = max(
        (rank for rank, i in enumerate(order, 1) if p_values[i] <= FALSE_DISCOVERY * rank / len(order)), default=0
    )
    chosen = set(order[:last])
    return [i in chosen for i in range(len(p_values))]


def _number(value: float | str | None) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
