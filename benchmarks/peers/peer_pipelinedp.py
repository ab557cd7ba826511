"""PipelineDP on its local backend: 3 groups of 10 rows a person, eps 1, delta 1e-7; one run, since it is slow."""
# requires: pipeline-dp==0.3.1 pyarrow

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import pipeline_dp as pdp  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

TABLE = pq.read_table(sys.argv[1], columns=["person", "district", "category", "amount"])
if len(TABLE) > 3_000_000 and "--long" not in sys.argv:
    print("more than 3,000,000 rows take PipelineDP over ten minutes a question", file=sys.stderr)
    sys.exit(3)
DISTRICTS = [f"d{index:02d}" for index in range(12)]


def rows(key):
    keys = TABLE.column(key).to_pylist() if key else [0] * len(TABLE)
    return list(zip(TABLE.column("person").to_pylist(), keys, TABLE.column("amount").to_pylist(), strict=True))


def release(data, metrics, public):
    accountant = pdp.NaiveBudgetAccountant(total_epsilon=1, total_delta=1e-7)
    engine = pdp.DPEngine(accountant, pdp.LocalBackend())
    asked = pdp.AggregateParams(
        metrics=metrics,
        max_partitions_contributed=3,
        max_contributions_per_partition=10,
        min_value=0.0,
        max_value=200.0,
    )
    take = pdp.DataExtractors(
        privacy_id_extractor=lambda row: row[0],
        partition_extractor=lambda row: row[1],
        value_extractor=lambda row: row[2],
    )
    answer = engine.aggregate(data, asked, take, public_partitions=public)
    accountant.compute_budgets()
    return list(answer)


M = pdp.Metrics
QUESTIONS = {
    "by_district": ("district", [M.COUNT, M.SUM, M.MEAN], DISTRICTS),
    "by_category": ("category", [M.COUNT], None),
    "median": ("district", [M.PERCENTILE(50)], DISTRICTS),
}
times = {}
for name, (key, metrics, public) in QUESTIONS.items():
    data = rows(key)
    start = time.perf_counter()
    release(data, metrics, public)
    times[name] = time.perf_counter() - start
    print(json.dumps(times), flush=True)
