"""A sealed snapshot small enough to read often, and questions to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_description import load_description
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.privacy.check import check_question
from sandbox.privacy.plan import Plan, plan_query
from sandbox.vault.store import Vault

TEXT = """
dataset: small
table: small
label: {en: Small, zh: 小}
department_zh: 局
catalogue_id: D1
unit: {kind: person, column: id, zh: 人}
bound: {rows: 4, groups: 4}
budget: {rho: 1, delta: 1e-5}
max_rows: 10000
max_broken_share: 1/100
columns:
"""
COLUMNS = ("one", "two", "three", "four", "five")
DESCRIPTION = load_description(
    TEXT
    + "".join(
        f"  - {{name: {name}, kind: integer, label: {{en: {name}, zh: 数}}, classification: L3, lower: 0, upper: 99}}\n"
        for name in COLUMNS
    ),
    "small.yaml",
)
SUMS = "SELECT COUNT(*) AS n, SUM(one) AS a, SUM(two) AS b FROM small"
PARTITIONS = 4


class Sealed:
    """A vault with one snapshot.

    Attributes:
        key: the sandbox's key.
        vault: the vault.
        manifest: the snapshot's.
    """

    def __init__(self, folder: Path, suite: SuiteName = SuiteName.GM, partitions: int = PARTITIONS) -> None:
        self.key: PrivateKey = generate_key("box", Role.SANDBOX, suite)
        self.vault = Vault.create(folder / "vault", passphrase="a test's passphrase", suite=suite)
        draw = np.random.default_rng(1)
        batch = pa.record_batch(
            {"_unit": np.arange(300) % 40, **{name: draw.integers(0, 100, 300) for name in COLUMNS}}
        )
        self.manifest = self.vault.seal(
            DESCRIPTION,
            [batch],
            suite=suite,
            signer=self.key,
            owner="health",
            at="2027-01-31T08:00:00Z",
            partitions=partitions,
        )

    def open(self, *columns: str) -> Any:
        """Return the opened columns."""
        return self.vault.open_snapshot(self.manifest.digest(), columns, [self.key.public])


def plan(sql: str = SUMS) -> Plan:
    """Return the plan of a question."""
    loss = PrivacyLoss.parse({"rho": "1/10", "delta": "0"})
    return plan_query(check_question(Question(sql, loss, None, None), {DESCRIPTION.table: DESCRIPTION}), loss)
