"""OpenDP's own Polars engine: bound of 10 rows a person, eps 1, delta 1e-7.

It plans anew for every release, as its users do.
"""
# requires: opendp[polars]==0.16.0 pyarrow

import json
import statistics
import sys
import time
import warnings

import opendp.prelude as dp
import polars as pl

warnings.simplefilter("ignore")
dp.enable_features("contrib")
PATH, REPEATS = sys.argv[1], int(sys.argv[2])
SLOW_S = 15
"""A question that takes longer is asked once: nothing is to be gained by warming up."""
FRAME = pl.read_parquet(PATH).with_columns(pl.col("amount").clip(0, 200))
DISTRICTS = pl.LazyFrame({"district": [f"d{index:02d}" for index in range(12)]})


def context():
    return dp.Context.compositor(
        data=FRAME.lazy(),
        privacy_unit=dp.unit_of(contributions=10, identifier="person"),
        privacy_loss=dp.loss_of(epsilon=1.0, delta=1e-7),
        split_evenly_over=1,
        margins=[
            dp.polars.Margin(by=[], max_length=20_000_000),
            dp.polars.Margin(by=["district"], max_length=20_000_000, max_groups=12),
            dp.polars.Margin(by=["category"], max_length=20_000_000, max_groups=200),
        ],
    )


def truncated():
    return context().query().truncate_per_group(10)


QUESTIONS = {
    "count": lambda: truncated().select(dp.len()),
    "by_district": lambda: (
        truncated()
        .group_by("district")
        .agg(dp.len(), pl.col("amount").fill_null(0.0).dp.sum((0.0, 200.0)))
        .with_keys(DISTRICTS)
    ),
    "by_category": lambda: truncated().group_by("category").agg(dp.len()),
    "persons": lambda: context().query().truncate_per_group(1).select(dp.len()),
    "median": lambda: (
        truncated()
        .group_by("district")
        .agg(pl.col("amount").fill_null(0.0).dp.median([x / 4 for x in range(801)]))
        .with_keys(DISTRICTS)
    ),
}

times = {}
for name, make in QUESTIONS.items():
    start = time.perf_counter()
    try:
        make().release().collect()
    except Exception as error:  # noqa: BLE001 (a peer may fail in any way; it is skipped with its word)
        print(name, type(error).__name__, str(error)[:200], file=sys.stderr)
        continue
    runs = [time.perf_counter() - start]
    if runs[0] < SLOW_S:
        # The first run was to warm up.
        runs.clear()
    for _ in range(0 if runs else REPEATS):
        start = time.perf_counter()
        make().release().collect()
        runs.append(time.perf_counter() - start)
    times[name] = statistics.median(runs)
    print(json.dumps(times), flush=True)
