# ruff: noqa: Q001 - the programs hold quotes of both kinds
"""Honest programs that use much of the language: classes, generators, closures, `match`, `with`, `try`."""

from tests.support.honest import HEAD

PROGRAMS = {
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
