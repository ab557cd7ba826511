"""Which attributes a program may read, as data, by type; what is not listed is refused.

Left out on purpose, besides everything that reads or writes files: names that evaluate text (`eval`, `query`), hand the
object to the library's own internals, expose memory (`view`, `data`, `ctypes`, `base`, `strides`, `tofile`), or carry
mutable state of the library (`attrs`, `flags`, `style`, `plot`).
"""

from __future__ import annotations

from typing import Final


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_TABULAR = words("""
    T abs add add_prefix add_suffix agg aggregate align all any apply asfreq asof astype at at_time between_time
    bfill clip combine combine_first compare convert_dtypes copy corr count cov cummax cummin cumprod cumsum
    describe diff div divide dot drop drop_duplicates droplevel dropna dtypes duplicated empty eq equals ewm
    expanding explode ffill fillna filter first_valid_index floordiv ge get groupby gt head iat idxmax idxmin
    iloc index infer_objects interpolate isin isna isnull items keys kurt kurtosis last_valid_index le loc lt
    map mask max mean median min mod mode mul multiply ndim ne nlargest notna notnull nsmallest nunique
    pct_change pipe pop pow prod product quantile radd rank rdiv reindex reindex_like rename rename_axis
    reorder_levels replace resample reset_index rfloordiv rmod rmul rolling round rpow rsub rtruediv sample sem
    set_axis shape shift size skew sort_index sort_values squeeze std sub subtract sum swaplevel tail take
    to_dict to_numpy to_period to_timestamp transform transpose truediv truncate tz_convert tz_localize unstack
    update value_counts values var where xs
""")
DATAFRAME: Final = _TABULAR | words("""
    assign columns corrwith insert isetitem iterrows itertuples join melt memory_usage merge pivot pivot_table
    select_dtypes set_index stack
""")
SERIES: Final = _TABULAR | words("""
    argmax argmin argsort autocorr between case_when cat divmod dt dtype factorize hasnans
    is_monotonic_decreasing is_monotonic_increasing is_unique item name rdivmod repeat searchsorted str to_frame
    to_list tolist unique
""")
_TIMES = words("""
    as_unit asfreq ceil components date day day_name day_of_week day_of_year dayofweek dayofyear days
    days_in_month daysinmonth end_time floor freq freqstr hour is_leap_year is_month_end is_month_start
    is_quarter_end is_quarter_start is_year_end is_year_start isocalendar microsecond microseconds minute month
    month_name nanosecond nanoseconds normalize quarter qyear round second seconds start_time strftime time
    timetz to_period to_pydatetime to_pytimedelta to_timestamp total_seconds tz tz_convert tz_localize unit week
    weekday weekofyear year
""")
INDEX: Final = _TIMES | words("""
    T all any append argmax argmin argsort asof astype copy delete diff difference drop drop_duplicates
    droplevel dropna dtype duplicated empty equals factorize fillna get_indexer get_level_values get_loc groupby
    has_duplicates hasnans identical infer_objects inferred_type insert intersection is_monotonic_decreasing
    is_monotonic_increasing is_unique isin isna isnull item join map max min name names ndim nlevels notna
    notnull nunique putmask ravel reindex rename repeat round searchsorted set_names shape shift size
    slice_indexer slice_locs sort_values str symmetric_difference take to_flat_index to_frame to_list to_numpy
    to_series tolist transpose union unique value_counts values where categories codes ordered as_ordered
    as_unordered add_categories remove_categories rename_categories reorder_categories set_categories
    remove_unused_categories levels levshape swaplevel reorder_levels set_levels get_locs start stop step left
    right mid length closed overlaps is_overlapping is_non_overlapping_monotonic contains to_tuples
    inferred_freq mean median std sum is_normalized freq
""")
GROUPBY: Final = words("""
    agg aggregate all any apply bfill corr corrwith count cov cumcount cummax cummin cumprod cumsum describe
    diff dtype ewm expanding ffill filter first get_group groups head idxmax idxmin indices
    is_monotonic_decreasing is_monotonic_increasing kurt last max mean median min ndim ngroup ngroups nlargest
    nsmallest nth nunique ohlc pct_change prod quantile rank resample rolling sample sem shift size skew std sum
    tail take transform unique value_counts var asfreq interpolate nearest pipe
""")
WINDOW: Final = words("""
    agg aggregate apply corr count cov first kurt last max mean median min nunique quantile rank sem skew std
    sum var
""")
TEXT_ACCESSOR: Final = words("""
    capitalize casefold cat center contains count endswith extract extractall find findall fullmatch get
    get_dummies index isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper join
    len ljust lower lstrip match normalize pad partition removeprefix removesuffix repeat replace rfind rindex
    rjust rpartition rsplit rstrip slice slice_replace split startswith strip swapcase title translate upper
    wrap zfill
""")
TIME_ACCESSOR: Final = _TIMES
CATEGORY_ACCESSOR: Final = words("""
    add_categories as_ordered as_unordered categories codes ordered remove_categories remove_unused_categories
    rename_categories reorder_categories set_categories
""")
CATEGORICAL: Final = CATEGORY_ACCESSOR | words("""
    astype copy describe dtype isin isna isnull map max min notna notnull nbytes ndim shape size take tolist
    to_numpy unique value_counts
""")
EXTENSION_ARRAY: Final = words("""
    all any astype copy dtype fillna isna max mean min ndim shape size std sum take tolist to_numpy unique
    value_counts var left right mid closed length
""")
INDEXER: Final = frozenset[str]()
TIMESTAMP: Final = _TIMES | words("""
    ctime dst fold isoformat isoweekday nanosecond replace resolution timestamp toordinal to_julian_date
    to_numpy tzinfo tzname utcoffset value
""")
TIMEDELTA: Final = _TIMES | words("isoformat resolution_string value to_numpy")
PERIOD: Final = _TIMES | words("ordinal")
INTERVAL: Final = words("closed closed_left closed_right is_empty left length mid open_left open_right overlaps right")
OFFSET: Final = words("freqstr is_on_offset kwds n name rollback rollforward")
DTYPE: Final = words("categories freq itemsize kind name ordered subtype tz unit")

