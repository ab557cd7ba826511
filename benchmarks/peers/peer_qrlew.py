"""Qrlew: it rewrites SQL to SQL that DuckDB runs, noise included; eps 1, delta 1e-7; it has no quantiles.

Its COUNT(DISTINCT ...) loses the DISTINCT and its noise is drawn in floats, so the times are not of the same promise.
"""
# requires: pyqrlew duckdb pyarrow

import json
import statistics
import sys
import time

import duckdb
import pyqrlew
import pyqrlew.wrappers

PATH, REPEATS = sys.argv[1], int(sys.argv[2])
SLOW_S = 15
"""A question that takes longer is asked once: nothing is to be gained by warming up."""
connection = duckdb.connect(config={"threads": "2"})
connection.execute(f"CREATE TABLE events AS SELECT * FROM read_parquet('{PATH}')")
ROWS = connection.execute("SELECT count(*) FROM events").fetchone()[0]


def field(name, kind, properties):
    return {"name": name, "type": {"name": kind[0].upper() + kind[1:], kind: properties, "properties": {}}}


INTEGER = {"base": "INT64", "min": "-9223372036854775808", "max": "9223372036854775807", "possible_values": []}
SCHEMA = {
    "@type": "sarus_data_spec/sarus_data_spec.Schema",
    "uuid": "1",
    "dataset": "2",
    "name": "bench",
    "type": {
        "name": "Union",
        "union": {
            "fields": [
                {
                    "name": "events",
                    "type": {
                        "name": "Struct",
                        "struct": {
                            "fields": [
                                field("person", "integer", INTEGER),
                                field("district", "text", {"encoding": "UTF-8"}),
                                field("category", "text", {"encoding": "UTF-8"}),
                                field(
                                    "amount",
                                    "float",
                                    {"base": "FLOAT64", "min": 0.0, "max": 200.0, "possible_values": []},
                                ),
                            ]
                        },
                        "properties": {},
                    },
                }
            ]
        },
        "properties": {"public_fields": "[]"},
    },
    "privacy_unit": {"label": "privacy_unit", "paths": [], "properties": {}},
    "properties": {"max_max_multiplicity": "1"},
}
DATASET = {
    "@type": "sarus_data_spec/sarus_data_spec.Dataset",
    "uuid": "2",
    "name": "bench",
    "spec": {},
    "properties": {},
}
SIZE = {
    "@type": "sarus_data_spec/sarus_data_spec.Size",
    "uuid": "3",
    "dataset": "2",
    "name": "sizes",
    "statistics": {
        "name": "Union",
        "union": {
            "fields": [
                {
                    "name": "events",
                    "statistics": {
                        "name": "Struct",
                        "size": str(ROWS),
                        "multiplicity": 1.0,
                        "struct": {"fields": [], "size": str(ROWS), "multiplicity": 1.0},
                    },
                }
            ]
        },
    },
    "properties": {},
}
dataset = (
    pyqrlew.Dataset.from_str(json.dumps(DATASET), json.dumps(SCHEMA), json.dumps(SIZE))
    if hasattr(pyqrlew.Dataset, "from_str")
    else pyqrlew.Dataset(json.dumps(DATASET), json.dumps(SCHEMA), json.dumps(SIZE))
)
QUESTIONS = {
    "count": "SELECT count(*) AS n FROM events",
    "by_district": "SELECT district, count(*) AS n, sum(amount) AS s, avg(amount) AS m FROM events GROUP BY district",
    "by_category": "SELECT category, count(*) AS n FROM events GROUP BY category",
}


def ask(sql):
    relation = dataset.relation(sql)
    rewritten = relation.rewrite_with_differential_privacy(
        dataset, [("events", [], "person")], {"epsilon": 1.0, "delta": 1e-7}
    ).relation()
    connection.execute(rewritten.to_query()).fetchall()


times = {}
for name, sql in QUESTIONS.items():
    start = time.perf_counter()
    try:
        ask(sql)
    except BaseException as error:  # noqa: BLE001 (a peer may fail in any way; it is skipped with its word)
        print(name, type(error).__name__, str(error)[:300], file=sys.stderr)
        continue
    runs = [time.perf_counter() - start]
    if runs[0] < SLOW_S:
        # The first run was to warm up.
        runs.clear()
    for _ in range(0 if runs else REPEATS):
        start = time.perf_counter()
        ask(sql)
        runs.append(time.perf_counter() - start)
    times[name] = statistics.median(runs)
    print(json.dumps(times), flush=True)
