"""The vault against plain snappy Parquet: the same rows, the same machine, the same run.

Run it with `python benchmarks/bench_vault.py` (add `--rows 1000000` for a short look).  Every figure is CPU time, user
and system, of all threads; each line is the median over rounds in which the contestants take turns, so that whatever
else the machine does falls on all alike.  A ratio below 1 means that the vault needs less than plain Parquet.

What is compared.  The table has eight columns in storage types: the unit's token, a time, two counts, two amounts and
two texts.  Plain Parquet keeps it as it came, sorted by time, with pyarrow's defaults (snappy, dictionaries,
statistics) in row groups of 1 Mi rows.  The vault keeps it by unit, with a rank column of its own.  `2 of 8` and
`8 of 8` read the same columns on both sides; `as a job` adds what every job in the vault reads, the token and the
rank, to the vault's side alone.  `pip only` is the gm suite where libgcrypt is absent.

What plain Parquet does not do while it writes: look at every value's bounds again, hash each unit under a key, bring
the rows of a unit together, shuffle them and rank them, write a ninth column, seal and digest.  `write` is all of that;
the bar compares it with the plain write as it stands.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sandbox.crypto import providers
from sandbox.crypto.aead import OpensslSm4Gcm
from sandbox.crypto.keyfile import lock_key, unlock_key
from sandbox.crypto.keys import generate_key
from sandbox.crypto.providers import Choice
from sandbox.crypto.suites import suite as suite_of
from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.vault.opened import OpenedSnapshot
from sandbox.vault.store import Vault

AT = "2027-01-31T08:00:00Z"
PASSPHRASE = "a benchmark's passphrase"
ALL = ("_unit", "ts", "visits", "age", "amount", "score", "district", "category")
TWO = ("district", "amount")
JOB_TWO = ("_unit", "_rank", *TWO)
JOB_ALL = ("_unit", "_rank", *ALL[1:])
ROW_GROUP = 1 << 20
VARIANTS = ("intl", "gm", "gm pip only")
BARS = {
    ("read", "intl"): 1.1, ("read", "gm"): 1.6, ("read", "gm pip only"): 4.5,
    ("query", "intl"): 1.15, ("query", "gm"): 1.5,
    ("write", "intl"): 1.2, ("write", "gm"): 1.2,
    ("size", "intl"): 0.8, ("size", "gm"): 0.8,
    ("memory", "intl"): 1.0, ("memory", "gm"): 1.0,
}  # fmt: skip
SQL_TWO = "SELECT district, count(*), sum(amount) FROM t GROUP BY district"
SQL_ALL = (
    "SELECT district, category, count(*), sum(amount), sum(score), sum(visits), min(age), max(ts), max(_unit) "
    "FROM t GROUP BY district, category"
)


def describe() -> DatasetDescription:
    """Return the description of the table."""

    def column(name: str, kind: ColumnKind, upper: int | None = None, step: Fraction | None = None) -> Column:
        return Column(
            name=name, source=name, kind=kind, label_en=name, label_zh=name, classification="L3", nullable=False,
            null_values=(), lower=None if upper is None else Fraction(0),
            upper=None if upper is None else Fraction(upper), resolution=step, domain=None,
        )  # fmt: skip

    columns = (
        column("ts", ColumnKind.INTEGER, 2_000_000_000),
        column("visits", ColumnKind.INTEGER, 1000),
        column("age", ColumnKind.INTEGER, 120),
        column("amount", ColumnKind.DECIMAL, 100_000, Fraction(1, 100)),
        column("score", ColumnKind.DECIMAL, 1, Fraction(1, 1_000_000)),
        column("district", ColumnKind.CATEGORY),
        column("category", ColumnKind.TEXT),
    )
    return DatasetDescription(
        dataset="bench", table="bench", label_en="Bench", label_zh="台", department_zh="局", catalogue_id="B-1",
        unit=PrivacyUnit("person", "id", "人"), bound=ContributionBound(5, 5), columns=columns, exclusions=(),
        max_broken_share=Fraction(1, 100), budget=PrivacyLoss(Fraction(1)), max_rows=10**9,
    )  # fmt: skip


def make_table(rows: int) -> pa.Table:
    """Return the table as a department would hand it over: sorted by time, ten rows a person."""
    draw = np.random.default_rng(20270131)
    units = draw.integers(-(2**63), 2**63 - 1, size=max(1, rows // 10))
    districts = pa.array([f"{name}区" for name in "海朝西东丰石门房通顺昌大怀平密延城山谷云"])
    categories = pa.array([f"事项-{number:04d}" for number in range(2000)])
    popularity = 1 / np.arange(1, 2001)
    return pa.table(
        {
            "_unit": units[draw.integers(0, len(units), rows)],
            "ts": np.sort(draw.integers(1_700_000_000, 1_731_536_000, rows)),
            "visits": draw.poisson(3, rows),
            "age": np.clip(draw.normal(45, 20, rows), 0, 120).astype(np.int64),
            "amount": np.clip(draw.lognormal(9, 1.2, rows), 0, 10_000_000).astype(np.int64),
            "score": draw.integers(0, 1_000_001, rows),
            "district": districts.take(pa.array(draw.integers(0, len(districts), rows))),
            "category": categories.take(pa.array(draw.choice(2000, rows, p=popularity / popularity.sum()))),
        }
    )


class Bench:
    """One table in plain Parquet and in one vault, in both suites."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plain = directory / "plain.parquet"
        self.vault = Vault.open(directory / "vault", passphrase=PASSPHRASE)
        self.key = unlock_key((directory / "box.key").read_bytes(), PASSPHRASE)
        self.snapshots: dict[str, str] = json.loads((directory / "snapshots.json").read_text())

    def read_plain(self, columns: tuple[str, ...]) -> pa.Table:
        return pq.read_table(self.plain, columns=[name for name in columns if name != "_rank"], use_threads=False)

    def open(self, variant: str, columns: tuple[str, ...]) -> OpenedSnapshot:
        use(variant)
        named = [name for name in columns if not name.startswith("_")]
        return self.vault.open_snapshot(self.snapshots[variant.split(maxsplit=1)[0]], named, [self.key.public])

    def read_vault(self, variant: str, columns: tuple[str, ...]) -> pa.Table:
        with self.open(variant, columns) as opened:
            return pa.concat_tables(opened.partitions(columns))


