"""Further datasets of the same patients, sealed in either suite by other departments, and agreements over them."""

from __future__ import annotations

import random
from collections.abc import Callable

from connectors.csv_source import CsvSource
from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import generate_key
from sandbox.crypto.signing import sign
from sandbox.jobs.agree import register_agreement
from sandbox.jobs.ingest import ingest
from sandbox.model.agreement import SIGNING_CONTEXT, SignedAgreement
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_agreement import load_agreement
from sandbox.model.load_description import load_description
from sandbox.service.compose import register_key, unlock_named
from sandbox.service.files import write_durably
from tests.conftest import MARKER, PASSPHRASE, World, running

INSURANCE = """
dataset: insurance
table: claims
label: {en: Insurance claims, zh: 医保结算}
department_zh: 市医保局
catalogue_id: D11
unit: {kind: patient, column: insured, zh: 患者}
bound: {rows: 3, groups: 2}
budget: {rho: 1, delta: 1e-5}
max_rows: 50000
max_broken_share: 1/100
columns:
  - {name: paid, kind: integer, label: {en: Paid, zh: 支付}, classification: L3, lower: 0, upper: 50}
  - {name: district, kind: text, label: {en: Where paid, zh: 结算地}, classification: L3}
  - {name: hidden, kind: integer, label: {en: Hidden, zh: 隐藏}, classification: L3, lower: 0, upper: 9}
"""

JOINT = """
agreement: joint
title: {en: Both, zh: 两者}
operator: operator
agency: agency
not_before: 2020-01-01
not_after: 2025-01-01
purposes: [public-governance]
products: [P08]
grants:
  - dataset: clinic
    columns: [cost, days, district]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
  - dataset: insurance
    columns: [district, paid]
    budget: {rho: 0.3, delta: 1e-6}
    job_limit: {rho: 0.2, delta: 1e-6}
"""

PHARMACY = """
dataset: pharmacy
table: drugs
label: {en: Drugs sold, zh: 售药}
department_zh: 市药监局
catalogue_id: D12
unit: {kind: patient, column: holder, zh: 患者}
bound: {rows: 2, groups: 2}
budget: {rho: 1, delta: 1e-5}
max_rows: 40000
max_broken_share: 1/100
columns:
  - {name: price, kind: integer, label: {en: Price, zh: 价格}, classification: L3, lower: 0, upper: 20}
  - {name: form, kind: category, label: {en: Form, zh: 剂型}, classification: L3, domain: [{value: pill, en: pill, zh: 片}, {value: salve, en: salve, zh: 膏}]}
  - {name: hidden, kind: integer, label: {en: Hidden, zh: 隐藏}, classification: L3, lower: 0, upper: 9}
"""

ALL_THREE = """
agreement: three
title: {en: All three, zh: 三者}
operator: operator
agency: agency
not_before: 2020-01-01
not_after: 2025-01-01
purposes: [public-governance]
products: [P08]
grants:
  - dataset: clinic
    columns: [cost, days, district]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
  - dataset: insurance
    columns: [district, paid]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
  - dataset: pharmacy
    columns: [form, price]
    budget: {rho: 0.3, delta: 1e-6}
    job_limit: {rho: 0.2, delta: 1e-6}
"""

JOB = """
name: visits and claims
code: question.sql
agreement: joint
product: P08
purpose: public-governance
loss: {rho: 0.1}
"""

SQL = (
    "SELECT v.district, COUNT(*) AS n, SUM(paid) AS paid, COUNT(DISTINCT patient) AS people "
    "FROM visits v JOIN claims c ON v.patient = c.insured GROUP BY v.district"
)


def claim_rows(patients: int = 400, seed: int = 11) -> str:
    """Return CSV rows: every second of the clinic's patients has one to four claims."""
    draw = random.Random(seed)
    lines = ["insured,paid,district,hidden"]
    for patient in range(0, 2 * patients, 2):
        lines += [
            f"P{patient:05d}-{MARKER},{draw.randint(0, 50)},{draw.choice(['here', 'there'])},{draw.randint(0, 9)}"
            for _ in range(draw.randint(1, 4))
        ]
    return "\n".join(lines) + "\n"


def drug_rows(patients: int = 400, seed: int = 12) -> str:
    """Return CSV rows: every third of the clinic's patients bought one to three drugs."""
    draw = random.Random(seed)
    lines = ["holder,price,form,hidden"]
    for patient in range(0, 2 * patients, 3):
        lines += [
            f"P{patient:05d}-{MARKER},{draw.randint(0, 20)},{draw.choice(['pill', 'salve'])},{draw.randint(0, 9)}"
            for _ in range(draw.randint(1, 3))
        ]
    return "\n".join(lines) + "\n"


def add_department(world: World, name: str) -> None:
    """Make and register another department's key."""
    key = generate_key(name, Role.DEPARTMENT, SuiteName.GM)
    write_durably(world.state / "keys" / f"{name}.key", lock_key(key, PASSPHRASE))
    with world.engine() as engine:
        register_key(engine, key.public)


def add_dataset(world: World, text: str, csv: str, owner: str, suite: SuiteName = SuiteName.INTL) -> str:
    """Seal another dataset; return its snapshot."""
    description = load_description(text, "more.yaml")
    path = world.files / f"{description.dataset}.csv"
    path.write_text(csv, encoding="utf-8")
    with world.engine() as engine:
        source: Callable = lambda *tokenisers: CsvSource(path, description, *tokenisers)  # noqa: E731
        return ingest(engine, description, source, suite=suite, owner=owner).snapshot


def add_agreement(world: World, text: str) -> None:
    """Register an agreement that runs now."""
    with world.engine() as engine:
        parties = {key.name: key.key_id for key in engine.state().keys.values()}
        terms = running(load_agreement(text, "more.yaml", parties), engine.clock.now())
        message = canonical_bytes(terms.to_record())
        keys = [unlock_named(world.state, name, PASSPHRASE) for name in ("operator", "agency")]
        register_agreement(engine, SignedAgreement(terms, tuple(sign(key, SIGNING_CONTEXT, message) for key in keys)))


def make_joint(world: World) -> World:
    """Give a world the insurance's claims and the agreement over both datasets."""
    add_department(world, "insurer")
    add_dataset(world, INSURANCE, claim_rows(), "insurer")
    add_agreement(world, JOINT)
    return world


def make_three(world: World) -> World:
    """Give a joint world the pharmacy's drugs, and the agreement over all three datasets."""
    add_department(world, "chemist")
    add_dataset(world, PHARMACY, drug_rows(), "chemist", SuiteName.GM)
    add_agreement(world, ALL_THREE)
    return world
