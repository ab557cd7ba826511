"""Write a question to blocks as the wire carries it: text and whole numbers only, every amount exact."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any, Final

_PROGRAM_CHARACTERS_MAX: Final = 65_536
_GRID: Final = {"mean": 2**20, "median": 2**10}
_FIELDS: Final = frozenset({"lower", "upper", "resolution", "default"})


def blocks_request(
    table: Any, program: Any, k: Any, output: Any, columns: Any, parameters: Any, statistic: Any, milliseconds: Any,
    mode: Any, *, failures: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return the request, without its share and index.

    Raises:
        TypeError, ValueError: an argument is not of its kind; the text says which.
    """
    if type(table) is not str or type(program) is not str:
        raise TypeError("the table and the function of blocks are text; write the function in triple quotes")
    if len(program) > _PROGRAM_CHARACTERS_MAX:
        raise ValueError(f"the function of blocks is longer than {_PROGRAM_CHARACTERS_MAX} characters")
    if type(statistic) is not str or statistic not in _GRID:
        raise ValueError("the statistic over blocks is `mean` or `median`")
    if type(mode) is not str or mode not in {"strict", "fast"}:
        raise ValueError("the mode of blocks is `strict` or `fast`")
    if type(failures) is not bool:
        raise TypeError("`failures` is True or False")
    if columns is not None and (type(columns) is not list or any(type(name) is not str for name in columns)):
        raise TypeError("`columns` is a list of names")
    return {
        "type": "blocks",
        "table": table,
        "columns": columns,
        "program": program,
        "parameters": _parameters(parameters),
        "k": _whole(k, "k"),
        "output": _outputs(output, statistic),
        "statistic": statistic,
        "milliseconds": _whole(milliseconds, "milliseconds"),
        "mode": mode,
        "failures": failures,
    }


def _parameters(parameters: Any) -> str:
    try:
        if parameters is not None and type(parameters) is not dict:
            raise TypeError
        return json.dumps(parameters or {}, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise TypeError(
            "`parameters` is a dict of plain values: text, finite numbers, lists and dicts of them"
        ) from None


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= 1_000_000:
        raise TypeError(f"`{name}` is a whole number from 1 to 1000000")
    return value


def _outputs(output: Any, statistic: str) -> list[list[str]]:
    if type(output) is not dict or not output:
        raise TypeError('`output` is a dict of names with bounds, as in {"mean": (0, 200)}')
    return [_output(name, bounds, statistic) for name, bounds in output.items()]


def _output(name: Any, bounds: Any, statistic: str) -> list[str]:
    if type(name) is not str:
        raise TypeError("the name of an output is text")
    if type(bounds) in {tuple, list} and len(bounds) == 2:
        bounds = {"lower": bounds[0], "upper": bounds[1]}
    if type(bounds) is not dict or not {"lower", "upper"} <= set(bounds) <= _FIELDS:
        raise TypeError(f"the bounds of `{name:.60}` are (lower, upper), or a dict with `lower` and `upper`")
    lower, upper = _exact(bounds["lower"]), _exact(bounds["upper"])
    step = (upper - lower) / _GRID[statistic]
    resolution = step if bounds.get("resolution") is None else _exact(bounds["resolution"])
    # The middle, on the grid.
    middle = lower + resolution * ((upper - lower) / resolution // 2) if resolution > 0 else lower
    default = middle if bounds.get("default") is None else _exact(bounds["default"])
    return [name, str(lower), str(upper), str(resolution), str(default)]


def _exact(value: Any) -> Fraction:
    """Return a bound exactly; a float is the decimal that it shows."""
    try:
        if type(value) is float and not math.isfinite(value):
            raise ValueError
        if type(value) in {int, str, float, Fraction}:
            return Fraction(repr(value) if type(value) is float else value)
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError('a bound is a number, or exact text such as "1/3"')
