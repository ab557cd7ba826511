# ruff: noqa: Q000, Q001 - the programs hold quotes of both kinds
"""Ordinary data-science programs run unchanged: the same outputs as in plain Python, byte for byte."""

import json

import pytest

from sandbox.runtime.guest.chance import seed_process
from sandbox.runtime.guest.outputs import write_outputs
from sandbox.runtime.guest.program_api import AskedAnswer
from sandbox.runtime.host.guests import GuestHost, Program

SEED = bytes(range(32))
PARAMETERS = {"year": 2026, "threshold": 0.25, "district": "Gulou", "strict": True, "nothing": None}

COLUMNS = [
    {"name": "district", "role": "key"},
    {"name": "month", "role": "key"},
    {"name": "visits", "role": "value"},
    {"name": "cost", "role": "value"},
]
DISTRICTS = ["Gulou", "Jianye", "Qinhuai", "Xuanwu"]
ROWS = [
    [
        district,
        f"2026-{month:02d}",
        100 * (place + 1) + 7 * month,
        None if (place + month) % 9 == 0 else 3.5 * month + place,
    ]
    for place, district in enumerate(DISTRICTS)
    for month in range(1, 13)
]
ERRORS = [[None, None, 2.5, 0.75] for _ in ROWS]
RECORD = {
    "columns": COLUMNS,
    "rows": ROWS,
    "standard_errors": ERRORS,
    "lower": [[None, None, row[2] - 4.9, None] for row in ROWS],
    "upper": [[None, None, row[2] + 4.9, None] for row in ROWS],
    "loss": {"measure": "zcdp", "amount": "1/8"},
    "notes": ["each person counts with at most 3 rows"],
}

HEAD = "import numpy as np\nimport pandas as pd\n"
ASK = (
    '    t = data.ask("SELECT district, month, COUNT(*) AS visits, AVG(cost) AS cost FROM trips GROUP BY 1, 2").table\n'
)


def body(*lines: str) -> str:
    return HEAD + "def analyze(data):\n" + ASK + "".join(f"    {line}\n" for line in lines)


