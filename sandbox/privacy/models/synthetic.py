"""Synthetic tables: noisy counts of all pairs of columns, a tree of the strongest pairs, rows drawn from the tree.

Only columns with public domains take part.  Rows are drawn from noisy counts alone, so they are nobody's rows; there is
no promise of k-anonymity because none is needed, and none of truth beyond pairs: what three columns do together is
lost where the tree does not hold it.

Source: McKenna, Miklau, Sheldon 2021 (arXiv 2108.04978) for the plan (select, measure, generate); Chow and Liu 1968 for
the tree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer, Cell, Question
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.models.asking import Ask, ModelCard, Source, column, source_of
from sandbox.privacy.models.numerics import logarithms
from sandbox.privacy.render import quote_name

MAX_COLUMNS = 12
MAX_ROWS = 10_000_000
_FINE = 1000
Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SyntheticTable:
    """Rows that nobody brought.

    Attributes:
        columns: their names.
        rows: as many as the noisy count says, or as were asked for.
        tree: which pairs of columns the rows keep, by name.
        card: what to know.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tree: tuple[tuple[str, str], ...]
    card: ModelCard

    def to_record(self) -> dict[str, Any]:
        """Return the table as plain data."""
        rows = [list(row) for row in self.rows]
        tree = [list(pair) for pair in self.tree]
        return {"v": 1, "columns": list(self.columns), "rows": rows, "tree": tree, "card": self.card.to_record()}


def pair_questions(source: Source, columns: Sequence[str], loss: PrivacyLoss) -> dict[tuple[int, int], Question]:
    """Return one question for each pair of columns: its counts, in equal parts of the loss."""
    pairs = list(itertools.combinations(range(len(columns)), 2))
    part = PrivacyLoss(loss.rho * Fraction(1, max(1, len(pairs))))
    return {
        (i, j): source.question(
            f"{quote_name(columns[i])}, {quote_name(columns[j])}, COUNT(*) AS noisy_rows", part, group="1, 2"
        )
        for i, j in pairs
    }


def draw_synthetic(
    ask: Ask,
    source: Source | str,
    columns: Sequence[str],
    loss: PrivacyLoss,
    *,
    seed: int,
    size: int | None = None,
    most: int = MAX_ROWS,
) -> SyntheticTable:
    """Return a synthetic table.

    Args:
        ask: asks a question; the losses of all questions sum to `loss`.
        source: which rows, or the name of a table for all of its rows.
        columns: 2 to `MAX_COLUMNS` columns with public domains.
        loss: of the whole table.
        seed: of the drawing, which is post-processing: it may be public, and the same seed gives the same rows.
        size: how many rows to draw; by default as many as there are, by the noisy count.
        most: the most rows to draw by default.

    Raises:
        BoundError: too few or too many columns, or a size out of range; a column without a public domain is refused by
            the engine, since these questions have no delta for private keys (`privacy.bound.delta`).

    Privacy: post-processing of answers that cost `loss` together.
    """
    check_columns(columns)
    source = source_of(source)
    domains: dict[int, list[Cell]] = {}
    counts: dict[tuple[int, int], Array] = {}
    notes: list[str] = []
    totals: list[float] = []
    noise = 0.0
    for (i, j), question in pair_questions(source, columns, loss).items():
        answer = ask(question)
        counts[i, j] = _grid(answer, domains, i, j)
        totals.append(math.fsum(counts[i, j].ravel().tolist()))
        noise = max(noise, *column(answer, "noisy_rows")[1])
        notes += [note for note in answer.notes if note not in notes]
    rows = max(1, round(math.fsum(totals) / len(totals)))
    wanted = min(rows, most) if size is None else size
    if not 1 <= wanted <= MAX_ROWS:
        raise BoundError(
            "a synthetic table has 1 to 10,000,000 rows", hint="ask for fewer", code="privacy.bound.features"
        )
    held = {pair: _consistent(grid, noise) for pair, grid in counts.items()}
    tree = _strongest_tree(held, len(columns))
    drawn = _draw(held, tree, len(columns), wanted, np.random.PCG64DXSM(seed))
    cells = [[domains[place][index] for index in drawn[place].tolist()] for place in range(len(columns))]
    named = tuple((columns[i], columns[j]) for i, j in tree)
    quality = (
        f"counts of the tree's pairs are within about {2 * noise:.0f} rows a cell; other pairs follow the tree only"
    )
    card = ModelCard(
        "synthetic",
        source.table,
        source.where,
        "",
        tuple(columns),
        loss,
        people_loss(loss)[0],
        rows,
        None,
        None,
        quality,
        tuple(notes),
    )
    return SyntheticTable(tuple(columns), tuple(zip(*cells, strict=True)), named, card)