def use(variant: str) -> None:
    """Let the gm suite run on its fast or on its portable provider."""
    choice = fast_choice()
    if variant == "gm pip only":
        choice = Choice("SM4-GCM", OpensslSm4Gcm(), choice.reports)
    if _current.get("choice") is not choice.chosen:
        providers.sm4_gcm = lambda: choice  # type: ignore[assignment]
        suite_of.cache_clear()
        _current["choice"] = choice.chosen


_current: dict[str, Any] = {}
_chosen = providers.sm4_gcm


def fast_choice() -> Choice[Any]:
    return _chosen()


def prepare(directory: Path, rows: int) -> dict[str, float]:
    """Write the plain file and the sealed snapshots; return the CPU seconds of each, medians of what was repeated."""
    source = directory / "source.arrow"
    with pa.OSFile(str(source), "wb") as sink, pa.ipc.new_file(sink, (made := make_table(rows)).schema) as writer:
        writer.write_table(made, max_chunksize=65_536)
    del made
    key = generate_key("box", Role.SANDBOX, SuiteName.GM)
    (directory / "box.key").write_bytes(lock_key(key, PASSPHRASE))
    Vault.create(directory / "vault", passphrase=PASSPHRASE, suite=SuiteName.GM)
    (directory / "snapshots.json").write_text("{}")
    times: dict[str, list[float]] = {}
    for _ in range(2 if rows > 2_000_000 else 3):
        for what in ("plain", "intl", "gm"):
            times.setdefault(what, []).append(child(directory, "write", what)["cpu"])
    return {what: statistics.median(each) for what, each in times.items()}


