"""Answers as frames, with their errors beside them."""

from __future__ import annotations

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
