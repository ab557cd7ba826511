"""The privacy engine beside plain DuckDB, the textbook window and its peers: medians of several runs, in one process.

    python benchmarks/bench_engine.py                      # a million rows, no peers
    python benchmarks/bench_engine.py --rows 10000000 --peers
    python benchmarks/bench_engine.py --stream 100000000   # memory and time over partitions made one at a time

Ours is measured whole: check, plan, exact integers over partitions in memory, noise, answer.  Texts of partitions are
dictionaries, as the vault stores them and the line hands them on; `--texts` holds them plain.  "table" is DuckDB over
its own table in memory, "parquet" over a Parquet file, "window" the textbook bound over that table (a window by person
in a stored random order), without noise.  All of them use two threads.  Runs are interleaved, so load falls on all.
Beside each bar stands what was measured, as a multiple of what the bar speaks of.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import duckdb

from benchmarks import generate
from benchmarks.peers import run as peers
from sandbox.compute.joint import Joint
from sandbox.compute.noise_pool import ThreadedNoise
from sandbox.compute.pool import HeldPartitions, ThreadPool
from sandbox.errors import BoundError, QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.privacy.accounting import loss_from_epsilon
from sandbox.privacy.check import check_question
from sandbox.privacy.measure import measure
from sandbox.privacy.plan import plan_query

THREADS, BOUND = 2, 10
LOSS = loss_from_epsilon(Fraction(1), Fraction(1, 10**7))


SECOND = "s"


@dataclass(frozen=True)
class Bar:
    """Ours takes at most `factor` times what `of` takes: a column of the table, or one second."""

    factor: float
    of: str

    def ratio(self, times: dict[str, float]) -> float:
        return times["ours"] / (1.0 if self.of == SECOND else times[self.of])

    def shown(self, times: dict[str, float]) -> str:
        ratio = self.ratio(times)
        return f"{ratio:.3g} of {self.factor:g} {self.of}: {'held' if ratio <= self.factor else 'MISSED'}"


@dataclass(frozen=True)
class Row:
    """One line of the table: our question, the same in plain SQL over `{t}` and the register `{p}`, and its bars."""

    name: str
    ours: str
    plain: str
    bars: tuple[Bar, ...]
    peer: str = ""


BEST_PEER = 20
"""The best peer takes at least so many times as long, in the median question."""
_DAY = "DATE '2020-01-30'"
ROWS = (
    Row(
        "count, sum, mean by district",
        "SELECT district, COUNT(*) AS n, SUM(amount) AS s, AVG(amount) AS m FROM events GROUP BY district",
        "SELECT district, count(*), sum(amount), avg(amount) FROM {t} GROUP BY 1",
        (Bar(1.5, "parquet"),),
        "by_district",
    ),
    Row(
        "variance by district",
        "SELECT district, VARIANCE(amount) AS v FROM events GROUP BY district",
        "SELECT district, var_samp(amount) FROM {t} GROUP BY 1",
        (Bar(1.5, "parquet"),),
    ),
    Row(
        "plain count of rows",
        "SELECT COUNT(*) AS n FROM events",
        "SELECT count(*) FROM {t}",
        (Bar(0.05, SECOND),),
        "count",
    ),
    Row(
        "the same, a month's WHERE",
        f"SELECT district, COUNT(*) AS n, SUM(amount) AS s, AVG(amount) AS m FROM events WHERE day < {_DAY} "
        "GROUP BY district",
        f"SELECT district, count(*), sum(amount), avg(amount) FROM {{t}} WHERE day < {_DAY} GROUP BY 1",
        (Bar(8, "parquet"), Bar(0.25, "window")),
    ),
    Row(
        "all rows, rescaled by person",
        "SELECT district, COUNT(*) AS n, SUM(amount) AS s, AVG(amount) AS m FROM events GROUP BY district "
        "SETTINGS bounding = 'rescale'",
        "SELECT district, count(*), sum(amount), avg(amount) FROM {t} GROUP BY 1",
        (Bar(0.5, "window"),),
    ),
    Row(
        "count by 200 private categories",
        "SELECT category, COUNT(*) AS n FROM events GROUP BY category",
        "SELECT category, count(*) FROM {t} GROUP BY 1",
        (Bar(3, "parquet"),),
        "by_category",
    ),
    Row(
        "count by district x category",
        "SELECT district, category, COUNT(*) AS n FROM events GROUP BY district, category",
        "SELECT district, category, count(*) FROM {t} GROUP BY 1, 2",
        (Bar(3, "parquet"),),
    ),
    Row(
        "count distinct persons",
        "SELECT COUNT(DISTINCT person) AS n FROM events",
        "SELECT count(DISTINCT person) FROM {t}",
        (Bar(1, "parquet"),),
        "persons",
    ),
    Row(
        "median by district",
        "SELECT district, MEDIAN(amount) AS m FROM events GROUP BY district",
        "SELECT district, median(amount) FROM {t} GROUP BY 1",
        (Bar(1.5, "parquet"),),
        "median",
    ),
    Row(
        "a person's total, then by district",
        "WITH p AS (SELECT person, MIN(district) AS district, SUM(amount) AS s FROM events GROUP BY person) "
        "SELECT district, SUM(s) AS s FROM p GROUP BY district",
        "SELECT district, sum(s) FROM (SELECT person, min(district) district, sum(amount) s FROM {t} GROUP BY 1) "
        "GROUP BY 1",
        (Bar(0.5, "window"),),
    ),
    Row(
        "join persons, then group",
        "SELECT home, COUNT(*) AS n, SUM(amount) AS s FROM events JOIN persons USING (person) GROUP BY home",
        "SELECT home, count(*), sum(amount) FROM {t} JOIN {p} USING (person) GROUP BY 1",
        (Bar(1, "parquet"),),
    ),
)


class Pairs:
    """Partitions of two tables of one kind of units, side by side."""

    def __init__(self, left: HeldPartitions, right: HeldPartitions) -> None:
        self._left, self._right = left, right

    @property
    def partition_count(self) -> int:
        return self._left.partition_count

    def partition(self, number: int) -> Joint:
        return Joint((self._left.partition(number), self._right.partition(number)))


class Ours:
    """Our engine over partitions in memory."""

    def __init__(self, size: generate.Size, *, encode: bool = False) -> None:
        self.description = generate.describe(BOUND, BOUND)
        self.tables = {"events": self.description, "persons": generate.describe_persons()}
        self.parts = HeldPartitions(generate.partitions(size), encode=encode)
        register = (generate.persons(size, number) for number in range(size.partitions))
        self.pairs = Pairs(self.parts, HeldPartitions(register, encode=encode))
        self.pool = ThreadPool(THREADS)
        self.noise = ThreadedNoise(THREADS)

    def ask(self, sql: str, loss: PrivacyLoss = LOSS) -> object:
        query = check_question(Question(sql, loss), self.tables)
        plan = plan_query(query, loss)
        parts = self.parts if plan.joined is None else self.pairs
        return measure(plan, self.pool.map_partitions(plan, parts), self.noise).answer


class Plain:
    """DuckDB over its own table and over Parquet; the window needs a stored random order."""

    def __init__(self, path: Path, register: Path) -> None:
        self.parquet, self.register = f"read_parquet('{path}')", f"read_parquet('{register}')"
        self.connection = duckdb.connect(config={"threads": str(THREADS)})
        self.connection.execute(f"CREATE TABLE events AS SELECT *, random() AS r FROM {self.parquet}")
        self.connection.execute(f"CREATE TABLE persons AS SELECT * FROM {self.register}")

    def table(self, sql: str, events: str = "events") -> None:
        self.connection.execute(sql.format(t=events, p="persons")).fetchall()

    def file(self, sql: str) -> None:
        self.connection.execute(sql.format(t=self.parquet, p=self.register)).fetchall()


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure_row(row: Row, ours: Ours, plain: Plain, repeats: int) -> dict[str, float] | str:
    try:
        ours.ask(row.ours)
    except (QueryError, BoundError) as error:
        return f"not asked: {error.message}"
    # The textbook bound comes after the filter, so that it keeps every row that it may.
    before, _, after = row.plain.partition(" WHERE ")
    inner = row.plain if not after else f"{before} GROUP BY 1"
    filtered = f"(SELECT * FROM {{t}} WHERE {after.split(' GROUP BY')[0]})" if after else "{t}"
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours.ask(row.ours),
        "table": lambda: plain.table(row.plain),
        "parquet": lambda: plain.file(row.plain),
        "window": lambda: plain.table(
            inner,
            f"(SELECT * FROM {filtered.format(t='events')} "
            f"QUALIFY row_number() OVER (PARTITION BY person ORDER BY r) <= {BOUND})",
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(seconds(run))
    return {name: statistics.median(times) for name, times in found.items()}


def print_table(rows: int, repeats: int, folder: Path, *, with_peers: bool, encode: bool) -> bool:
    size = generate.Size(rows)
    path = generate.plain_parquet(size, folder)
    ours, plain = Ours(size, encode=encode), Plain(path, generate.plain_persons(size, folder))
    beside: dict[str, dict[str, float]] = peers.times(path, repeats) if with_peers else {}
    names = ["ours", "table", "parquet", "window", *beside]
    print(f"{rows:,} rows of {size.persons:,} persons; seconds, medians of {repeats}; bound {BOUND} rows; eps 1")
    print(f"{'question':36}" + "".join(f"{name[-9:]:>10}" for name in names) + "  bar")
    every, faster = True, []
    for row in ROWS:
        times = measure_row(row, ours, plain, repeats)
        if isinstance(times, str):
            print(f"{row.name:36}  {times}")
            continue
        times |= {name: found[row.peer] for name, found in beside.items() if row.peer in found}
        if found := [found[row.peer] for found in beside.values() if row.peer in found]:
            faster.append((min(found) / times["ours"], row.name))
        bars = [bar for bar in row.bars if bar.of == SECOND or bar.of in times]
        every = every and all(bar.ratio(times) <= bar.factor for bar in bars)
        cells = "".join(f"{times[name]:10.4f}" if name in times else f"{'-':>10}" for name in names)
        print(f"{row.name:36}{cells}  {'; '.join(bar.shown(times) for bar in bars)}", flush=True)
    held = print_peers(faster)
    return every and held


def print_peers(faster: list[tuple[float, str]]) -> bool:
    """Print how many times as long the best peer takes, by question, and hold the median question to its bar."""
    if not faster:
        return True
    print("the best peer takes " + ", ".join(f"{times:.3g}x ({name})" for times, name in faster))
    middle = statistics.median(times for times, _ in faster)
    held = middle >= BEST_PEER
    print(f"in the median of these questions {middle:.3g}x, bar {BEST_PEER}x: {'held' if held else 'MISSED'}")
    return held


def print_fixed_costs(repeats: int) -> None:
    """Print what a tiny question costs beyond DuckDB, what noise costs, and how far it is from the optimum."""
    size = generate.Size(2000, 1000)
    ours = Ours(size, encode=True)
    engine = duckdb.connect(config={"threads": str(THREADS)})
    table = next(iter(generate.partitions(size)))
    engine.register("t", table)
    sql = "SELECT district, COUNT(*) AS n FROM events GROUP BY district"
    mine = statistics.median(seconds(lambda: ours.ask(sql)) for _ in range(10 * repeats))
    text = "SELECT district, count(*) FROM t GROUP BY 1"
    bare = statistics.median(seconds(lambda: engine.execute(text).fetchall()) for _ in range(10 * repeats))
    beyond = 1000 * (mine - bare)
    print(f"tiny question: {1000 * mine:.1f} ms, DuckDB alone {1000 * bare:.1f} ms; {beyond:.1f} of 15 ms beyond it")
    zeros = [0] * 100_000
    for workers in (1, THREADS):
        noise = ThreadedNoise(workers)
        took = statistics.median(
            seconds(lambda n=noise: n.gaussian(zeros, sigma=Fraction(50), sensitivity_squared=1, rho=Fraction(1)))
            for _ in range(max(1, repeats // 2))
        )
        print(f"noise for 100,000 groups, {workers} thread(s): {took:.2f} s")
    plan = plan_query(check_question(Question(sql, LOSS), {"events": ours.description}), LOSS)
    sigma = plan.statistics[0].sigma
    optimum = (BOUND**2 / (2 * float(LOSS.rho))) ** 0.5
    drawn = ThreadedNoise(THREADS).gaussian(
        zeros, sigma=sigma, sensitivity_squared=BOUND**2, rho=plan.statistics[0].rho
    )
    error = (sum(value**2 for value in drawn) / len(drawn)) ** 0.5
    print(f"error of a count: root mean square {error:.3f}, optimum of the mechanism {optimum:.3f}; bar 1.05x")


class Streamed:
    """Partitions that are made when they are asked for, as a vault opens them; making them is not counted."""

    def __init__(self, size: generate.Size) -> None:
        self.size, self.counts, self.making = size, generate.rows_per_person(size), 0.0

    @property
    def partition_count(self) -> int:
        return self.size.partitions

    def partition(self, number: int) -> object:
        start = time.perf_counter()
        table = generate.partition(self.size, number, self.counts)
        self.making += time.perf_counter() - start
        return table


def print_stream(rows: int) -> None:
    """Print time and memory over many partitions, one at a time."""
    size = generate.Size(rows, max(1000, rows // 10))
    description = generate.describe(BOUND, BOUND)
    with ThreadPool(1) as pool:
        for row in (ROWS[0], ROWS[4]):
            parts = Streamed(size)
            plan = plan_query(check_question(Question(row.ours, LOSS), {"events": description}), LOSS)
            whole = seconds(lambda p=plan, s=parts: measure(p, pool.map_partitions(p, s), ThreadedNoise(THREADS)))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"{rows:,} rows, {size.persons:,} persons, {size.partitions} partitions: {row.name}: "
                f"{whole - parts.making:.2f} s, peak memory {peak:.2f} GiB with the generator's; bar 4 GB"
            )


def sizes(text: str) -> Iterator[int]:
    return (int(float(part)) for part in text.split(",") if part)


def main() -> int:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description="the engine side by side with DuckDB and its peers")
    parser.add_argument("--rows", default="1e6", help="sizes, as in 1e6,1e7")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="install the peers below build/peers and run them too")
    parser.add_argument("--texts", action="store_true", help="hold texts plain and not as dictionaries")
    parser.add_argument("--stream", type=float, default=0, help="rows for the measurement of memory")
    parser.add_argument("--strict", action="store_true", help="end with 1 where a bar is missed")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    asked = parser.parse_args()
    held = [
        print_table(rows, asked.repeats, asked.folder, with_peers=asked.peers, encode=not asked.texts)
        for rows in sizes(asked.rows)
    ]
    print_fixed_costs(asked.repeats)
    if asked.stream:
        print_stream(int(asked.stream))
    return int(asked.strict and not all(held))


if __name__ == "__main__":
    sys.exit(main())