NDARRAY: Final = words("""
    T all any argmax argmin argpartition argsort astype choose clip compress conj conjugate copy cumprod cumsum
    diagonal dot dtype fill flat flatten imag item itemsize max mean min nbytes ndim nonzero partition prod put
    ravel real repeat reshape round searchsorted shape size sort squeeze std sum swapaxes take tolist trace
    transpose var
""")
NUMPY_SCALAR: Final = words("""
    all any as_integer_ratio astype clip conj conjugate dtype imag is_integer item max mean min nbytes ndim prod
    real round shape size std sum tolist var
""")
GENERATOR: Final = words("""
    beta binomial chisquare choice dirichlet exponential gamma geometric gumbel hypergeometric integers laplace
    logistic lognormal multinomial multivariate_normal negative_binomial normal pareto permutation permuted
    poisson random rayleigh shuffle standard_exponential standard_gamma standard_normal standard_t triangular
    uniform vonmises wald weibull zipf
""")
POLYNOMIAL: Final = words("c coef coefficients deriv integ o order r roots variable")
LIMITS_OF_TYPES: Final = words("bits dtype eps epsneg max min precision resolution smallest_normal tiny")

TEXT: Final = words("""
    capitalize casefold center count encode endswith expandtabs find format index isalnum isalpha isascii isdecimal
    isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip maketrans
    partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines
    startswith strip swapcase title translate upper zfill
""")
BYTES: Final = words("decode hex startswith endswith find count index join split strip replace upper lower")
LIST: Final = words("append clear copy count extend index insert pop remove reverse sort")
DICT: Final = words("clear copy fromkeys get items keys pop popitem setdefault update values")
COUNTER: Final = DICT | words("elements most_common subtract total")
DEFAULT_DICT: Final = DICT | words("default_factory")
ORDERED_DICT: Final = DICT | words("move_to_end")
DEQUE: Final = LIST | words("appendleft extendleft maxlen popleft rotate")
SET: Final = words("""
    add clear copy difference difference_update discard intersection intersection_update isdisjoint issubset
    issuperset pop remove symmetric_difference symmetric_difference_update union update
""")
TUPLE: Final = words("count index")
RANGE: Final = words("count index start step stop")
SLICE: Final = words("indices start step stop")
VIEW: Final = words("isdisjoint")
WHOLE: Final = words("as_integer_ratio bit_count bit_length conjugate denominator imag numerator real")
FLOAT: Final = words("as_integer_ratio conjugate hex imag is_integer real")
COMPLEX: Final = words("conjugate imag real")
FRACTION: Final = words("as_integer_ratio denominator limit_denominator numerator")
DECIMAL: Final = words("""
    as_integer_ratio as_tuple copy_abs is_finite is_nan is_zero ln log10 normalize quantize sqrt
    to_integral_value
""")
DATE: Final = words("""
    ctime day isocalendar isoformat isoweekday month replace strftime timetuple toordinal weekday year week
""")
DATETIME: Final = DATE | words("date fold hour microsecond minute second time timetz tzinfo utcoffset timestamp")
TIME: Final = words("hour isoformat microsecond minute replace second strftime")
DURATION: Final = words("days microseconds seconds total_seconds")
ERROR: Final = words("args value")
PYTHON_GENERATOR: Final = words("close send")
PATTERN: Final = words("findall finditer flags fullmatch groupindex groups match pattern search split sub subn")
MATCH: Final = words("end group groupdict groups lastgroup lastindex pos span start")
PROPERTY: Final = words("getter setter deleter")
CACHED: Final = words("cache_clear cache_info")
NORMAL_DISTRIBUTION: Final = words("""
    cdf inv_cdf mean median mode overlap pdf quantiles samples stdev variance zscore
""")
DATA: Final = words("ask blocks parameters")
ANSWER: Final = words("loss lower notes pure_loss standard_errors table upper")
REFUSAL: Final = words("args code hint message")

# Attributes of classes (constructors from text, constants); those of instances are not reached through the class.
CLASSES: Final = {
    "str": words("maketrans lower upper strip title capitalize casefold lstrip rstrip swapcase zfill split join"),
    "bytes": words("fromhex"),
    "dict": words("fromkeys"),
    "int": words("from_bytes"),
    "float": words("fromhex"),
    "date": words("fromisoformat fromisocalendar fromordinal max min resolution"),
    "datetime": words("combine fromisoformat fromisocalendar fromordinal strptime max min resolution"),
    "time": words("fromisoformat max min resolution"),
    "timedelta": words("max min resolution"),
    "timezone": words("utc"),
    "Fraction": words("from_float from_decimal"),
    "chain": words("from_iterable"),
    "NormalDist": words("from_samples"),
}

# What may be assigned (`frame.columns = ...`); items may be assigned on every table, series and array.
WRITABLE: Final = {
    "DataFrame": words("columns index"),
    "Series": words("index name"),
    "Index": words("name names"),
}

# Names of methods that pandas may be told in text (`agg("mean")`).
REDUCERS: Final = words("""
    abs all any bfill ceil count cummax cummin cumprod cumsum cumcount describe diff exp ffill first floor head
    idxmax idxmin kurt last log log10 log1p log2 max mean median min mode ngroup nth nunique ohlc pct_change
    prod quantile rank round sem shift size skew sqrt std sum tail unique value_counts var
""")
