"""A dataset of employments: each row is of one enterprise and of one person, and both are protected."""

from __future__ import annotations

import random

from tests.conftest import MARKER, World
from tests.support.joint_world import add_agreement, add_dataset, add_department

LIMIT = 3
EMPLOYMENTS = f"""
dataset: employments
table: jobs
label: {{en: Employments, zh: 就业登记}}
department_zh: 市人社局
catalogue_id: D12
unit: {{kind: enterprise, column: enterprise_id, zh: 企业}}
also_protects:
  - {{kind: person, column: person_id, zh: 自然人, rows: {LIMIT}}}
bound: {{rows: 8, groups: 8}}
budget: {{rho: 0.25, delta: 1e-5}}
max_rows: 50000
max_broken_share: 1/100
columns:
  - {{name: wage, kind: integer, label: {{en: Wage, zh: 工资}}, classification: L3, lower: 0, upper: 50}}
  - name: sector
    kind: category
    label: {{en: Sector, zh: 行业}}
    classification: L2
    domain: [{{value: tiles, en: tiles, zh: 瓷砖}}, {{value: other, en: other, zh: 其他}}]
  - {{name: post, kind: text, label: {{en: Post, zh: 岗位}}, classification: L3}}
"""

AGREEMENT = """
agreement: labour
title: {en: Labour, zh: 就业}
operator: operator
agency: agency
not_before: 2020-01-01
not_after: 2025-01-01
purposes: [public-governance]
products: [P08]
grants:
  - dataset: employments
    columns: [post, sector, wage]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
"""

PERMITS = (
    AGREEMENT.replace("agreement: labour", "agreement: both")
    + """  - dataset: permits
    columns: [post, sector, wage]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
"""
)

JOB = """
name: by sector
code: question.sql
agreement: labour
product: P08
purpose: public-governance
loss: {rho: 0.1}
"""

SQL = "SELECT sector, COUNT(*) AS n, SUM(wage) AS wages FROM jobs GROUP BY sector"
ACCOUNTS = ("agreement:labour/employments", "dataset:employments/enterprise", "dataset:employments/person")


def employment_rows(enterprises: int = 200, seed: int = 3, *, most: int = LIMIT) -> str:
    """Return CSV rows: up to eight people an enterprise; a person has at most `most` posts, anywhere."""
    draw = random.Random(seed)
    lines, left, person = ["enterprise_id,person_id,wage,sector,post"], 0, 0
    for enterprise in range(enterprises):
        for _ in range(draw.randint(1, 8)):
            if left == 0:
                person, left = person + 1, draw.randint(1, most)
            left -= 1
            sector = "tiles" if enterprise % 2 else "other"
            lines.append(f"E{enterprise}-{MARKER},P{person}-{MARKER},{draw.randint(0, 50)},{sector},{MARKER}")
    return "\n".join(lines) + "\n"


def make_two_units(world: World) -> World:
    """Give a world the employments and an agreement over them."""
    add_department(world, "labour")
    add_dataset(world, EMPLOYMENTS, employment_rows(), "labour")
    add_agreement(world, AGREEMENT)
    return world
