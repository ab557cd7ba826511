"""A small world that most tests need: a clinic's visits, sealed, with an agreement and four parties."""

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.readers import shared_readers

# One run says what the last one said; `make soak` looks for new examples.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("roaming", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_configure(config: pytest.Config) -> None:
    """Write below the project where the temporary directory is a memory file system, which saggar refuses."""
    from sandbox.errors import StateUnsafeError
    from sandbox.ledger.filesystem import check_file_system, read_mounts

    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        try:
            check_file_system(Path(tempfile.gettempdir()), read_mounts())
        except StateUnsafeError:
            build = Path(__file__).parents[1] / "build"
            build.mkdir(exist_ok=True)
            config.option.basetemp = build / f"pytest-{os.getpid()}"


PASSPHRASE = "a test's passphrase"
MARKER = "Zyxwvut-marker"

DESCRIPTION = """
dataset: clinic
table: visits
label: {en: Clinic visits, zh: 门诊就诊}
department_zh: 市卫健委
catalogue_id: D10
unit: {kind: patient, column: patient, zh: 患者}
bound: {rows: 4, groups: 4}
budget: {rho: 2, delta: 1e-5}
max_rows: 100000
max_broken_share: 1/100
exclusions:
  - {column: secret, values: ["1"], reason: {en: secret, zh: 涉密}}
columns:
  - name: district
    kind: category
    label: {en: District, zh: 区县}
    classification: L2
    domain:
      - {value: north, en: north, zh: 北}
      - {value: south, en: south, zh: 南}
      - {value: east, en: east, zh: 东}
  - {name: reason, kind: text, label: {en: Reason, zh: 原因}, classification: L3, nullable: true}
  - {name: days, kind: integer, label: {en: Days, zh: 天数}, classification: L3, lower: 0, upper: 14, measure: {en: day, zh: 天}}
  - {name: cost, kind: decimal, label: {en: Cost, zh: 费用}, classification: L3, lower: 0, upper: 1000, resolution: 0.01}
  - {name: secret_note, kind: text, label: {en: Note, zh: 备注}, classification: L3}
"""

AGREEMENT = """
agreement: clinic-test
title: {en: A test, zh: 测试}
operator: operator
agency: agency
not_before: 2020-01-01
not_after: 2025-01-01
purposes: [public-governance]
products: [P08]
grants:
  - dataset: clinic
    columns: [cost, days, district, reason]
    budget: {rho: 1, delta: 1e-6}
    job_limit: {rho: 0.5, delta: 1e-6}
"""

PROGRAM = """
import pandas as pd

def analyze(data):
    first = data.ask("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", share="1/2")
    top = first.table.sort_values("n", ascending=False)["district"].iloc[0]
    second = data.ask(f"SELECT AVG(days) AS mean FROM visits WHERE district = '{top}'", share="1/2")
    table = first.table.assign(n=first.table["n"].astype(float))
    return {"by_district": table, "mean_days": float(second.table["mean"].iloc[0])}
"""

PYTHON_JOB = """
name: two questions
code: program.py
agreement: clinic-test
product: P08
purpose: public-governance
loss: {rho: 0.1}
reads: {clinic: [days, district]}
outputs:
  - {name: by_district, kind: table, columns: {district: text, n: number}, max_rows: 3}
  - {name: mean_days, kind: number}
"""

SQL_JOB = """
name: by district
code: question.sql
agreement: clinic-test
product: P08
purpose: public-governance
loss: {rho: 0.1}
"""

SQL = "SELECT district, COUNT(*) AS n, AVG(days) AS mean, SUM(cost) AS cost FROM visits GROUP BY district"


def clinic_rows(patients: int = 600, seed: int = 7) -> str:
    """Return the clinic's CSV: each patient has one to six visits; two reasons are rare."""
    draw = random.Random(seed)
    lines = ["patient,secret,district,reason,days,cost,secret_note"]
    for patient in range(patients):
        for _ in range(draw.randint(1, 6)):
            reason = draw.choice(["cough", "fever", "check-up"]) if patient else "unique-illness"
            district = draw.choice(["north", "north", "south", "east"])
            secret = "1" if draw.random() < 0.01 else "0"
            lines.append(
                f"P{patient:05d}-{MARKER},{secret},{district},{reason},{draw.randint(0, 14)},"
                f"{draw.randint(0, 99_999) / 100:.2f},{MARKER}-{patient}"
            )
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class World:
    """A state directory with everything registered, and the files a user would have beside it."""

    state: Path
    files: Path

    @contextmanager
    def engine(self, wait_s: float = 20.0) -> Iterator:
        from sandbox.service.compose import open_engine

        with open_engine(self.state, passphrase=PASSPHRASE, purpose="test", wait_s=wait_s) as engine:
            yield engine

    @contextmanager
    def records(self) -> Iterator:
        from sandbox.service.compose import open_records

        with open_records(self.state) as records:
            yield records

    def signed(self, engine, job_text: str, code: str, *, nonce: str = "", by: str = "operator"):
        """Return a signed job."""
        from sandbox.client.submission import sign_spec
        from sandbox.jobs.specify import specify
        from sandbox.jobs.stages import SignedJob
        from sandbox.model.load_job import load_job
        from sandbox.service.compose import unlock_named

        spec = specify(engine, load_job(job_text, "job.yaml"), code, nonce=nonce)
        return SignedJob(spec, code, sign_spec(spec, unlock_named(self.state, by, PASSPHRASE)))

    def run(self, job_text: str = SQL_JOB, code: str = SQL, *, nonce: str = ""):
        """Run one job to its release."""
        from sandbox.jobs.line import run_job

        with self.engine() as engine:
            return run_job(engine, self.signed(engine, job_text, code, nonce=nonce))