def child(directory: Path, *what: str) -> dict[str, float]:
    """Do one thing in a fresh process; return its CPU seconds and by how much its memory grew at most, in MB."""
    command = [sys.executable, __file__, "--child", str(directory), *what]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def in_child(directory: Path, action: str, what: str) -> None:
    bench = Bench(directory)
    if action == "write":
        source = pa.ipc.open_file(pa.memory_map(str(directory / "source.arrow")))
        batches = [source.get_batch(number) for number in range(source.num_record_batches)]
        work: Callable[[], Any] = (
            (lambda: write_plain(bench.plain, batches))
            if what == "plain"
            else (lambda: write_vault(bench, what, batches))
        )
    else:
        work = (lambda: bench.read_plain(ALL)) if what == "plain" else (lambda: bench.read_vault(what, ALL))
    use(what)
    reset_peak()
    before = peak_mb()
    start = time.process_time()
    kept = work()
    print(json.dumps({"cpu": time.process_time() - start, "mb": peak_mb() - before}))
    del kept


def write_plain(path: Path, batches: list[pa.RecordBatch]) -> None:
    # Batches gather to whole row groups, which is what pyarrow writes fastest.
    pq.write_table(pa.Table.from_batches(batches), path, row_group_size=ROW_GROUP)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_vault(bench: Bench, name: str, batches: list[pa.RecordBatch]) -> None:
    suite = SuiteName(name)
    manifest = bench.vault.seal(describe(), iter(batches), suite=suite, signer=bench.key, owner="health", at=AT)
    if name in bench.snapshots:
        return
    bench.snapshots[name] = manifest.digest()
    (bench.directory / "snapshots.json").write_text(json.dumps(bench.snapshots))


def reset_peak() -> None:
    """Let the peak begin at what is held now: unlocking a key (scrypt) took more for a moment than reading does.

    `ru_maxrss` cannot be used here: it is inherited by a child over `exec`, and then never falls.
    """
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the most memory that was resident at once since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def in_turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, act in contestants.items():
            gc.collect()
            start = time.process_time()
            kept = act()
            spent = time.process_time() - start
            del kept
            if number:  # the first round fills caches
                times[name].append(spent)
    return {name: statistics.median(each) for name, each in times.items()}


def ask_plain(path: Path, sql: str) -> Any:
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        return connection.execute(sql.replace("FROM t", f"FROM read_parquet('{path}')")).fetchall()


def ask_vault(bench: Bench, variant: str, columns: tuple[str, ...], sql: str) -> Any:
    """Ask over a stream of partitions: one is in memory at a time, as in a job."""
    with bench.open(variant, columns) as opened, duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        tables = opened.partitions(columns, dictionaries=True)
        first = next(tables)
        batches = (batch for table in chain((first,), tables) for batch in table.to_batches())
        connection.register("t", pa.RecordBatchReader.from_batches(first.schema, batches))
        return connection.execute(sql).fetchall()


def read_lines(bench: Bench, rounds: int) -> Iterator[tuple[str, str, float, dict[str, float]]]:
    """Yield (kind, label, plain seconds, seconds by variant)."""
    for label, columns in (
        ("2 of 8", TWO),
        ("8 of 8", ALL),
        ("2 of 8, as a job", JOB_TWO),
        ("8 of 8, as a job", JOB_ALL),
    ):
        plain_columns = TWO if columns is JOB_TWO else ALL if columns is JOB_ALL else columns
        runs: dict[str, Callable[[], Any]] = {"plain": lambda names=plain_columns: bench.read_plain(names)}
        for variant in VARIANTS:
            runs[variant] = lambda variant=variant, names=columns: bench.read_vault(variant, names)
        times = in_turns(runs, rounds)
        yield "read" if "job" not in label else "job", f"read to Arrow, {label}", times.pop("plain"), times
    for label, columns, sql in (("2 of 8", TWO, SQL_TWO), ("8 of 8", ALL, SQL_ALL)):
        runs = {"plain": lambda sql=sql: ask_plain(bench.plain, sql)}
        for variant in VARIANTS:
            runs[variant] = lambda variant=variant, names=columns, sql=sql: ask_vault(bench, variant, names, sql)
        times = in_turns(runs, rounds)
        yield "query", f"DuckDB query, {label}", times.pop("plain"), times


def snapshot_bytes(bench: Bench, name: str) -> int:
    manifest = bench.vault.manifest(bench.snapshots[name], [bench.key.public])
    return len(manifest.to_bytes()) + sum(sealed.length for sealed in manifest.objects)


