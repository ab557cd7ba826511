"""Small modules of Python in the form that programs get: the parts that compute, without those that reach around."""

from __future__ import annotations

import functools
import json
import operator
import re
import string
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from sandbox.runtime.guest.faults import Forbidden
from sandbox.runtime.guest.guards import ProgramClass
from sandbox.runtime.guest.offered import Namespace
from sandbox.runtime.guest.records import dataclass, record_modules

_RE: Final = "compile escape findall finditer fullmatch match search split sub subn IGNORECASE I MULTILINE M DOTALL S"
_OPERATOR: Final = "add and_ eq floordiv ge getitem gt itemgetter le lt mod mul ne neg not_ or_ pow sub truediv xor"
_STRING: Final = "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits punctuation whitespace"
_LOUDNESS: Final = "DEBUG INFO WARNING ERROR CRITICAL"
_SAID: Final = "debug info warning error critical exception log setLevel"
_DEPTH_MAX: Final = 64


def _pick(module: Any, names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names.split()}


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing: what a program says on the way goes nowhere."""


def _loads(text: str | bytes) -> Any:
    return json.loads(text)


def _dumps(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    separators: tuple[str, str] | None = None,
) -> str:
    return json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii, separators=separators)


def _copy(value: Any) -> Any:
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index, np.ndarray)) or type(value) in {list, dict, set, deque}:
        return value.copy()
    return _rebuilt(value, lambda part: part)


def _deep_copy(value: Any, depth: int = _DEPTH_MAX) -> Any:
    if depth == 0:
        raise Forbidden("this is nested too deep to be copied")
    below = functools.partial(_deep_copy, depth=depth - 1)
    kind = type(value)
    if kind in {list, tuple, set, frozenset, deque}:
        return kind(below(part) for part in value)
    if kind is dict:
        return {below(key): below(part) for key, part in value.items()}
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index, np.ndarray)):
        return value.copy()
    return _rebuilt(value, below)


def _rebuilt(value: Any, part: Callable[[Any], Any]) -> Any:
    """Return an object of the program with its fields copied; anything else as it is, since it does not change."""
    if type(type(value)) is not ProgramClass or isinstance(value, BaseException):
        return value
    made = object.__new__(type(value))
    made.__dict__.update({name: part(field) for name, field in value.__dict__.items()})
    return made


def _same(function: Any) -> Any:
    return function


def _logging() -> Namespace:
    logger = Namespace("logger", dict.fromkeys(_SAID.split(), _nothing))
    quiet = dict.fromkeys([*_SAID.split(), "basicConfig", "disable"], _nothing)
    levels = {name: place for place, name in enumerate(_LOUDNESS.split(), 1)}
    return Namespace("logging", {**quiet, **levels, "getLogger": lambda *_: logger})


def plain_modules() -> dict[str, Namespace]:
    """Return the modules by name."""
    return {
        "re": Namespace("re", _pick(re, _RE)),
        "json": Namespace("json", {"loads": _loads, "dumps": _dumps, "JSONDecodeError": json.JSONDecodeError}),
        "copy": Namespace("copy", {"copy": _copy, "deepcopy": _deep_copy}),
        "operator": Namespace("operator", _pick(operator, _OPERATOR)),
        "string": Namespace("string", _pick(string, _STRING)),
        "logging": _logging(),
        "warnings": Namespace(
            "warnings", dict.fromkeys(["filterwarnings", "simplefilter", "warn", "resetwarnings"], _nothing)
        ),
        "abc": Namespace("abc", {"ABC": ProgramClass("ABC", (), {}), "abstractmethod": _same}),
        "dataclasses": Namespace("dataclasses", {"dataclass": dataclass, **record_modules()}),
    }