def build_world(root: Path, suite: str = "gm", objects=None) -> World:
    """Make a state directory, four parties, a sealed dataset and an agreement that runs now."""
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
    from sandbox.service.compose import initialise, open_engine, register_key, unlock_named
    from sandbox.service.files import write_durably

    world = World(root / "state", root / "files")
    world.files.mkdir(parents=True)
    for name, text in {
        "clinic.yaml": DESCRIPTION,
        "clinic.csv": clinic_rows(),
        "agreement.yaml": AGREEMENT,
        "program.py": PROGRAM,
        "job_python.yaml": PYTHON_JOB,
        "question.sql": SQL,
        "job_sql.yaml": SQL_JOB,
    }.items():
        (world.files / name).write_text(text, encoding="utf-8")
    chosen = SuiteName(suite)
    initialise(world.state, suite=chosen, passphrase=PASSPHRASE, origin="test.example/log", objects=objects)
    with open_engine(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as engine:
        roles = {"operator": Role.OPERATOR, "agency": Role.AGENCY, "health": Role.DEPARTMENT, "auditor": Role.AUDITOR}
        for name, role in roles.items():
            key = generate_key(name, role, chosen)
            write_durably(world.state / "keys" / f"{name}.key", lock_key(key, PASSPHRASE))
            register_key(engine, key.public)
        description = load_description(DESCRIPTION, "clinic.yaml")
        ingest(
            engine,
            description,
            lambda tokeniser: CsvSource(world.files / "clinic.csv", description, tokeniser),
            suite=chosen,
            owner="health",
        )
        parties = {key.name: key.key_id for key in engine.state().keys.values()}
        terms = running(load_agreement(AGREEMENT, "agreement.yaml", parties), engine.clock.now())
        message = canonical_bytes(terms.to_record())
        signatures = tuple(
            sign(unlock_named(world.state, name, PASSPHRASE), SIGNING_CONTEXT, message)
            for name in ("operator", "agency")
        )
        register_agreement(engine, SignedAgreement(terms, signatures))
    return world


def running(terms, now: str):
    """Return the terms with a year's term that runs now, so that the tests do not age."""
    year = int(now[:4])
    return replace(terms, not_before=f"{year - 1}-01-01T00:00:00Z", not_after=f"{year + 1}-01-01T00:00:00Z")


@pytest.fixture(scope="session")
def _lighter() -> Iterator[None]:
    """Share what only costs time: what programs and readers are forked from (each still has its own), least scrypt."""
    from sandbox.crypto import keyfile
    from sandbox.runtime.host.report import Level
    from sandbox.service import compose

    own = compose.lazy_guests
    with compose.lazy_guests() as shared, shared_readers(), pytest.MonkeyPatch.context() as patched:

        @contextmanager
        def lent(least: Level = Level.STANDARD) -> Iterator:
            if least is Level.STANDARD:
                yield shared
                return
            with own(least) as thicker:
                yield thicker

        patched.setattr(compose, "lazy_guests", lent)
        patched.setattr(keyfile, "_COST_N", keyfile._N_RANGE[0])
        yield


@pytest.fixture(scope="session")
def _fired_gm(_lighter: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("fired-gm"), "gm")


@pytest.fixture
def world(_fired_gm: World, tmp_path: Path) -> World:
    """A fresh copy of a prepared world in the default suite."""
    return copy_world(_fired_gm, tmp_path / "world")


@pytest.fixture
def new_world(_lighter: None, tmp_path: Path) -> Callable[[str], World]:
    """Make a world from nothing in a suite."""
    return lambda suite: build_world(tmp_path / suite, suite)


def copy_world(world: World, to: Path) -> World:
    """Return a copy of a closed world."""
    shutil.copytree(world.state, to / "state")
    shutil.copytree(world.files, to / "files")
    return World(to / "state", to / "files")


@dataclass(frozen=True)
class Worked:
    """A world in which jobs ran, and the bundle that an auditor took of it.

    Attributes:
        world: the world, closed; tests copy it before they change it.
        bundle: the audit bundle, path -> bytes.
        sql, python: what left.
    """

    world: World
    bundle: dict[str, bytes]
    sql: object
    python: object


def work_in(world: World) -> Worked:
    """Run a full workload: released, failed and refused jobs of both kinds, then an export."""
    from sandbox.errors import SaggarError
    from sandbox.jobs.export import export_bundle

    sql = world.run()
    python = world.run(PYTHON_JOB, PROGRAM)
    for job, code in (
        (PYTHON_JOB, PROGRAM.replace("    second =", "    raise ValueError('on purpose')\n    second =")),
        (PYTHON_JOB, PROGRAM.replace('"mean_days"', '"undeclared"')),
        (SQL_JOB, "SELECT reason, COUNT(*) AS n FROM visits WHERE secret_note = 'x' GROUP BY reason"),
        (
            SQL_JOB.replace("{rho: 0.1}", "{rho: 0.1, delta: 1e-7}"),
            "SELECT reason, COUNT(*) AS n FROM visits GROUP BY reason",
        ),
    ):
        with contextlib.suppress(SaggarError):
            world.run(job, code)
    with world.engine() as engine:
        taker = next(key for key in engine.state().keys.values() if key.name == "auditor")
        bundle = export_bundle(engine, by=taker.key_id)
    return Worked(world, bundle, sql, python)


@pytest.fixture(scope="session")
def worked(_fired_gm: World, tmp_path_factory: pytest.TempPathFactory) -> Worked:
    """A world after a full workload; read it, or copy it with `copy_world`."""
    return work_in(copy_world(_fired_gm, tmp_path_factory.mktemp("worked")))