PROGRAMS = {
    "group_and_sum": body('return {"by": t.groupby("district")["visits"].sum().reset_index()}'),
    "named_aggregation": body(
        'g = t.groupby("district").agg(total=("visits", "sum"), dear=("cost", "max"), months=("month", "nunique"))',
        'return {"g": g.reset_index()}',
    ),
    "aggregation_with_a_list": body(
        'g = t.groupby("district")["visits"].agg(["min", "mean", "max", "std"])', 'return {"g": g.round(3)}'
    ),
    "aggregation_with_functions": body(
        'g = t.groupby("district")["visits"].agg([np.mean, lambda s: s.max() - s.min()])',
        'g.columns = ["mean", "range"]',
        'return {"g": g}',
    ),
    "new_columns": body(
        't["rate"] = t["cost"] / t["visits"]',
        't["rank"] = t["rate"].rank(ascending=False)',
        't["share"] = t["visits"] / t.groupby("month")["visits"].transform("sum")',
        'return {"t": t.sort_values(["month", "district"]).head(10)}',
    ),
    "augmented_items": body(
        't["visits"] += 1', 't["cost"] *= 2.0', "counts = {}",
        'for d in t["district"]:', "    counts[d] = counts.get(d, 0)", "    counts[d] += 1",
        "x = np.zeros(3)", "x[0] += 5", "x[1:] -= 2",
        'return {"t": t.tail(3), "n": sum(counts.values()), "x": {"x": x.tolist()}}',
    ),
    "masks": body(
        'm = (t["visits"] > 200) & ~t["district"].isin(["Gulou"]) | t["cost"].isna()',
        'return {"t": t[m], "n": int(m.sum())}',
    ),
    "loc_and_iloc": body(
        't.loc[t["cost"].isna(), "cost"] = 0.0', 't.iloc[0, 2] = 999', "t.at[1, 'visits'] = 5",
        'return {"t": t.loc[:5, ["district", "visits", "cost"]], "v": t.iat[0, 2]}',
    ),
    "pivot_table": body(
        'p = t.pivot_table(index="district", columns="month", values="visits", aggfunc="sum", margins=True)',
        'return {"p": p}',
    ),
    "melt_and_merge": body(
        'wide = t.pivot(index="district", columns="month", values="visits").reset_index()',
        'long = wide.melt(id_vars="district", var_name="month", value_name="v")',
        'both = t.merge(long, on=["district", "month"], how="inner", validate="one_to_one")',
        'return {"same": int((both["visits"] == both["v"]).sum())}',
    ),
    "dates_and_resampling": body(
        't["when"] = pd.to_datetime(t["month"] + "-01")',
        's = t.groupby("when")["visits"].sum().resample("QS").mean()',
        't["quarter"] = t["when"].dt.quarter', 't["label"] = t["when"].dt.strftime("%b %Y")',
        'return {"s": s, "q": t.groupby("quarter")["visits"].sum(), "l": t[["label"]].drop_duplicates()}',
    ),
    "rolling_windows": body(
        's = t[t["district"] == data.parameters["district"]].set_index("month")["visits"]',
        'r = pd.DataFrame({"m": s.rolling(3).mean(), "e": s.ewm(span=3).mean(), "c": s.expanding().sum()})',
        'return {"r": r}',
    ),
    "missing_values": body(
        'a = t["cost"].fillna(t["cost"].mean())', 'b = t["cost"].interpolate().bfill()',
        'return {"a": a, "b": b, "n": t.isna().sum()}',
    ),
    "text_columns": body(
        't["short"] = t["district"].str.slice(0, 3).str.upper() + "-" + t["month"].str.split("-").str[1]',
        't["has"] = t["district"].str.contains("u|w", regex=True)',
        'return {"t": t[["short", "has"]].drop_duplicates()}',
    ),
    "text_building": body(
        'lines = [f"{d:<10}|{v:>8.1f}|{v / 7:+.2e}" for d, v in t.groupby("district")["visits"].mean().items()]',
        'return {"lines": {"line": lines}, "joined": {"j": [", ".join(lines).title().replace("|", "/")]}}',
    ),
    "cut_and_quantiles": body(
        't["band"] = pd.cut(t["visits"], bins=[0, 150, 300, 1000], labels=["low", "mid", "high"])',
        't["q"] = pd.qcut(t["visits"], 4, labels=False)',
        'return {"b": t.groupby("band", observed=True)["visits"].count(), "q": t["q"].value_counts().sort_index()}',
    ),
    "crosstab": body(
        't["big"] = np.where(t["visits"] > 250, "big", "small")',
        'return {"c": pd.crosstab(t["district"], t["big"]), "n": pd.crosstab(t["district"], t["big"], normalize="index")}',
    ),
    "correlation_and_describe": body('return {"c": t[["visits", "cost"]].corr(), "d": t.describe()}'),
    "linear_regression": body(
        'ok = t.dropna()', 'X = np.column_stack([np.ones(len(ok)), ok["visits"].to_numpy(dtype="float64")])',
        'b, *_ = np.linalg.lstsq(X, ok["cost"].to_numpy(), rcond=None)',
        'r2 = 1 - ((ok["cost"] - X @ b) ** 2).sum() / ((ok["cost"] - ok["cost"].mean()) ** 2).sum()',
        'return {"b0": round(float(b[0]), 9), "b1": round(float(b[1]), 9), "r2": round(float(r2), 9)}',
    ),
    "standard_errors_and_intervals": HEAD + '''
def analyze(data):
    a = data.ask("SELECT ...", share="1/2", rows=3)
    low, high = a.lower["visits"], a.upper["visits"]
    width = (high - low).mean()
    relative = (a.standard_errors["visits"] / a.table["visits"]).max()
    return {"width": width, "relative": relative, "loss": {"k": list(a.loss.keys()), "v": list(a.loss.values())},
            "notes": {"n": a.notes}}
''',
    "classes_with_state": HEAD + '''
class Account:
    """Running totals."""
    kind = "plain"

    def __init__(self, name: str, start: float = 0.0):
        self.name = name
        self.total = start
        self.seen = []

    def add(self, amount):
        self.total += amount
        self.seen.append(amount)
        return self

    @property
    def mean(self):
        return self.total / len(self.seen)

    @staticmethod
    def scale(x):
        return x * 2

    def __len__(self):
        return len(self.seen)

    def __repr__(self):
        return f"Account({self.name})"

class Doubled(Account):
    def add(self, amount):
        self.total += self.scale(amount)
        self.seen.append(amount)
        return self

def analyze(data):
    accounts = [Account("a"), Doubled("b", start=1.0)]
    for account in accounts:
        for amount in (1, 2, 3.5):
            account.add(amount)
    return {"t": {"name": [str(x) for x in accounts], "total": [x.total for x in accounts],
                  "mean": [x.mean for x in accounts], "n": [len(x) for x in accounts], "k": [x.kind for x in accounts]}}
''',
    "generators_and_comprehensions": '''
def primes(limit):
    seen = set()
    for n in range(2, limit):
        if n not in seen:
            yield n
            seen.update(range(n * n, limit, n))

def analyze(data):
    p = list(primes(60))
    squares = {n: n**2 for n in p if n % 2}
    pairs = [(a, b) for a, b in zip(p, p[1:]) if b - a == 2]
    return {"p": {"p": p}, "s": {"n": list(squares), "sq": list(squares.values())},
            "twins": {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}, "t": sum(x for x in p)}
''',
    "try_and_raise": '''
class Unusable(ValueError):
    pass

def safe(a, b):
    try:
        return a / b
    except ZeroDivisionError as error:
        return str(error)
    except (TypeError, KeyError):
        return "type"
    finally:
        pass

def analyze(data):
    out = [safe(1, 2), safe(1, 0), safe("a", 1)]
    try:
        raise Unusable("no", 3)
    except ValueError as error:
        out.append(error.args[0])
    else:
        out.append("else")
    return {"o": {"o": [str(x) for x in out]}}
''',
    "refused_question": '''
def analyze(data):
    notes = []
    try:
        data.ask("REFUSE ME")
    except QuestionRefused as refusal:
        notes = [refusal.code, refusal.message, refusal.hint, str(refusal)]
    return {"n": {"n": notes}}
''',
    "match_statement": '''
def kind(x):
    match x:
        case 0:
            return "zero"
        case 1 | 2 | -1:
            return "small"
        case "a":
            return "letter"
        case [first, *rest]:
            return f"list of {first} and {len(rest)}"
        case None:
            return "nothing"
        case other if other > 100:
            return "large"
        case _:
            return "else"

def analyze(data):
    return {"k": {"k": [kind(x) for x in (0, 2, -1, "a", [5, 6, 7], None, 101, 50)]}}
''',
    "walrus_and_lambda": '''
def analyze(data):
    values = [3, 1, 2]
    if (n := len(values)) > 2:
        ordered = sorted(values, key=lambda v: -v)
    while (last := ordered.pop()) < 3:
        n += last
    return {"n": n, "m": max(map(lambda v: v * 2, values))}
''',
    "closures_and_nonlocal": '''
def counter():
    count = 0
    def step(by=1):
        nonlocal count
        count += by
        return count
    return step

TOTAL = 0

def bump():
    global TOTAL
    TOTAL += 5

def analyze(data):
    step = counter()
    step()
    bump()
    return {"c": step(by=4), "t": TOTAL}
''',
    "star_arguments": '''
def f(a, *rest, scale=1, **named):
    return a + sum(rest) * scale + sum(named.values())

def analyze(data):
    args, kwargs = [1, 2, 3], {"scale": 2, "x": 10}
    first, *middle, last = range(6)
    (a, b), c = (1, 2), 3
    merged = {**kwargs, "y": 1}
    return {"f": f(*args, **kwargs), "m": {"m": [first, last, *middle, a, b, c]}, "k": {"k": list(merged)}}
''',
    "type_hints": '''
from __future__ import annotations
from typing import Optional

def mean(values: list[float], default: Optional[float] = None) -> float | None:
    total: float = 0.0
    count: int
    for value in values:
        total += value
    return total / len(values) if values else default

def analyze(data) -> dict[str, object]:
    result: dict = {"m": mean([1.0, 2.5]), "d": mean([], 4.0)}
    return result
''',
    "collections_and_itertools": '''
from collections import Counter, defaultdict, deque, namedtuple
from itertools import accumulate, chain, combinations, groupby, product
from functools import lru_cache, partial, reduce

Point = namedtuple("Point", "x y")

@lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def analyze(data):
    c = Counter("mississippi")
    c["s"] += 1
    d = defaultdict(list)
    for key, value in chain([("a", 1)], [("b", 2), ("a", 3)]):
        d[key].append(value)
    q = deque(maxlen=2)
    for i in range(4):
        q.append(i)
    p = Point(3, 4)
    runs = [(k, len(list(g))) for k, g in groupby("aabccc")]
    return {"c": {"k": [k for k, _ in c.most_common(2)]}, "d": {"a": d["a"]}, "q": {"q": list(q)}, "p": p.x * p.y,
            "fib": fib(40), "acc": {"a": list(accumulate([1, 2, 3]))}, "n": len(list(product("ab", repeat=3))),
            "r": {"k": [k for k, _ in runs], "n": [n for _, n in runs]}, "m": reduce(lambda a, b: a * b, [1, 2, 3, 4]),
            "add": partial(pow, 2)(5), "comb": len(list(combinations(range(5), 2)))}
''',
    "math_and_statistics": '''
import math
import statistics as st
from fractions import Fraction
from decimal import Decimal
from datetime import date, timedelta

def analyze(data):
    xs = [2.0, 4.0, 4.0, 5.0, 9.0]
    start = date(data.parameters["year"], 1, 31) + timedelta(days=1)
    return {"a": math.sqrt(2) + math.comb(5, 2) + math.pi, "m": st.median(xs), "s": st.stdev(xs),
            "q": {"q": st.quantiles(xs)}, "z": st.NormalDist(0, 1).inv_cdf(0.975), "f": float(Fraction(1, 3) + 1),
            "d": float(Decimal("0.10") + Decimal("0.20")), "when": {"w": [start.isoformat(), start.strftime("%d/%m")]},
            "wd": start.weekday()}
''',
    "seeded_chance": HEAD + '''
import random

def analyze(data):
    rng = np.random.default_rng(7)
    np.random.seed(3)
    random.seed(11)
    boot = [rng.choice([1, 2, 3, 4], size=4).mean() for _ in range(20)]
    frame = pd.DataFrame({"x": range(10)}).sample(4, random_state=5)
    return {"b": float(np.mean(boot)), "n": float(np.random.normal()), "r": random.randint(1, 1000), "f": frame,
            "p": {"p": rng.permutation(5).tolist()}}
''',
    "chance_from_the_job": HEAD + '''
import random

def analyze(data):
    items = list(range(8))
    random.shuffle(items)
    return {"a": random.random(), "b": float(np.random.rand()), "s": {"s": items},
            "f": pd.Series(range(20)).sample(3)}
''',
    "numpy_arrays": HEAD + '''
def analyze(data):
    a = np.arange(12, dtype=np.float64).reshape(3, 4)
    a[1, :] = -1
    a[a < 0] = 0.5
    m = np.linalg.inv(a[:, :3].T @ a[:, :3] + np.eye(3))
    h, edges = np.histogram(a, bins=4)
    return {"m": pd.DataFrame(m.round(6), columns=list("xyz")), "h": {"h": h.tolist()}, "e": {"e": edges.tolist()},
            "s": a.sum(axis=0).max(), "i": int(np.argmax(a)), "w": {"w": np.where(a > 5, 1, 0).ravel().tolist()},
            "p": {"p": np.percentile(a, [10, 50, 90]).tolist()}, "k": {"k": np.unique(a.astype(int)).tolist()}}
''',
    "apply_rows": body(
        "def label(row):", '    return f"{row.district}/{row[\'month\']}" if row.visits > 150 else "small"',
        't["label"] = t.apply(label, axis=1)', 't["double"] = t["visits"].apply(lambda v: v * 2).map({214: "x"})',
        'return {"t": t.head(8), "m": t["visits"].map(str).str.len().sum()}',
    ),
    "itertuples_and_iterrows": body(
        "total = 0", "for row in t.itertuples(index=False):", "    total += row.visits",
        "names = [row['district'] for _, row in t.iterrows()]",
        'return {"t": total, "n": len(set(names))}',
    ),
    "attribute_columns": body('return {"a": t.visits.mean(), "b": t[t.district == "Gulou"].visits.max()}'),
    "index_work": body(
        's = t.set_index(["district", "month"])["visits"]', 'u = s.unstack("month")', 'u.columns.name = None',
        'u.index = u.index.str.lower()', 'return {"u": u.iloc[:, :3], "x": s.xs("Gulou").max(), "l": u.stack().loc["gulou"].sum()}',
    ),
    "concat_and_duplicates": body(
        'both = pd.concat([t, t], ignore_index=True)', 'both = both.drop_duplicates().drop(columns=["cost"])',
        'both = both.rename(columns={"visits": "n"}).assign(k=lambda f: f["n"] * 2)',
        'return {"b": both.nlargest(3, "n"), "shape": {"s": list(both.shape)}}',
    ),
    "categories": body(
        't["c"] = t["district"].astype("category").cat.reorder_categories(["Xuanwu", "Qinhuai", "Jianye", "Gulou"])',
        'return {"s": t.sort_values("c")[["c", "visits"]].head(3), "codes": t["c"].cat.codes.sum()}',
    ),
    "dummies_and_matrix": body(
        'd = pd.get_dummies(t["district"], dtype=int)', "d['all'] = d.sum(axis=1)", 'return {"d": d.head(4)}'
    ),
    "time_zones": HEAD + '''
def analyze(data):
    s = pd.Series(pd.date_range("2026-03-28 20:00", periods=4, freq="6h")).dt.tz_localize("UTC")
    return {"s": s.dt.tz_convert("Asia/Shanghai").dt.strftime("%Y-%m-%d %H:%M %z"), "h": s.dt.tz_convert("Europe/Berlin").dt.hour}
''',
    "groupby_apply_and_filter": body(
        'top = t.groupby("district")[["month", "visits"]].apply(lambda g: g.nlargest(1, "visits"))',
        'busy = t.groupby("district").filter(lambda g: g["visits"].sum() > 2000)',
        'for name, group in t.groupby("district"):', "    last = (name, len(group))",
        'return {"top": top.reset_index(level=0), "busy": busy["district"].unique().size, "l": {"l": list(map(str, last))}}',
    ),
    "growth_and_shift": body(
        's = t.pivot(index="month", columns="district", values="visits")', 'g = s.pct_change().mul(100).round(2)',
        'return {"g": g, "d": s.diff().shift(-1).clip(lower=0).cumsum(), "best": {"b": s.idxmax().tolist()}}',
    ),
    "context_manager": '''
class Section:
    def __init__(self, log):
        self.log = log
    def __enter__(self):
        self.log.append("in")
        return self
    def __exit__(self, kind, error, trace):
        self.log.append("out")
        return False

def analyze(data):
    log = []
    with Section(log) as s:
        s.log.append("body")
    print("this goes nowhere", log)
    return {"l": {"l": log}}
''',
    "parameters": '''
def analyze(data):
    p = data.parameters
    return {"y": p["year"], "t": p["threshold"], "n": {"k": sorted(p), "d": [p.get("district")] * len(p)},
            "s": 1 if p["strict"] and p["nothing"] is None else 0, "missing": p.get("absent", -1)}
''',
    "index_of_inequality": '''
import numpy as np

def gini(values):
    """Gini coefficient of non-negative values."""
    x = np.sort(np.asarray(values, dtype=float))
    n = x.size
    return float((2 * np.arange(1, n + 1) - n - 1).dot(x) / (n * x.sum()))

def analyze(data):
    t = data.ask("SELECT ...").table
    return {"gini": round(gini(t["visits"].clip(lower=0)), 12)}
''',
}  # fmt: skip


