"""The modules that programs may import, as tables of names; everything else in them does not exist for a program."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import functools
import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from sandbox.runtime.guest import science_names
from sandbox.runtime.guest.faults import Forbidden
from sandbox.runtime.guest.offered import Namespace, Offered, guarded_call
from sandbox.runtime.guest.plain_modules import plain_modules
from sandbox.runtime.guest.science import science_modules

_PANDAS_FUNCTIONS: Final = """
    bdate_range concat crosstab cut date_range factorize from_dummies get_dummies infer_freq interval_range isna
    isnull json_normalize melt merge merge_asof merge_ordered notna notnull period_range pivot pivot_table qcut
    timedelta_range to_datetime to_numeric to_timedelta unique wide_to_long
"""
_PANDAS_PLAIN: Final = """
    Series Index RangeIndex DatetimeIndex TimedeltaIndex PeriodIndex CategoricalIndex CategoricalDtype Timedelta Period
    Interval DateOffset Grouper NamedAgg StringDtype Int64Dtype Float64Dtype BooleanDtype
"""
_NUMPY_FUNCTIONS: Final = """
    abs absolute add all allclose amax amin angle any append apply_along_axis arange arccos arcsin arctan
    arctan2 argmax argmin argpartition argsort argwhere around array array_equal array_split asarray atleast_1d
    atleast_2d average bincount broadcast_to cbrt ceil clip column_stack concatenate convolve copysign corrcoef
    correlate cos cosh count_nonzero cov cross cumprod cumsum deg2rad degrees delete diag diagonal diff digitize
    divide dot dstack ediff1d einsum equal exp exp2 expand_dims expm1 extract eye fabs flatnonzero flip fliplr
    flipud float_power floor floor_divide fmax fmin fmod full full_like gcd geomspace gradient greater
    greater_equal heaviside histogram histogram2d histogram_bin_edges hstack hypot identity imag indices inner
    insert interp intersect1d invert isclose isfinite isin isinf isnan isnat isreal isscalar issubdtype kron lcm
    less less_equal lexsort linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or
    logical_xor logspace matmul max maximum mean median meshgrid min minimum mod modf moveaxis multiply
    nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod
    nanquantile nanstd nansum nanvar ndim negative nonzero not_equal ones ones_like outer pad partition
    percentile piecewise poly polyadd polyder polyfit polyint polymul polyval power prod ptp quantile rad2deg
    radians ravel real reciprocal remainder repeat reshape rint roll roots rot90 round searchsorted select
    setdiff1d setxor1d shape sign sin sinc sinh size sort split sqrt square squeeze stack std subtract sum
    swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid tri tril triu true_divide
    trunc union1d unique unravel_index vander var vdot vsplit vstack where zeros zeros_like
"""
_NUMPY_TYPES: Final = """
    float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool_ intp complex128 datetime64
    timedelta64 integer floating number generic str_
"""
_LINALG: Final = """
    cholesky cond det eig eigh eigvals eigvalsh inv lstsq matrix_power matrix_rank norm pinv qr slogdet solve
    svd
"""
_LEGACY_DRAWS: Final = """
    beta binomial choice exponential gamma laplace lognormal multinomial multivariate_normal normal permutation
    poisson rand randint randn random random_sample seed shuffle standard_normal uniform
"""
_RANDOM: Final = """
    betavariate choice choices expovariate gammavariate gauss getrandbits lognormvariate normalvariate
    paretovariate randint random randrange sample seed shuffle triangular uniform weibullvariate
"""
_STATISTICS: Final = """
    NormalDist correlation covariance fmean geometric_mean harmonic_mean linear_regression mean median
    median_grouped median_high median_low mode multimode pstdev pvariance quantiles stdev variance
    StatisticsError
"""
_ITERTOOLS: Final = """
    accumulate chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse
    groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest
"""
_TYPING: Final = "Any Callable Dict Iterable Iterator List Literal Mapping NamedTuple Optional Sequence Set Tuple Union"


def _pick(module: Any, names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names.split()}


def _guarded(module: Any, names: str) -> dict[str, Any]:
    return {name: guarded_call(name, function) for name, function in _pick(module, names).items()}


def _generator(seed: int | None = None) -> np.random.Generator:
    """Return a generator of chance; without a seed, the next one that follows from the job's."""
    if seed is None:
        seed = int(np.random.randint(0, 2**31))  # noqa: NPY002 - the job seeds the global state
    if not isinstance(seed, (int, np.integer)):
        raise Forbidden("a seed is a whole number")
    return np.random.default_rng(seed)


def _named_tuple(name: str, fields: str | Iterable[str]) -> type:
    """Return a named tuple; without the options that could rename its fields."""
    names = fields if isinstance(fields, str) else list(fields)
    return collections.namedtuple(name, names)  # noqa: PYI024 - its fields are known at run time only


