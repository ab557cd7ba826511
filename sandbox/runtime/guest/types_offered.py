"""Bind the lists of `attributes.py` to types."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import functools
import itertools
import re
import statistics
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.core.arrays import ExtensionArray
from pandas.core.arrays.categorical import CategoricalAccessor
from pandas.core.dtypes.base import ExtensionDtype
from pandas.core.groupby.groupby import BaseGroupBy
from pandas.core.indexes.accessors import Properties
from pandas.core.strings.accessor import StringMethods
from pandas.core.window.rolling import BaseWindow

from sandbox.runtime.guest import attributes as offered
from sandbox.runtime.guest.faults import QuestionRefused
from sandbox.runtime.guest.offered import guarded_call
from sandbox.runtime.guest.program_api import AskedAnswer, Data
from sandbox.runtime.guest.science import FAMILIES, KINDS, science_call

_NOTHING: Final = frozenset[str]()

_EXACT: Final[Mapping[type, frozenset[str]]] = {
    str: offered.TEXT, bytes: offered.BYTES, int: offered.WHOLE, bool: offered.WHOLE, float: offered.FLOAT,
    complex: offered.COMPLEX, list: offered.LIST, dict: offered.DICT, set: offered.SET, frozenset: offered.SET,
    tuple: offered.TUPLE, range: offered.RANGE, slice: offered.SLICE, Counter: offered.COUNTER,
    defaultdict: offered.DEFAULT_DICT, OrderedDict: offered.ORDERED_DICT, deque: offered.DEQUE,
    type({}.keys()): offered.VIEW, type({}.items()): offered.VIEW, types.GeneratorType: offered.PYTHON_GENERATOR,
    re.Pattern: offered.PATTERN, re.Match: offered.MATCH,
    property: offered.PROPERTY, type(functools.cache(len)): offered.CACHED,
    fractions.Fraction: offered.FRACTION, decimal.Decimal: offered.DECIMAL, dt.date: offered.DATE,
    dt.datetime: offered.DATETIME, dt.time: offered.TIME, dt.timedelta: offered.DURATION,
    type(dt.date.min.isocalendar()): frozenset({"year", "week", "weekday"}),
    statistics.NormalDist: offered.NORMAL_DISTRIBUTION,
    pd.DataFrame: offered.DATAFRAME, pd.Series: offered.SERIES, pd.Timestamp: offered.TIMESTAMP,
    pd.Timedelta: offered.TIMEDELTA, pd.Period: offered.PERIOD, pd.Interval: offered.INTERVAL,
    pd.Categorical: offered.CATEGORICAL, type(pd.NaT): offered.TIMESTAMP, StringMethods: offered.TEXT_ACCESSOR,
    CategoricalAccessor: offered.CATEGORY_ACCESSOR, np.ndarray: offered.NDARRAY, np.random.Generator: offered.GENERATOR,
    np.poly1d: offered.POLYNOMIAL, np.finfo: offered.LIMITS_OF_TYPES, np.iinfo: offered.LIMITS_OF_TYPES,
    Data: offered.DATA, AskedAnswer: offered.ANSWER, QuestionRefused: offered.REFUSAL,
}  # fmt: skip
# Families whose members come from pandas and numpy alone; a program can define no class in them.
_FAMILIES: Final = (
    (pd.Index, offered.INDEX),
    (BaseGroupBy, offered.GROUPBY),
    (BaseWindow, offered.WINDOW),
    (Properties, offered.TIME_ACCESSOR),
    (ExtensionArray, offered.EXTENSION_ARRAY),
    (np.generic, offered.NUMPY_SCALAR),
    (np.dtype, offered.DTYPE),
    (ExtensionDtype, offered.DTYPE),
    (pd.offsets.BaseOffset, offered.OFFSET),
    (BaseException, offered.ERROR),
    *FAMILIES,
)
_GUARDED: Final = (
    pd.DataFrame, pd.Series, pd.Index, BaseGroupBy, BaseWindow, Properties, StringMethods, CategoricalAccessor,
    ExtensionArray, np.ndarray, np.generic,
)  # fmt: skip
_CLASSES: Final[Mapping[type, frozenset[str]]] = {
    kind: offered.CLASSES[kind.__name__]
    for kind in (
        str, bytes, dict, int, float, dt.date, dt.datetime, dt.time, dt.timedelta,
        dt.timezone, fractions.Fraction, itertools.chain, statistics.NormalDist,
    )
}  # fmt: skip


def attributes_of(owner: Any) -> frozenset[str]:
    """Return the attributes that a value offers."""
    kind = type(owner)
    if kind in _EXACT:
        return _EXACT[kind]
    if isinstance(owner, type):
        return _CLASSES.get(owner, _NOTHING)
    for family, names in _FAMILIES:
        if isinstance(owner, family):
            return names
    if isinstance(owner, tuple) and type(fields := vars(kind).get("_fields")) is tuple:
        # A row of `itertuples`, or a named tuple; its fields cannot begin with an underscore.
        return frozenset(fields) | offered.TUPLE
    return _NOTHING


def guard_method(owner: Any, name: str, method: Any) -> Any:
    """Return a method as a program gets it: those of tables, arrays and models check their arguments."""
    if isinstance(owner, _GUARDED):
        return guarded_call(name, method)
    return science_call(name, method) if isinstance(owner, KINDS) else method


def writable_of(owner: Any) -> frozenset[str]:
    """Return the attributes that may be assigned."""
    for kind, name in ((pd.DataFrame, "DataFrame"), (pd.Series, "Series"), (pd.Index, "Index")):
        if isinstance(owner, kind):
            return offered.WRITABLE[name]
    return _NOTHING
