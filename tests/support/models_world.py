"""A table that models learn from: known coefficients, known odds, and a way to ask with real noise or none."""

from fractions import Fraction

import numpy as np
import pyarrow as pa

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.description import ColumnKind
from sandbox.model.loss import NO_LOSS
from sandbox.privacy.check import check_question
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from tests.support import privacy_world as world

COLUMNS = (
    world.column("age", ColumnKind.INTEGER, 0, 100, 1),
    world.column("income", ColumnKind.DECIMAL, 0, 1000, "0.1"),
    world.column("spent", ColumnKind.DECIMAL, -500, 1500, "0.1"),
    world.column("bad", ColumnKind.BOOLEAN),
    world.column("home", ColumnKind.CATEGORY, domain=("own", "rent", "other")),
    world.column("town", ColumnKind.CATEGORY, domain=("a", "b", "c")),
    world.column("note", ColumnKind.TEXT),
)
DESCRIPTION = world.describe(rows=2, groups=2, columns=COLUMNS)


def people(count: int, seed: int = 5) -> pa.Table:
    """Two rows a person: spent = 100 + 2 age + 0.5 income + noise; log-odds of bad = -1 - (age - 50)/20 + rents."""
    draw = np.random.default_rng(seed)
    age = np.repeat(draw.integers(0, 101, count), 2)
    income = draw.integers(0, 10_001, 2 * count)
    home = draw.choice(3, 2 * count, p=[0.5, 0.4, 0.1])
    town = np.where(draw.random(2 * count) < 0.8, home, draw.integers(0, 3, 2 * count))
    spent = np.clip(1000 + 20 * age + 0.5 * income + draw.normal(0, 500, 2 * count), -5000, 15_000)
    odds = -1 - (age - 50) / 20 + (home == 1)
    bad = draw.random(2 * count) < 1 / (1 + np.exp(-odds))
    return pa.table(
        {
            "_unit": pa.array(np.repeat(np.arange(count), 2).astype(np.int64)),
            "_rank": pa.array(np.tile([1, 2], count).astype(np.int32)),
            "age": pa.array(age.astype(np.int64)),
            "income": pa.array(income.astype(np.int64)),
            "spent": pa.array(np.round(spent).astype(np.int64)),
            "bad": pa.array(bad),
            "home": pa.array([("own", "rent", "other")[value] for value in home]),
            "town": pa.array([("a", "b", "c")[value] for value in town]),
            "note": pa.array(["n"] * (2 * count)),
        }
    )


class Asker:
    """Asks the engine, notes every question, and adds up what it cost."""

    def __init__(self, table: pa.Table, noise=None, description=DESCRIPTION, name="visits"):
        self.tables, self.name = {name: description}, name
        self.table, self.noise = table, OpenDpNoise() if noise is None else noise
        self.engine, self.spent, self.questions = open_engine(1), NO_LOSS, []

    def __call__(self, question):
        plan = plan_query(check_question(question, self.tables), question.loss)
        self.spent = self.spent + plan.loss
        self.questions.append(question)
        return measure(plan, run_plan(plan, [self.table], engine=self.engine), self.noise).answer


def area_under_curve(scores, truths) -> float:
    """Return the chance that a positive row scores higher than a negative one; ties count half."""
    scores, truths = np.asarray(scores, dtype=float), np.asarray(truths, dtype=bool)
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    _, starts, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks[order] = np.repeat(starts + (counts + 1) / 2, counts)
    positives = truths.sum()
    return float((ranks[truths].sum() - positives * (positives + 1) / 2) / (positives * (len(truths) - positives)))


HALF = Fraction(1, 2)
