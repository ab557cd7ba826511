"""SmartNoise SQL over DuckDB: bound of 10 rows a person, eps 1 a column, delta 1e-7; it has no quantiles."""
# requires: smartnoise-sql==1.0.10 duckdb<2 pyarrow setuptools<81

import json
import statistics
import sys
import time
import warnings

warnings.simplefilter("ignore")

import duckdb  # noqa: E402
from snsql import Privacy, from_connection  # noqa: E402

PATH, REPEATS = sys.argv[1], int(sys.argv[2])
SLOW_S = 15
"""A question that takes longer is asked once: nothing is to be gained by warming up."""
connection = duckdb.connect(config={"threads": "2"})
connection.execute("CREATE SCHEMA PUB")
connection.execute(f"CREATE TABLE PUB.events AS SELECT * FROM read_parquet('{PATH}')")


class Cursor:
    """A cursor that can be iterated, as the reader wants it."""

    def __init__(self):
        self.inner = connection.cursor()

    def execute(self, sql):
        self.inner.execute(sql)
        return self

    @property
    def description(self):
        return self.inner.description

    def __iter__(self):
        return iter(self.inner.fetchall())

    def close(self):
        self.inner.close()


class Held:
    """The connection, without the transactions that the reader thinks every database has open."""

    def cursor(self):
        return Cursor()

    def rollback(self):
        pass

    def commit(self):
        pass

    def close(self):
        pass


META = {
    "": {
        "PUB": {
            "events": {
                "row_privacy": False,
                "max_ids": 10,
                "sample_max_ids": True,
                "censor_dims": True,
                "clamp_counts": False,
                "person": {"type": "int", "private_id": True},
                "district": {"type": "string"},
                "category": {"type": "string"},
                "amount": {"type": "float", "lower": 0.0, "upper": 200.0},
                "age": {"type": "int", "lower": 0, "upper": 100},
            }
        }
    }
}


def reader():
    return from_connection(Held(), privacy=Privacy(epsilon=1.0, delta=1e-7), metadata=META, engine="postgres")


QUESTIONS = {
    "count": "SELECT COUNT(*) AS n FROM PUB.events",
    "by_district": "SELECT district, COUNT(*) AS n, SUM(amount) AS s FROM PUB.events GROUP BY district",
    "by_category": "SELECT category, COUNT(*) AS n FROM PUB.events GROUP BY category",
    "persons": "SELECT COUNT(DISTINCT person) AS n FROM PUB.events",
}
times = {}
for name, sql in QUESTIONS.items():
    start = time.perf_counter()
    try:
        reader().execute(sql)
    except Exception as error:  # noqa: BLE001 (a peer may fail in any way; it is skipped with its word)
        print(name, type(error).__name__, str(error)[:300], file=sys.stderr)
        continue
    runs = [time.perf_counter() - start]
    if runs[0] < SLOW_S:
        # The first run was to warm up.
        runs.clear()
    for _ in range(0 if runs else REPEATS):
        start = time.perf_counter()
        reader().execute(sql)
        runs.append(time.perf_counter() - start)
    times[name] = statistics.median(runs)
    print(json.dumps(times), flush=True)
