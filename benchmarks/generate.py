"""The table of the engine's benchmarks: many rows a person, as sealed tables are, and as a plain database has it.

500,000 persons, 1 to 50 rows each, Zipf-like; columns district (12, public), category (200, private), day (365),
amount (0.01 steps, heavy tail) and age.  Partition `p` of `n` is a function of (persons, rows, p, n) alone, so a
table of any size can be made one partition at a time.

    python -m benchmarks.generate --rows 10000000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sandbox.model.description import Column, ColumnKind, DatasetDescription, DomainValue
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit

PERSONS, MOST_ROWS = 500_000, 50
DISTRICTS = tuple(f"d{index:02d}" for index in range(12))
CATEGORIES = tuple(f"c{index:03d}" for index in range(200))
DAYS, FIRST_DAY = 365, 18_262
AMOUNT_TOP, AGE_TOP = 200, 100
_ROWS_PER_PARTITION = 1_000_000


def _column(name, kind, lower=None, upper=None, resolution=None, domain=None):
    return Column(
        name=name,
        source=name,
        kind=kind,
        label_en=name,
        label_zh=name,
        classification="L2",
        nullable=False,
        null_values=(),
        lower=None if lower is None else Fraction(lower),
        upper=None if upper is None else Fraction(upper),
        resolution=None if resolution is None else Fraction(resolution),
        domain=None if domain is None else tuple(DomainValue(value, value, value) for value in domain),
    )


def describe_persons(groups: int = 10, max_rows: int = 20_000_000) -> DatasetDescription:
    """Return the public description of a second table of the same kind of units: a register, one row a person."""
    return replace(
        describe(groups, groups, max_rows),
        dataset="persons",
        table="persons",
        label_en="Persons",
        label_zh="人员",
        columns=(_column("home", ColumnKind.CATEGORY, domain=DISTRICTS),),
    )


def describe(rows_bound: int = 10, groups: int = 10, max_rows: int = 200_000_000) -> DatasetDescription:
    """Return the public description; the bound is 10 rows a person, as in the published comparisons."""
    return DatasetDescription(
        dataset="events",
        table="events",
        label_en="Events",
        label_zh="事件",
        department_zh="测试",
        catalogue_id="D00",
        unit=PrivacyUnit("person", "person", "人"),
        bound=ContributionBound(rows_bound, groups),
        columns=(
            _column("district", ColumnKind.CATEGORY, domain=DISTRICTS),
            _column("category", ColumnKind.TEXT),
            _column("day", ColumnKind.DATE, FIRST_DAY, FIRST_DAY + DAYS - 1),
            _column("amount", ColumnKind.DECIMAL, 0, AMOUNT_TOP, "0.01"),
            _column("age", ColumnKind.INTEGER, 0, AGE_TOP, 1),
        ),
        exclusions=(),
        max_broken_share=Fraction(0),
        budget=PrivacyLoss(Fraction(1000), Fraction(1, 100)),
        max_rows=max_rows,
    )


@dataclass(frozen=True)
class Size:
    """How large a table is: `persons` persons with about `rows` rows in `partitions` partitions."""

    rows: int
    persons: int = PERSONS

    @property
    def partitions(self) -> int:
        """As the vault chooses: a power of two, about a million rows each at most, four at least."""
        count = 4
        while self.rows > count * _ROWS_PER_PARTITION:
            count *= 2
        return count


def rows_per_person(size: Size) -> np.ndarray:
    """Return how many rows each person has: a power law, held between 1 and 50, that sums to about `size.rows`."""
    weight = (np.arange(size.persons) + 1.0) ** -0.6
    low, high = 0.0, float(size.rows) * 50
    for _ in range(80):
        middle = (low + high) / 2
        if np.clip(weight * middle, 1, MOST_ROWS).sum() < size.rows:
            low = middle
        else:
            high = middle
    exact = np.clip(weight * high, 1, MOST_ROWS)
    whole = np.floor(exact)
    return (whole + (np.random.default_rng(1).random(size.persons) < exact - whole)).astype(np.int64)


def partition(size: Size, number: int, counts: np.ndarray | None = None) -> pa.Table:
    """Return one partition as the vault hands it out: clustered by unit, ranked within it, in storage types."""
    counts = rows_per_person(size) if counts is None else counts
    draw = np.random.default_rng([7, size.rows, number])
    persons = draw.permutation(np.arange(number, size.persons, size.partitions))
    mine = counts[persons]
    total = int(mine.sum())
    starts = np.repeat(np.cumsum(mine) - mine, mine)
    unit = np.repeat(persons, mine)
    # A person lives in one district and is now and then elsewhere; ages do not change within a year.
    home = np.minimum((draw.random(len(persons)) ** 1.7 * 12).astype(np.int64), 11)
    away = draw.random(total) < 0.2
    district = np.where(away, draw.integers(0, 12, total), np.repeat(home, mine))
    category = np.minimum((draw.random(total) ** 4 * 200).astype(np.int64), 199)
    age = np.repeat(draw.integers(0, AGE_TOP + 1, len(persons)), mine)
    amount = np.minimum(draw.lognormal(3.5, 1.2, total), AMOUNT_TOP)
    return pa.table(
        {
            "_unit": pa.array(_scrambled(unit)),
            "_rank": pa.array((np.arange(total) - starts + 1).astype(np.int32)),
            "district": _texts(DISTRICTS, district),
            "category": _texts(CATEGORIES, category),
            "day": pa.array((FIRST_DAY + draw.integers(0, DAYS, total)).astype(np.int32)).cast(pa.date32()),
            "amount": pa.array(np.round(amount * 100).astype(np.int64)),
            "age": pa.array(age.astype(np.int64)),
        }
    )


def persons(size: Size, number: int) -> pa.Table:
    """Return one partition of the register: the same persons as in the partition of events, in the same order."""
    draw = np.random.default_rng([7, size.rows, number])
    unit = draw.permutation(np.arange(number, size.persons, size.partitions))
    home = np.minimum((draw.random(len(unit)) ** 1.7 * 12).astype(np.int64), 11)
    ranks = np.ones(len(unit), np.int32)
    return pa.table({"_unit": _scrambled(unit), "_rank": ranks, "home": _texts(DISTRICTS, home)})


def _scrambled(units: np.ndarray) -> np.ndarray:
    # Tokens look random; an odd multiplier modulo 2**64 is a bijection.
    return (units.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def _texts(values: tuple[str, ...], index: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(values)).cast(pa.string())


def partitions(size: Size) -> Iterator[pa.Table]:
    """Yield every partition, one in memory at a time."""
    counts = rows_per_person(size)
    for number in range(size.partitions):
        yield partition(size, number, counts)


def plain_parquet(size: Size, folder: Path) -> Path:
    """Return the same rows as a plain database would have them: shuffled, amounts as floats, one Parquet file."""
    path = folder / f"events_{size.rows}_{size.persons}.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    whole = pa.concat_tables(partitions(size))
    order = np.random.default_rng(3).permutation(len(whole))
    shuffled = whole.take(pa.array(order))
    units = shuffled.column("_unit").to_numpy()
    amounts = shuffled.column("amount").to_numpy() / 100
    plain = shuffled.select(["district", "category", "day", "age"])
    plain = plain.append_column("amount", pa.array(amounts)).append_column("person", pa.array(units))
    draft = path.with_suffix(".draft")
    pq.write_table(plain, draft, row_group_size=122_880)
    draft.rename(path)
    return path


def plain_persons(size: Size, folder: Path) -> Path:
    """Return the register as a plain database would have it."""
    path = folder / f"persons_{size.rows}_{size.persons}.parquet"
    if not path.exists():
        whole = pa.concat_tables([persons(size, number) for number in range(size.partitions)])
        whole = whole.take(pa.array(np.random.default_rng(4).permutation(len(whole))))
        plain = pa.table({"person": whole.column("_unit"), "home": whole.column("home")})
        draft = path.with_suffix(".draft")
        pq.write_table(plain, draft, row_group_size=122_880)
        draft.rename(path)
    return path


def main() -> None:
    """Write the plain file and say how large the table is."""
    parser = argparse.ArgumentParser(description="make the benchmarks' table")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--persons", type=int, default=PERSONS)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    asked = parser.parse_args()
    size = Size(asked.rows, asked.persons)
    path = plain_parquet(size, asked.folder)
    counts = rows_per_person(size)
    print(f"{path}: {counts.sum():,} rows of {size.persons:,} persons, {counts.min()} to {counts.max()} each")


if __name__ == "__main__":
    main()