def _pandas() -> Namespace:
    table = _guarded(pd, _PANDAS_FUNCTIONS)
    constructors = {
        "DataFrame": "from_dict from_records",
        "IntervalIndex": "from_breaks from_tuples from_arrays",
        "MultiIndex": "from_tuples from_product from_arrays from_frame",
        "Categorical": "from_codes",
        "Timestamp": "fromisoformat strptime",
        **dict.fromkeys(_PANDAS_PLAIN.split(), ""),
    }
    table |= {name: Offered(getattr(pd, name), names) for name, names in constructors.items()}
    offsets = (
        "Day Hour Minute Second Week MonthBegin MonthEnd QuarterBegin QuarterEnd YearBegin YearEnd BDay BusinessDay"
    )
    table["offsets"] = Namespace("pandas.offsets", {n: Offered(getattr(pd.offsets, n)) for n in offsets.split()})
    return Namespace("pandas", table | {"NA": pd.NA, "NaT": pd.NaT, "IndexSlice": pd.IndexSlice})


def _numpy() -> Namespace:
    table = _guarded(np, _NUMPY_FUNCTIONS) | _pick(np, _NUMPY_TYPES) | _pick(np, "pi e inf nan newaxis euler_gamma")
    table["ndarray"] = Offered(np.ndarray)
    table["poly1d"] = guarded_call("poly1d", np.poly1d)
    table["finfo"] = guarded_call("finfo", np.finfo)
    table["iinfo"] = guarded_call("iinfo", np.iinfo)
    # Fresh memory holds what the process had there before; programs get zeros.
    table["empty"], table["empty_like"] = table["zeros"], table["zeros_like"]
    table["linalg"] = Namespace("numpy.linalg", _guarded(np.linalg, _LINALG) | {"LinAlgError": np.linalg.LinAlgError})
    table["fft"] = Namespace("numpy.fft", _guarded(np.fft, "fft ifft rfft irfft fftfreq rfftfreq fftshift"))
    table["random"] = Namespace(
        "numpy.random", _guarded(np.random, _LEGACY_DRAWS) | {"default_rng": guarded_call("default_rng", _generator)}
    )
    # An array is made by `array` and its kin; the bare constructor would take someone else's memory.
    object.__setattr__(table["ndarray"], "call", _no_constructor)
    return Namespace("numpy", table)


def _no_constructor(*_: Any, **__: Any) -> None:
    raise Forbidden("`numpy.ndarray` is not called; use `numpy.array` or `numpy.zeros`")


def _plain_modules() -> dict[str, Namespace]:
    maths = " ".join(name for name in dir(math) if not name.startswith("_"))
    return {
        "math": Namespace("math", _pick(math, maths)),
        "statistics": Namespace("statistics", _pick(statistics, _STATISTICS)),
        "itertools": Namespace("itertools", _pick(itertools, _ITERTOOLS)),
        "functools": Namespace("functools", _pick(functools, "cache cmp_to_key lru_cache partial reduce")),
        "collections": Namespace(
            "collections",
            _pick(collections, "Counter OrderedDict defaultdict deque") | {"namedtuple": _named_tuple},
        ),
        "datetime": Namespace("datetime", _pick(dt, "date datetime time timedelta timezone")),
        "fractions": Namespace("fractions", _pick(fractions, "Fraction")),
        "decimal": Namespace("decimal", _pick(decimal, "Decimal ROUND_HALF_EVEN ROUND_HALF_UP ROUND_DOWN ROUND_UP")),
        "random": Namespace("random", _pick(random, _RANDOM)),
        "typing": Namespace("typing", dict.fromkeys(_TYPING.split(), None)),
        "__future__": Namespace("__future__", {"annotations": None}),
    }


_NUMPY: Final = _numpy()
_TABLE: Final[dict[str, Namespace]] = {
    "pandas": _pandas(),
    "numpy": _NUMPY,
    **{f"numpy.{name}": _NUMPY.table[name] for name in ("linalg", "fft", "random")},
    **_plain_modules(),
    **plain_modules(),
    **science_modules(),
}
LOADED: Final = frozenset(_TABLE)
"""The modules that this guest has; those of `science_names` are among them where their library was loaded."""
MODULE_NAMES: Final = LOADED | science_names.MODULES


def offered_names(module: str) -> frozenset[str]:
    """Return what a module offers, loaded or not."""
    return science_names.offered_by(module) if module in science_names.MODULES else frozenset(_TABLE[module].table)


def import_module(
    name: str,
    _globals: object = None,
    _locals: object = None,
    fromlist: Sequence[str] | None = None,
    _level: int = 0,
) -> Namespace:
    """Return the stand-in for a module; the `__import__` of programs.

    A module that is not offered comes back empty.  The program itself cannot ask for one, since its imports were
    checked when it was compiled; but C code that runs in a frame of the program imports through here (`date.strftime`
    imports `time`) and then takes the real module from the interpreter's own table.
    """
    if name not in _TABLE:
        return Namespace(str(name), {})
    return _TABLE[name if fromlist else name.split(".", maxsplit=1)[0]]
