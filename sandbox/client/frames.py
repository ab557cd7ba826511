"""Answers as tables and pictures, with their errors."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pandas as pd

from sandbox.model.question import Answer, ColumnRole


def answer_frame(answer: Answer) -> pd.DataFrame:
    """Return the answer as a frame: keys, then each value with `_se`, `_low` and `_high` beside it."""
    columns: dict[str, list[Any]] = {}
    for index, column in enumerate(answer.columns):
        columns[column.name] = [row[index] for row in answer.rows]
        if column.role is ColumnRole.VALUE:
            columns[f"{column.name}_se"] = [row[index] for row in answer.standard_errors]
            columns[f"{column.name}_low"] = [row[index] for row in answer.lower]
            columns[f"{column.name}_high"] = [row[index] for row in answer.upper]
    return pd.DataFrame(columns)


def bar_picture(
    labels: list[str], values: list[float], low: list[float], high: list[float], *, title: str, axis: str
) -> bytes:
    """Return a PNG of horizontal bars with 95 % intervals, largest first.

    Args:
        labels: one a bar.
        values: the bars' lengths.
        low: the lower end of each interval.
        high: the upper end of each interval.
        title: over the picture.
        axis: what a length means, with its measure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(range(len(values)), key=lambda i: values[i])
    figure = Figure(figsize=(9, 0.34 * len(values) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    errors = [
        [max(0.0, values[i] - low[i]) for i in order],
        [max(0.0, high[i] - values[i]) for i in order],
    ]
    axes.barh(
        range(len(order)),
        [values[i] for i in order],
        xerr=errors,
        color="#7fb3c8",
        edgecolor="#2c5f7c",
        error_kw={"ecolor": "#8c2d19", "capsize": 3, "lw": 1.4},
    )
    axes.set_yticks(range(len(order)), [labels[i] for i in order])
    axes.set_xlabel(axis)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    return picture.getvalue()