def crypto_seconds(name: str, megabytes: float) -> float:
    """Return what it costs to hash and to seal so many bytes, in blocks as the vault does: the floor under a write."""
    suite, block = suite_of(SuiteName(name)), os.urandom(1 << 20)
    key, nonce, room = bytes(suite.key_bytes), bytes(suite.nonce_bytes), bytearray(len(block) + suite.tag_bytes)
    spent = []
    for _ in range(30):
        start = time.process_time()
        suite.seal_into(key, nonce, block, b"", memoryview(room))
        suite.hash(room)
        spent.append(time.process_time() - start)
    return statistics.median(spent) * megabytes * 1e6 / len(block)


def sm2_per_second() -> dict[str, float]:
    """Return SM2 operations a second of CPU time, messages of 48 bytes."""
    sm2 = providers.sm2().require()
    private = sm2.generate_private()
    public, message = sm2.public_of(private), bytes(48)
    signature, sealed = sm2.sign(private, public, message), sm2.encrypt(public, message)
    acts: dict[str, Callable[[], Any]] = {
        "sign": lambda: sm2.sign(private, public, message),
        "verify": lambda: sm2.verify(public, message, signature),
        "encrypt": lambda: sm2.encrypt(public, message),
        "decrypt": lambda: sm2.decrypt(private, sealed),
        "new key": lambda: sm2.public_of(sm2.generate_private()),
    }
    found = {}
    for name, act in acts.items():
        spent = []
        for _ in range(5):
            start = time.process_time()
            for _ in range(200):
                act()
            spent.append(time.process_time() - start)
        found[name] = 200 / statistics.median(spent)
    return found


def show(kind: str, label: str, plain: float, others: dict[str, float], unit: str) -> None:
    cells = []
    for variant in VARIANTS:
        if variant not in others:
            cells.append(" " * 26)
            continue
        ratio = others[variant] / max(plain, 1e-9)
        bar = BARS.get((kind, variant))
        verdict = "" if bar is None else f"<= {bar:g} {'holds' if ratio <= bar else 'MISSED'}"
        cells.append(f"{others[variant]:8.2f} {ratio:5.2f}x {verdict:14}"[:34])
    print(f"{label:28} {plain:8.2f} {unit:3} " + "".join(f"{cell:34}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=None, help="where to write; removed afterwards")
    parser.add_argument("--keep", type=Path, default=None, help="use the files of an earlier run here, or leave them")
    parser.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        in_child(Path(options.child[0]), *options.child[1:])
        return
    pa.set_cpu_count(1)
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="bench-vault-", dir=options.directory))
    try:
        run(directory, options.rows, options.rounds)
    finally:
        if options.keep is None:
            shutil.rmtree(directory)


def run(directory: Path, rows: int, rounds: int) -> None:
    print(f"{rows} rows x 8 columns, CPU seconds, medians; {os.cpu_count()} processors")
    for report in (*providers.sm4_gcm().reports, *providers.aes_gcm().reports):
        print(f"  {report.primitive} by {report.provider}: {report.detail}")
    print(f"{'':28} {'plain snappy':>12} " + "".join(f"{name:34}" for name in VARIANTS))
    if not (directory / "snapshots.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        written = prepare(directory, rows)
        show("write", "write", written.pop("plain"), written, "s")
    bench = Bench(directory)
    sizes = {name: snapshot_bytes(bench, name) / 1e6 for name in bench.snapshots}
    show("size", "size", bench.plain.stat().st_size / 1e6, sizes, "MB")
    floor = {name: crypto_seconds(name, size) for name, size in sizes.items()}
    print(
        "of a write, to seal and to hash these bytes: " + ", ".join(f"{n} {spent:.2f} s" for n, spent in floor.items())
    )
    for kind, label, plain, others in read_lines(bench, rounds):
        show(kind, label, plain, others, "s")
    memory = {
        what: statistics.median(child(directory, "read", what)["mb"] for _ in range(3))
        for what in ("plain", "intl", "gm")
    }
    show("memory", "peak memory, 8 of 8 to Arrow", memory.pop("plain"), memory, "MB")
    print("SM2, operations a second: " + ", ".join(f"{name} {rate:.0f}" for name, rate in sm2_per_second().items()))


if __name__ == "__main__":
    main()
