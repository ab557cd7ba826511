"""What to write instead of SQL that the language does not have: node type to code, message and hint."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sqlglot import exp

STEP = (
    "for a condition on all rows of a unit make one row of each unit first, as in WITH p AS (SELECT person, MAX(x) AS "
    "m FROM t GROUP BY person) SELECT COUNT(*) FROM p WHERE m > 1"
)
_SAME_ANSWER = "an answer is a function of the rows and the question: write the value itself"
_DAY = "write the day itself, as DATE '2026-01-31'"
_OTHER_TABLE = "rows of another dataset are joined by the unit (LEFT JOIN b … WHERE b.x IS NULL for those without)"
_PREFIX = "texts are compared whole or by their beginning: write x LIKE 'ab%', or x IN ('a', 'b')"
_WHOLE = "write GROUP BY ROLLUP (a, b), with all keys in it, or GROUPING SETS ((a, b), (a)), which lists every level"
HINTS: dict[type[exp.Expr], tuple[str, str, str]] = {
    exp.Subquery: ("subquery", "a subquery is not in the language", "ask two questions, one after the other"),
    exp.Select: ("subquery", "a subquery is not in the language", "ask two questions, one after the other"),
    exp.Exists: ("subquery", "EXISTS is not in the language", f"{_OTHER_TABLE}; {STEP}"),
    exp.Any: ("feature", "ANY is not in the language", "write x IN ('a', 'b')"),
    exp.All: ("subquery", "ALL is not in the language", "ask two questions, one after the other"),
    exp.Tuple: ("feature", "several values in brackets are not in the language", "write x = 1 AND y = 2"),
    exp.NullSafeEQ: ("feature", "IS NOT DISTINCT FROM is not in the language", "write x = 5, or x IS NULL"),
    exp.NullSafeNEQ: ("feature", "IS DISTINCT FROM is not in the language", "write x <> 5 OR x IS NULL"),
    exp.Rollup: ("rollup", "ROLLUP stands alone after GROUP BY", _WHOLE),
    exp.Cube: ("rollup", "CUBE stands alone after GROUP BY", _WHOLE),
    exp.GroupingSets: ("rollup", "GROUPING SETS stands alone after GROUP BY", _WHOLE),
    exp.CurrentUser: ("unknown_function", "who asks is not in the language", "leave it out"),
    exp.Interval: ("feature", "INTERVAL is not in the language", _DAY),
    exp.CurrentDate: (
        "unknown_function",
        "the day of today is not in the language",
        f"{_SAME_ANSWER}, as DATE '2026-01-31'",
    ),
    exp.CurrentTimestamp: ("unknown_function", "the time of now is not in the language", _SAME_ANSWER),
    exp.Window: (
        "window",
        "a window function is not in the language",
        "use GROUP BY; ORDER BY n DESC LIMIT 5 gives the first groups, GROUP BY ROLLUP (x) the total of a share",
    ),
    exp.Star: ("raw_rows", "`*` would release rows", "write COUNT(*), or name what you want to know"),
    exp.IntDiv: ("division", "`//` is not in the language", "write FLOOR(x / 10)"),
    exp.Mod: ("division", "`%` is not in the language", "write x - 10 * FLOOR(x / 10)"),
    exp.Round: ("unknown_function", "ROUND is not in the language", "write FLOOR(x + 0.5), or round the answer"),
    exp.ILike: ("like", "ILIKE is not in the language", "write LIKE with a prefix, or IN with every spelling"),
    exp.DPipe: ("unknown_function", "`||` is not in the language", "texts are not put together: GROUP BY both columns"),
    exp.Bracket: ("feature", "`[…]` is not in the language", _PREFIX),
    exp.SimilarTo: ("like", "SIMILAR TO is not in the language", _PREFIX),
    exp.Glob: ("like", "GLOB is not in the language", _PREFIX),
    exp.TableSample: (
        "feature",
        "TABLESAMPLE is not in the language",
        "leave it out: all rows are read, and the bound says how many of a unit count",
    ),
    exp.Placeholder: ("literal", "a parameter is not in the language", "write the value itself"),
    exp.Parameter: ("literal", "a parameter is not in the language", "write the value itself"),
}

_SHAPE = "values are made of + - * and comparisons: write x * x for a square, or GROUP BY FLOOR(x / 10)"
_ONE_ROW = "it would release single values: ask for COUNT(*) by group"
_BINS = "write FLOOR(x / 10) AS bin and GROUP BY bin"
_DATES = "days are compared, truncated and cut into parts: write day >= DATE '2026-01-31', or GROUP BY ISODOW(day)"
_MONTHS = "write DATE_TRUNC('month', day), YEAR(day), MONTH(day) or DAY(day)"
_WRITTEN: dict[str, str] = {
    **dict.fromkeys(("UPPER", "LOWER", "LENGTH", "LEN", "TRIM", "CONCAT", "REPLACE", "CONTAINS", "STRPOS"), _PREFIX),
    **dict.fromkeys(("SUBSTR", "SUBSTRING", "LEFT", "RIGHT", "STARTS_WITH", "PREFIX", "REGEXP_MATCHES"), _PREFIX),
    **dict.fromkeys(
        ("REGEXP_LIKE", "REGEXP_EXTRACT", "REGEXP_FULL_MATCH", "SPLIT_PART", "SUFFIX", "ENDS_WITH"), _PREFIX
    ),
    **dict.fromkeys(("LN", "LOG", "LOG2", "LOG10", "EXP", "SQRT", "POWER", "POW", "SIN", "COS", "TAN"), _SHAPE),
    **dict.fromkeys(("ANY_VALUE", "FIRST", "LAST", "ARG_MIN", "ARG_MAX", "STRING_AGG", "LISTAGG"), _ONE_ROW),
    **dict.fromkeys(("GROUP_CONCAT", "LIST", "ARRAY_AGG", "BOOL_OR", "BOOL_AND"), _ONE_ROW),
    **dict.fromkeys(("HISTOGRAM", "WIDTH_BUCKET", "NTILE", "EQUI_WIDTH_BINS"), _BINS),
    **dict.fromkeys(("RANDOM", "RAND", "NOW", "TODAY", "CURRENT_DATE", "CURRENT_TIMESTAMP", "UUID"), _SAME_ANSWER),
    **dict.fromkeys(("STRFTIME", "MONTHNAME", "DATE_PART", "DATEPART", "LAST_DAY", "YEARWEEK"), _MONTHS),
    **dict.fromkeys(("DATEDIFF", "DATE_DIFF", "DATE_ADD", "DATE_SUB", "AGE", "EPOCH", "MAKE_DATE"), _DATES),
    **dict.fromkeys(("DAYOFWEEK", "WEEKDAY", "DAYNAME"), "write ISODOW(day): 1 is Monday, 7 is Sunday"),
    **dict.fromkeys(("WEEK", "WEEKOFYEAR", "DAYOFYEAR"), "write DATE_TRUNC('week', day), or MONTH(day)"),
    "COUNT_IF": "write COUNT(*) FILTER (WHERE x > 1)",
    "COUNTIF": "write COUNT(*) FILTER (WHERE x > 1)",
    "APPROX_COUNT_DISTINCT": "write COUNT(DISTINCT x): it is exact before the noise",
    "GROUPING": "leave it out: the key of a row of totals is `(total)`",
    "NULLIF": "write CASE WHEN x <> 0 THEN x END",
    "SIGN": "write CASE WHEN x > 0 THEN 1 WHEN x < 0 THEN -1 ELSE 0 END",
    "TRUNC": "write FLOOR(x), or CEIL(x) below zero",
    "MODE": "write COUNT(*) with GROUP BY x, ORDER BY COUNT(*) DESC and LIMIT 1",
    "MAD": "write QUANTILE_CONT(x, [0.25, 0.75]) and look at their distance",
    "REGR_SLOPE": "write COVAR_POP(y, x) AS c and VAR_POP(x) AS v and divide the answers, or learn a model (`model:`)",
    "REGR_INTERCEPT": "learn a model (`model:` in the job file)",
    "REGR_R2": "write CORR(y, x) and square the answer",
}


_CASTS = {
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPNTZ", "DATETIME", "DATE", "TIME"), _DAY),
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), "leave it out: a key is shown as it is, GROUP BY day"),
    "BOOLEAN": "write a comparison, as in x <> 0",
}


def refusal_of(node: exp.Expr) -> tuple[str, str, str] | None:
    """Return code, message and hint of a node that has a rewrite of its own, or None."""
    if type(node) in {exp.Cast, exp.TryCast}:
        of = node.args.get("to")
        target = of.this.name if isinstance(of, exp.DataType) else ""
        plain = "leave it out: numbers are exact here; of a condition write CASE WHEN c THEN 1 ELSE 0 END"
        return "unknown_function", "a cast is not in the language", _CASTS.get(target, plain)
    return HINTS.get(type(node))


_MIXED = {
    "a date": _DAY,
    "a truth value": "write `x` or `NOT x`; where a number is meant CASE WHEN x THEN 1 ELSE 0 END",
    "a text": "write numbers without quotes, and texts with them",
}


def mixed_hint(*kinds: str) -> str:
    """Return what to write where several types stand that must be one."""
    return next((hint for kind, hint in _MIXED.items() if kind in kinds), "give every part the same type")


_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | dict.fromkeys("‘’", "'")
_WIDE |= {**dict.fromkeys("“”", '"'), "、": ",", "。": ".", "\u3000": " "}


def wide_hint(found: str, otherwise: str) -> str:
    """Return what to write where a full-width sign stands that an input method wrote, else `otherwise`."""
    wide = next((sign for sign in found if sign in _WIDE), None)
    return otherwise if wide is None else f"`{wide}` is full-width: write `{_WIDE[wide]}`"


def rewrite_of(name: str, known: str) -> str:
    """Return what to write in place of a function, or else which there are.

    Args:
        name: as the question writes it.
        known: the functions of the language that could stand there.
    """
    return _WRITTEN.get(name.upper(), f"known are {known}")


def names_hint(name: str, known: Sequence[str], what: str) -> str:
    """Return the public names that there are, the nearest to a mistaken one first.

    Args:
        name: what the question writes.
        known: the names.
        what: as in `the columns are`.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    listed = f"{what} {', '.join(known[:40])}"
    return f"is it `{near[0]}`? {listed}" if near else listed
