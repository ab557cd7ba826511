# ruff: noqa: Q000, Q001 - the programs hold quotes of both kinds
"""Honest programs in shapes that a data engineer writes without thinking of a sandbox."""

from tests.support.honest import ASK, HEAD, body

PROGRAMS = {
    "decorators": HEAD + '''
from functools import lru_cache

def rounded(digits):
    def wrap(function):
        def inner(*args, **kwargs):
            return round(function(*args, **kwargs), digits)
        return inner
    return wrap

@lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@rounded(2)
def share(part, whole):
    return part / whole

def analyze(data):
''' + ASK + '''
    return {"f": fib(30), "s": {"s": [share(v, t["visits"].sum()) for v in t["visits"].head(3)]}}
''',
    "dataclasses": HEAD + '''
from dataclasses import dataclass, field, replace, asdict

@dataclass(frozen=True)
class Band:
    """A band of visits."""
    low: int
    high: int
    label: str = "other"

    def holds(self, n: int) -> bool:
        return self.low <= n < self.high

@dataclass
class Report:
    name: str
    rows: list = field(default_factory=list)

    def add(self, row):
        self.rows.append(row)

def analyze(data):
''' + ASK + '''
    bands = [Band(0, 200, "small"), Band(200, 10_000)]
    bands[1] = replace(bands[1], label="large")
    report = Report("bands")
    for row in t.itertuples():
        band = next(b for b in bands if b.holds(row.visits))
        report.add((row.district, band.label))
    frame = pd.DataFrame(report.rows, columns=["district", "band"])
    return {"b": frame.value_counts().reset_index(), "same": int(bands[0] == Band(0, 200, "small")), "d": {"k": list(asdict(bands[0]))}}
''',
    "inheritance_and_super": HEAD + '''
from abc import ABC, abstractmethod

class Metric(ABC):
    name = "?"

    def __init__(self, column):
        self.column = column

    @abstractmethod
    def of(self, frame):
        ...

    @property
    def label(self):
        return f"{self.name}({self.column})"

class Mean(Metric):
    name = "mean"

    def of(self, frame):
        return frame[self.column].mean()

class Trimmed(Mean):
    name = "trimmed"

    def __init__(self, column, cut=0.1):
        super().__init__(column)
        self.cut = cut

    def of(self, frame):
        low, high = frame[self.column].quantile([self.cut, 1 - self.cut])
        return super().of(frame[frame[self.column].between(low, high)])

def analyze(data):
''' + ASK + '''
    metrics = [Mean("visits"), Trimmed("visits", cut=0.2)]
    return {"m": {"label": [m.label for m in metrics], "value": [float(m.of(t)) for m in metrics]}}
''',
    "match_on_mappings_and_classes": HEAD + '''
def price(rule):
    match rule:
        case {"kind": "flat", "amount": amount}:
            return amount
        case {"kind": "rate", "rate": rate, **rest}:
            return rate * 100 + len(rest)
        case [first, *others] if others:
            return first + sum(others)
        case int() | float():
            return rule
        case str() as text:
            return len(text)
        case _:
            return None

def analyze(data):
    rules = [{"kind": "flat", "amount": 3}, {"kind": "rate", "rate": 0.5, "x": 1}, [1, 2, 3], 7, 2.5, "four", None]
    return {"p": {"p": [price(r) for r in rules]}}
''',
    "main_guard_and_logging": HEAD + '''
import logging
import warnings

warnings.filterwarnings("ignore")
logger = logging.getLogger(__name__)

def analyze(data):
''' + ASK + '''
    logger.info("rows %s", len(t))
    logging.warning("done")
    return {"n": len(t)}

if __name__ == "__main__":
    print("run by hand")
''',
    "regular_expressions": HEAD + '''
import re

CODE = re.compile(r"^([A-Z])[a-z]+")

def analyze(data):
''' + ASK + '''
    t["first"] = [CODE.match(d).group(1) if CODE.match(d) else "" for d in t["district"]]
    t["clean"] = t["district"].map(lambda d: re.sub(r"[aeiou]", "", d))
    return {"t": t[["first", "clean"]].drop_duplicates(), "n": len(re.findall(r"i", " ".join(t["district"])))}
''',
    "json_and_copy": HEAD + '''
import copy
import json
import operator
import string

def analyze(data):
''' + ASK + '''
    settings = json.loads('{"top": 2, "by": "visits"}')
    other = copy.deepcopy(settings)
    other["top"] = 1
    best = sorted(t.to_dict("records"), key=operator.itemgetter("visits", "month"), reverse=True)[: settings["top"]]
    return {"top": {"d": [b["district"] for b in best]}, "text": {"j": [json.dumps(other, sort_keys=True)]}, "l": {"a": list(string.ascii_lowercase[:3])}}
''',
    "assign_and_eval": body(
        'u = (t.assign(rate=lambda d: d["cost"] / d["visits"], year=lambda d: d["month"].str[:4].astype(int))',
        '      .loc[lambda d: d["rate"].notna()]', '      .groupby(["district", "year"], as_index=False)',
        '      .agg(rate=("rate", "mean"), n=("visits", "size")))', 'return {"u": u.round(6)}',
    ),
    "pipe_and_masks": body(
        'def top(frame, n):', '    return frame.nlargest(n, "visits")',
        'busy = t[(t["visits"] > 200) & (t["district"] != "Gulou")]',
        'return {"b": busy.pipe(top, 3)[["district", "visits"]], "g": t.groupby("district").pipe(lambda g: g["visits"].sum())}',
    ),
    "format_and_percent": body(
        'lines = ["{:<9}|{:>6.1f}".format(d, v) for d, v in t.groupby("district")["visits"].mean().items()]',
        'old = ["%s has %d" % (d, n) for d, n in t["district"].value_counts().sort_index().items()]',
        'return {"l": {"x": lines}, "o": {"x": old}, "n": {"x": ["{name}: {n:,}".format(name="all", n=12345)]}}',
    ),
    "numpy_linear_algebra": body(
        'A = t.pivot_table(index="district", columns="month", values="visits").to_numpy(dtype=float)',
        'u, s, vt = np.linalg.svd(A - A.mean(axis=0), full_matrices=False)',
        'cov = np.cov(A)', 'w, v = np.linalg.eigh(cov)', 'q, r = np.linalg.qr(A[:, :3])',
        'x = np.linalg.solve(np.eye(4) + cov / cov.max(), np.ones(4))',
        'return {"s": {"s": s.round(6).tolist()}, "w": {"w": w.round(4).tolist()}, "x": {"x": x.round(8).tolist()}, "r": float(np.abs(np.diag(r)).round(6).sum()), "n": float(np.linalg.norm(A, ord="fro"))}',
    ),
    "plotting_data": body(
        'counts, edges = np.histogram(t["visits"], bins=np.arange(100, 600, 50))',
        'mid = (edges[:-1] + edges[1:]) / 2', 'kde = [float(np.exp(-0.5 * ((t["visits"] - m) / 40) ** 2).sum()) for m in mid]',
        'box = t.groupby("district")["visits"].quantile([0.25, 0.5, 0.75]).unstack()',
        'ecdf = t["visits"].sort_values().reset_index(drop=True).to_frame().assign(p=lambda d: (d.index + 1) / len(d))',
        'return {"hist": {"mid": mid, "n": counts}, "kde": {"k": kde}, "box": box, "ecdf": ecdf.iloc[::8]}',
    ),
    "resample_and_shift": body(
        's = t.assign(day=pd.to_datetime(t["month"])).set_index("day").groupby("district")["visits"].resample("QE").sum()',
        'wide = s.unstack(0)', 'growth = wide.pct_change().mul(100).round(2)', 'lag = wide.shift(1).rolling(2, min_periods=1).mean()',
        'return {"g": growth, "lag": lag, "best": growth.mean().idxmax() == "Gulou" and 1 or 0}',
    ),
    "chunks_and_recursion": HEAD + '''
from itertools import islice

def chunks(values, size):
    it = iter(values)
    while chunk := list(islice(it, size)):
        yield chunk

def flatten(tree):
    for node in tree:
        if isinstance(node, (list, tuple)):
            yield from flatten(node)
        else:
            yield node

def analyze(data):
''' + ASK + '''
    sums = [sum(c) for c in chunks(t["visits"].tolist(), 7)]
    return {"s": {"s": sums}, "f": {"f": list(flatten([1, [2, (3, [4])], 5]))}}
''',
    "constants_and_lambdas": '''
import numpy as np
import pandas as pd
from collections import defaultdict, namedtuple

LIMITS = {"low": (0, 200), "high": (200, np.inf)}
PICK = lambda n: next(name for name, (a, b) in LIMITS.items() if a <= n < b)

Point = namedtuple("Point", ["x", "y"])

def analyze(data) -> dict[str, pd.DataFrame]:
    t = data.ask("SELECT ...").table
    found: dict[str, list[int]] = defaultdict(list)
    for n in t["visits"]:
        found[PICK(n)].append(int(n))
    p = Point(1.5, 0.0)
    return {"n": {"name": list(found), "n": [len(v) for v in found.values()]}, "p": {"p": [p.x, p.y, *p]}}
''',
    "errors_of_its_own": HEAD + '''
class BadDistrict(ValueError):
    def __init__(self, name, *, code=None):
        super().__init__(f"bad district {name}")
        self.name = name
        self.code = code

def look_up(t, name):
    try:
        return t.loc[t["district"] == name, "visits"].iloc[0]
    except IndexError as error:
        raise BadDistrict(name, code=7) from error
    finally:
        pass

def analyze(data):
''' + ASK + '''
    said = []
    for name in ("Gulou", "Nowhere"):
        try:
            look_up(t, name)
        except BadDistrict as error:
            said.append(f"{error} {error.name} {error.code}")
        else:
            said.append("fine")
    return {"s": {"s": said}}
''',
}  # fmt: skip
