"""Guard the places where pandas calls a method that it was told in text.

A check of the arguments can be undone by a callback that runs between the check and the call.  So the modules that turn
text into a method get their own `getattr`, which looks at the name at the moment of the call.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from sandbox.runtime.guest.attributes import REDUCERS, words
from sandbox.runtime.guest.faults import Forbidden

SINKS: Final = (
    "pandas.core.apply",
    "pandas.core.groupby.generic",
    "pandas.core.groupby.groupby",
    "pandas.core.resample",
    "pandas.core.reshape.pivot",
)
# Methods that these modules name themselves.
_INTERNAL: Final = words("""
    agg aggregate apply transform corr cov corrwith take fillna asfreq interpolate nearest bfill ffill ewm expanding
    rolling resample
""")
_INTERNAL_DATA: Final = frozenset({"__name__"})


def _dispatch(owner: Any, name: Any, *default: Any) -> Any:
    if type(name) is not str:
        raise Forbidden("the name of a method must be text")
    if name in REDUCERS or name in _INTERNAL or name in _INTERNAL_DATA:
        return getattr(owner, name, *default)
    value = getattr(owner, name, *default) if not name.startswith("_") else None
    if name.startswith("_") or callable(value):
        raise Forbidden(f"`{name}` is not a function that can be named here; pass a function instead")
    return value


def guard_dispatch() -> None:
    """Put the guard into each module; must run before the first program and after pandas is imported.

    Raises:
        ImportError: a module is gone, so this pandas is not the one that was looked at.
    """
    for name in SINKS:
        module = importlib.import_module(name)
        module.__dict__["getattr"] = _dispatch