def check_columns(columns: Sequence[str]) -> None:
    """Raise unless these are 2 to `MAX_COLUMNS` different columns."""
    if not 2 <= len(columns) <= MAX_COLUMNS or len(set(columns)) < len(columns):
        raise BoundError(
            f"a synthetic table takes 2 to {MAX_COLUMNS} different columns",
            hint="choose the columns whose pairs matter",
            code="privacy.bound.features",
        )


def _grid(answer: Answer, domains: dict[int, list[Cell]], i: int, j: int) -> Array:
    for place, position in ((i, 0), (j, 1)):
        domains.setdefault(place, list(dict.fromkeys(row[position] for row in answer.rows)))
    grid = np.zeros((len(domains[i]), len(domains[j])))
    for row in answer.rows:
        count = row[2]
        grid[domains[i].index(row[0]), domains[j].index(row[1])] = (
            float(count) if isinstance(count, (int, float)) else 0
        )
    return grid


def _consistent(grid: Array, noise: float) -> Counts:
    """Return counts without negatives, of about the same total, in thousandths of a row.

    Each cell is less a common amount, and zero below it.  Whole thousandths, so that drawing from them is exact.
    """
    total, flat = max(1.0, math.fsum(grid.ravel().tolist())), np.sort(grid.ravel())[::-1]
    sums = np.cumsum(flat) - total
    kept = int(np.nonzero(flat * np.arange(1, len(flat) + 1) > sums)[0][-1]) + 1
    held: Counts = np.rint(np.maximum(grid - sums[kept - 1] / kept, 0.0) * _FINE).astype(np.int64)
    return held if int(held.sum()) > noise * _FINE else np.full_like(held, _FINE)


def _strongest_tree(counts: dict[tuple[int, int], Counts], size: int) -> list[tuple[int, int]]:
    """Return the spanning tree of most mutual information, as (known, next) from column 0 outwards."""
    strength = {pair: _information(grid) for pair, grid in counts.items()}
    inside, tree = {0}, []
    while len(inside) < size:
        edges = [pair for pair in counts if (pair[0] in inside) != (pair[1] in inside)]
        best = max(edges, key=lambda pair: (strength[pair], pair))
        known, new = best if best[0] in inside else (best[1], best[0])
        tree.append((known, new))
        inside.add(new)
    return tree


def _information(grid: Counts) -> float:
    """Return the mutual information of a pair, in nats."""
    total = float(grid.sum())
    across, down = grid.sum(axis=1).astype(np.float64), grid.sum(axis=0).astype(np.float64)
    one, other = np.nonzero(grid)
    cells = grid[one, other].astype(np.float64)
    share = cells / total
    lift = (share / (across[one] / total)) / (down[other] / total)
    return math.fsum((share * logarithms(lift)).tolist())


def _draw(
    counts: dict[tuple[int, int], Counts], tree: list[tuple[int, int]], size: int, rows: int, bits: np.random.PCG64DXSM
) -> list[Counts]:
    drawn: list[Counts] = [np.zeros(rows, dtype=np.int64) for _ in range(size)]
    first = tree[0][1]
    margin = (counts[0, first] if (0, first) in counts else counts[first, 0].T).sum(axis=1)
    drawn[0] = _chosen(margin, rows, bits)
    for known, new in tree:
        grid = counts[known, new] if (known, new) in counts else counts[new, known].T
        whole = grid.sum(axis=0)
        for value in range(grid.shape[0]):
            places = np.nonzero(drawn[known] == value)[0]
            line = grid[value]
            drawn[new][places] = _chosen(line if int(line.sum()) > 0 else whole, len(places), bits)
    return drawn


def _chosen(weights: Counts, count: int, bits: np.random.PCG64DXSM) -> Counts:
    """Return `count` places, each drawn in proportion to whole weights.

    From the generator's own 64-bit numbers and with whole arithmetic alone: the stream of a bit generator is the same
    in every version of numpy, that of its distributions is not.  Rows are drawn, no noise: no privacy rests on it.
    """
    ends = np.cumsum(weights)
    total = int(ends[-1])
    raw = bits.random_raw(count) if count else np.zeros(0, dtype=np.uint64)
    marks = np.array([(int(number) * total) >> 64 for number in raw], dtype=np.int64)
    found: Counts = np.searchsorted(ends, marks, side="right").astype(np.int64)
    return found