class StubData:
    """What `data` is in the guest, without a wire."""

    def __init__(self):
        self.parameters = dict(PARAMETERS)

    def ask(self, sql, share=None, rows=None, groups=None):
        if sql == "REFUSE ME":
            raise StubRefused
        return AskedAnswer(RECORD)


class StubRefused(Exception):  # noqa: N818 - stands for the name that programs catch
    code, message, hint = "privacy.budget", "the budget is spent", "ask less"

    def __str__(self):
        return self.message


def answer(request):
    if request["sql"] == "REFUSE ME":
        return {"ok": False, "code": "privacy.budget", "message": "the budget is spent", "hint": "ask less"}
    return {"ok": True, "answer": RECORD}


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


@pytest.mark.isolation
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_ordinary_program_gives_what_plain_python_gives(host, name):
    source = PROGRAMS[name]
    host.check(source)
    outcome = host.run(Program(source, PARAMETERS, SEED), answer)
    assert outcome.status == "ok", outcome.message
    seed_process(SEED)
    space = {"QuestionRefused": StubRefused, "__name__": "plain"}
    exec(compile(source, "plain", "exec", dont_inherit=True), space)
    expected = write_outputs(space["analyze"](StubData()))
    assert json.dumps(outcome.outputs) == json.dumps(expected)


def test_the_corpus_is_large_enough_to_mean_something():
    assert len(PROGRAMS) >= 40
