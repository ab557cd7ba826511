"""Turn what `analyze` returned into plain cells: whole numbers, floats, text, yes or no, nothing."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

_INTEGER_MAX: Final = 2**63 - 1
_OUTPUTS_MAX: Final = 64


class OutputFault(Exception):  # noqa: N818 - a fault of the program
    """What `analyze` returned is not a set of tables and numbers; the text says which part is not."""


def write_outputs(returned: object) -> dict[str, Any]:
    """Return the outputs as JSON-able data.

    A DataFrame, Series or dict of equal-length lists becomes `{"kind": "table", "columns": [...], "rows": [[...]]}`, a
    number `{"kind": "number", "value": ...}`.  What is missing or not finite becomes null.  An index with a name, or of
    text or dates, becomes the first columns; an unnamed index of numbers is a row count and is dropped.

    Raises:
        OutputFault: something is neither.
    """
    if not isinstance(returned, dict):
        raise OutputFault(
            f'`analyze` returned {_kind(returned)}, not a dict of outputs; write `return {{"name": table}}`'
        )
    if len(returned) > _OUTPUTS_MAX:
        raise OutputFault(f"`analyze` returned more than {_OUTPUTS_MAX} outputs")
    outputs: dict[str, Any] = {}
    for name, value in returned.items():
        if type(name) is not str:
            raise OutputFault(f"the name of an output is {_kind(name)}, not text")
        outputs[name] = _output(name, value)
    return outputs


def _output(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, pd.Series):
        value = value.to_frame(name=value.name if value.name is not None else "value")
    if isinstance(value, Mapping):
        value = _from_lists(name, value)
    if isinstance(value, pd.DataFrame):
        return _table(name, value)
    cell = _cell(name, value)
    if isinstance(cell, bool) or not isinstance(cell, (int, float, type(None))):
        raise OutputFault(f"output `{name}` is {_kind(value)}, not a table or a number")
    return {"kind": "number", "value": cell}


def _from_lists(name: str, value: Mapping[Any, Any]) -> pd.DataFrame:
    try:
        lists = {key: list(column) for key, column in value.items()}
    except TypeError:
        raise OutputFault(f"output `{name}` is a dict, but not one of lists of equal length") from None
    if len({len(column) for column in lists.values()}) > 1:
        raise OutputFault(f"output `{name}` has lists of different lengths")
    return pd.DataFrame({key: pd.Series(column, dtype=object) for key, column in lists.items()})


def _table(name: str, frame: pd.DataFrame) -> dict[str, Any]:
    if frame.columns.nlevels > 1:
        frame = frame.set_axis(
            pd.Index(["_".join(str(part) for part in key if str(part)) for key in frame.columns]), axis=1
        )
    frame = _index_as_columns(frame)
    columns = [str(column) for column in frame.columns]
    if len(set(columns)) != len(columns):
        raise OutputFault(f"output `{name}` has two columns of the same name")
    cells = [[_cell(name, cell) for cell in frame.iloc[:, place].astype(object)] for place in range(len(columns))]
    return {"kind": "table", "columns": columns, "rows": [list(row) for row in zip(*cells, strict=True)]}


def _index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    index = frame.index
    if index.nlevels == 1 and index.name is None and (isinstance(index, pd.RangeIndex) or _is_count(index)):
        return frame
    names = [f"index_{place}" if index.nlevels > 1 else "index" for place in range(index.nlevels)]
    wanted = [str(own) if own is not None else name for own, name in zip(index.names, names, strict=True)]
    wanted = [f"{label}_index" if label in frame.columns else label for label in wanted]
    return frame.reset_index(names=wanted)


def _is_count(index: pd.Index[Any]) -> bool:
    return pd.api.types.is_integer_dtype(index.dtype)


def _cell(name: str, value: object) -> int | float | str | bool | None:
    """Return one cell in plain form."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (bool, str)):
        return value if type(value) in {bool, str} else str(value)
    if isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise OutputFault(f"output `{name}` has a whole number beyond 64 bits")
        return int(value)
    if isinstance(value, (float, decimal.Decimal, fractions.Fraction)):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (pd.Period, pd.Interval, pd.Timedelta, dt.timedelta)):
        return str(value)
    raise OutputFault(f"output `{name}` has a cell that is {_kind(value)}; cells are numbers, text, yes or no, or None")


def _kind(value: object) -> str:
    return "None" if value is None else f"of type `{type(value).__name__}`"
