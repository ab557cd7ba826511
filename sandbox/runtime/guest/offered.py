"""Stand-ins for modules and constructors: read-only tables of vetted callables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd

from sandbox.runtime.guest.attributes import REDUCERS, words
from sandbox.runtime.guest.faults import Forbidden

# Keywords by which a library would be told to use a file, another engine, or someone else's memory.
_REFUSED_KEYWORDS: Final = words("""
    engine engine_kwargs buf path path_or_buf filepath_or_buffer fname file storage_options compression out
    resolvers parser target backend
""")
_DISPATCHING: Final = frozenset({"agg", "aggregate", "apply", "transform"})
_TABLE_DISPATCHING: Final = frozenset({"pivot_table", "crosstab"})
# pandas reads the clock for these words; there is none, and 1970 would pass for an answer.
_TIMES_FROM_TEXT: Final = frozenset({"Timestamp", "to_datetime", "DatetimeIndex", "Period", "date_range"})
_CLOCK_WORDS: Final = frozenset({"now", "today"})


class Namespace:
    """A module as a program sees it.

    Attributes:
        label: its name.
        table: what it offers.
    """

    __slots__ = ("label", "table")
    label: str
    table: Mapping[str, Any]

    def __init__(self, label: str, table: Mapping[str, Any]) -> None:
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "table", MappingProxyType(dict(table)))

    def __getattr__(self, name: str) -> Any:
        # `from module import name` fetches here, past the guard.
        try:
            return self.table[name]
        except KeyError:
            raise Forbidden(f"`{self.label}` offers no `{name}`") from None

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Forbidden(f"`{self.label}` cannot be changed")

    def __repr__(self) -> str:
        return f"<module {self.label}>"


class Offered:
    """A constructor as a program sees it: callable, with the listed alternatives; not a class to inherit from.

    Attributes:
        label: its name.
        real: the class.
        table: its offered attributes.
    """

    __slots__ = ("call", "label", "real", "table")
    call: Callable[..., Any]
    label: str
    real: Any
    table: Mapping[str, Any]

    def __init__(self, real: Any, names: str = "") -> None:
        object.__setattr__(self, "label", real.__name__)
        object.__setattr__(self, "real", real)
        object.__setattr__(self, "call", guarded_call(real.__name__, real))
        table = {name: guarded_call(name, getattr(real, name)) for name in names.split()}
        object.__setattr__(self, "table", MappingProxyType(table))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Construct."""
        return self.call(*args, **kwargs)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Forbidden(f"`{self.label}` cannot be changed")

    def __repr__(self) -> str:
        return f"<{self.label}>"


def unwrap(value: Any) -> Any:
    """Return a value with stand-ins replaced, and plain containers copied, so that a check stays true."""
    kind = type(value)
    if kind is Offered:
        return value.real
    if kind is list:
        return [unwrap(part) if type(part) in _CONTAINERS else part for part in value]
    if kind is tuple:
        return tuple(unwrap(part) if type(part) in _CONTAINERS else part for part in value)
    if kind is dict:
        return {key: unwrap(part) if type(part) in _CONTAINERS else part for key, part in value.items()}
    return value


_CONTAINERS: Final = frozenset({Offered, list, tuple, dict})


def guarded_call(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that checks its arguments and calls another."""

    def call(*args: Any, **kwargs: Any) -> Any:
        refused = _REFUSED_KEYWORDS.intersection(kwargs)
        if refused:
            raise Forbidden(f"`{name}` takes no `{min(refused)}` here")
        plain = [unwrap(argument) for argument in args]
        named = {key: unwrap(argument) for key, argument in kwargs.items()}
        if name in _DISPATCHING:
            _check_dispatch(plain, named)
        elif name in _TABLE_DISPATCHING:
            _check_functions(named.get("aggfunc"))
        elif name in _TIMES_FROM_TEXT and any(_mentions_clock(value) for value in (*plain, *named.values())):
            raise Forbidden(f"a program has no clock, so `{name}` cannot tell it; pass the date as a parameter")
        return function(*plain, **named)

    call.__name__ = name
    call.__qualname__ = name
    return call


def _mentions_clock(value: Any) -> bool:
    """Return whether a text, or a text in a list, column or array, is one for which pandas reads the clock."""
    if isinstance(value, str):
        return value in _CLOCK_WORDS
    if isinstance(value, (list, tuple, pd.Series, pd.Index, np.ndarray)):
        return any(isinstance(part, str) and part in _CLOCK_WORDS for part in value)
    return False


def _check_dispatch(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Check the functions of `agg` and its kin, which may be told by name."""
    if args:
        _check_functions(args[0])
    elif "func" in kwargs:
        _check_functions(kwargs["func"])
    for key, value in kwargs.items():
        if key not in {"func", "axis"} and isinstance(value, tuple) and len(value) == 2:
            _check_functions(value[1])


def _check_functions(functions: Any) -> None:
    if isinstance(functions, str):
        if type(functions) is not str or functions not in REDUCERS:
            raise Forbidden(f"`{functions}` is not a function that can be named here; pass a function instead")
    elif isinstance(functions, dict):
        for part in functions.values():
            _check_functions(part)
    elif isinstance(functions, (list, tuple)):
        for part in functions:
            # In named aggregation the pair is (name, function).
            _check_functions(part[1] if isinstance(part, tuple) and len(part) == 2 else part)
