"""Call scikit-learn and statsmodels with plain values only: numbers, text, tables, and models of their own.

Functions and objects of a program are refused, because these libraries call them back from deep inside; so are the
keywords that name files to cache in and that start threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.core.arrays import ExtensionArray

from sandbox.runtime.guest.attributes import words
from sandbox.runtime.guest.faults import Forbidden
from sandbox.runtime.guest.offered import unwrap

_INSTEAD: Final = {
    "n_jobs": "a program is one thread; leave it out",
    "memory": "a program has no files to cache in; leave it out",
    "formula": "build the columns with `pandas.get_dummies` and `add_constant`",
    "data": "hand over the columns themselves",
}
_REFUSED: Final = words("""
    n_jobs memory formula data callback monitor pre_dispatch backend mmap_mode cache_size cache_dir fname path
    extra_fit_funcs transform_kwargs verbose_callback
""")
_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, range, slice})
_TABLES: Final = (np.ndarray, np.generic, np.dtype, pd.DataFrame, pd.Series, pd.Index, ExtensionArray)
_DEPTH_MAX: Final = 8


def plain_call(
    name: str, function: Callable[..., Any], own: tuple[type, ...], keywords: frozenset[str] | None = None
) -> Callable[..., Any]:
    """Return a plain function that checks its arguments and calls another.

    Args:
        name: what the program calls it.
        function: what is called.
        own: the library's classes whose objects may be handed over.
        keywords: the keywords that it takes; every one that is not refused when None.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        for key in kwargs:
            if _is_refused(key) if keywords is None else key not in keywords:
                raise Forbidden(f"`{name}` takes no `{key}` here" + _because(key))
        plain = [unwrap(argument) for argument in args]
        named = {key: unwrap(argument) for key, argument in kwargs.items()}
        for value in (*plain, *named.values()):
            _check_plain(name, value, own, _DEPTH_MAX)
        return function(*plain, **named)

    call.__name__ = name
    call.__qualname__ = name
    return call


def _is_refused(key: str) -> bool:
    # A pipeline hands `step__keyword` on to its step.
    return any(part in _REFUSED for part in key.split("__"))


def _because(key: str) -> str:
    instead = _INSTEAD.get(key.rpartition("__")[2])
    return f"; {instead}" if instead else ""


def _check_plain(name: str, value: Any, own: tuple[type, ...], depth: int) -> None:
    kind = type(value)
    if kind in _SCALARS or isinstance(value, (_TABLES, own)):
        return
    if kind in {list, tuple, dict, set, frozenset} and depth > 0:
        parts = [*value.keys(), *value.values()] if kind is dict else value
        for part in parts:
            _check_plain(name, part, own, depth - 1)
        return
    if isinstance(value, type) and (issubclass(value, np.generic) or value in {int, float, bool, str}):
        return
    what = "a function" if callable(value) else f"a value of type `{kind.__name__}`"
    raise Forbidden(f"`{name}` takes numbers, text, tables and models of its own library, not {what}")
