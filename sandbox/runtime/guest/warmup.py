"""Import and exercise, before the walls go up, all that honest programs touch: afterwards there are no files.

pyarrow is kept out on purpose: there is no data here to exchange, loading it starts a thread, and pandas without it
keeps strings as Python objects, which is all that answers need.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from typing import Final

_ABSENT: Final = (
    "pyarrow", "numexpr", "bottleneck", "numba", "matplotlib", "jinja2", "tables", "fsspec", "sqlalchemy", "openpyxl",
    "xarray", "IPython", "duckdb", "formulaic", "tqdm", "lz4", "psutil",
)  # fmt: skip
PLAIN_LACKS: Final = (*_ABSENT, "scipy", "sklearn", "statsmodels", "joblib", "patsy")
SCIENCE_LACKS: Final = _ABSENT
_PLAIN: Final = ("statistics", "itertools", "functools", "collections", "fractions", "decimal", "_strptime", "zoneinfo")
_SKIPPED: Final = ("pandas.core._numba", "pandas.core.interchange", "pandas.core.computation.pytables")
# Zones are read from files, so those that programs may name are read here; `ZoneInfo` keeps few, hence the list below.
ZONES: Final = (
    "UTC", "Asia/Shanghai", "Asia/Hong_Kong", "Asia/Taipei", "Asia/Tokyo", "Asia/Singapore", "Asia/Kolkata",
    "Europe/London", "Europe/Berlin", "Europe/Paris", "America/New_York", "America/Chicago", "America/Los_Angeles",
    "Australia/Sydney",
)  # fmt: skip
_kept: list[object] = []


def warm_up(lacks: tuple[str, ...]) -> None:
    """Import numpy, pandas and the language layer, and run a little of everything once.

    Args:
        lacks: packages that this process does without, installed or not.

    Raises:
        ImportError: a package that programs need is not installed.
    """
    sys.meta_path.insert(0, _Lacking(lacks))
    warnings.simplefilter("ignore")
    import pandas as pd

    pd.set_option("mode.string_storage", "python")
    package = importlib.import_module("pandas.core")
    for module in pkgutil.walk_packages(package.__path__, "pandas.core."):
        if not module.name.startswith(_SKIPPED):
            _import_if_possible(module.name, lacks)
    _kept.extend(importlib.import_module(name) for name in _PLAIN)
    _keep_zones()
    _remove_entropy()
    _exercise()


class _Lacking:
    """A finder that comes first and says of some packages that they are not there, without a search on disk."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = frozenset(packages)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Refuse the packages; say nothing of others."""
        package = name.partition(".")[0]
        if package in self._packages:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def _import_if_possible(name: str, lacks: tuple[str, ...]) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in lacks:
            raise


def _keep_zones() -> None:
    import zoneinfo

    import pandas as pd

    # pandas reads the transitions through the class in pure Python, programs through the one in C: each has its cache.
    pure = importlib.import_module("zoneinfo._zoneinfo").ZoneInfo
    for zone in ZONES:
        try:
            _kept.extend((zoneinfo.ZoneInfo(zone), pure(zone), pd.Timestamp("2026-01-01", tz=zone)))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            # A machine without this zone's file: programs that name it get an ordinary error.
            continue


def _remove_entropy() -> None:
    """Give numpy a constant where it would ask the kernel for entropy.

    It asks even when a seed is given, and the filter refuses; a generator without a seed is not offered to programs.
    """
    bits = importlib.import_module("numpy.random.bit_generator")
    bits.randbits = lambda _: 0  # type: ignore[attr-defined]


def _exercise() -> None:
    """Run common operations once, so that lazy imports and caches are in place before the fork."""
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"k": ["a", "b", "a", None], "x": [1, 2, 3, 4], "y": [0.5, np.nan, 1.5, 2.5]})
    frame["when"] = pd.to_datetime(["2026-01-01", "2026-01-02", "2026-02-01", "2026-03-01"])
    frame["c"] = frame["k"].astype("category")
    frame.groupby("k").agg({"x": ["sum", "mean"], "y": "std"})
    frame.groupby("k")["y"].transform("mean")
    frame.groupby("k").apply(len)
    frame.groupby(["k", "x"]).size().unstack(fill_value=0)  # noqa: PD010 - programs write it
    frame.merge(frame[["k", "x"]], on="k", how="left")
    frame.pivot_table(index="k", columns="x", values="y", aggfunc="mean", margins=True)
    frame.describe()
    frame.melt(id_vars="k", value_vars=["x", "y"])
    frame.sort_values(["k", "x"]).rank(numeric_only=True)
    frame.set_index("when")["y"].resample("MS").mean()
    frame["y"].rolling(2).mean()
    frame["y"].ewm(span=2).mean()
    frame["y"].expanding().sum()
    frame[["x", "y"]].corr()
    frame["k"].str.upper().str.contains("a", na=False)
    frame["when"].dt.strftime("%Y-%m")
    frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai")
    pd.cut(frame["x"], 2)
    pd.qcut(frame["x"], 2)
    pd.crosstab(frame["k"], frame["x"])
    pd.get_dummies(frame["k"])
    pd.concat([frame, frame], ignore_index=True).drop_duplicates()
    pd.date_range("2026-01-01", periods=3, freq="D").to_period("M")
    pd.to_numeric(pd.Series(["1", "2", "x"]), errors="coerce").fillna(0).interpolate()
    frame.to_dict("records")
    frame.isna().sum().to_frame("missing").reset_index()
    frame["y"].quantile([0.1, 0.5])
    repr(frame)
    frame.sample(2, random_state=1)
    np.linalg.lstsq(np.eye(3), np.ones(3), rcond=None)
    np.linalg.svd(np.eye(3))
    np.linalg.solve(np.eye(3), np.ones(3))
    np.fft.rfft(np.ones(8))
    np.percentile(np.arange(9.0), [5, 50])
    np.polyfit(np.arange(4.0), np.arange(4.0), 1)
    np.random.default_rng(1).normal(size=3)
    np.histogram(np.arange(9.0), bins=3)
