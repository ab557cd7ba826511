import csv
import hashlib
import importlib.util
import io
import zipfile
from fractions import Fraction
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import sqlglot
from RestrictedPython import compile_restricted

from connectors.csv_source import CsvSource
from policies.decide import DecisionRequest, decide, described_columns
from sandbox.crypto.tokens import Tokeniser
from sandbox.model.job import JobKind
from sandbox.model.load_agreement import load_agreement
from sandbox.model.load_description import load_description
from sandbox.model.load_job import EpsilonDelta, load_job
from sandbox.privacy.models.planning import plan_model

HOSPITAL = Path(__file__).parents[3] / "examples" / "hospital"
PARTIES = {"operator": "ab" * 16, "agency": "cd" * 16}
JOBS = [
    "job_sql",
    "job_public",
    "job_python",
    "job_blocks",
    "job_model",
    "attack_rows",
    "attack_files",
    "attack_budget",
]


def text(name):
    return (HOSPITAL / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def description():
    return load_description(text("hospital.yaml"), "hospital.yaml")


@pytest.fixture(scope="module")
def agreement():
    return load_agreement(text("agreement.yaml"), "agreement.yaml", PARTIES)


@pytest.fixture(scope="module")
def sealed(description):
    source = CsvSource(HOSPITAL / "encounters.csv.zip", description, Tokeniser(b"k" * 32))
    return list(source), source.report()


def module_of(name):
    spec = importlib.util.spec_from_file_location(f"hospital_{name}", HOSPITAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_yaml_of_the_example_loads(description, agreement):
    known = {"hospital.yaml", "agreement.yaml", *(f"{job}.yaml" for job in JOBS)}
    assert {path.name for path in HOSPITAL.glob("*.yaml")} == known
    for job in JOBS:
        loaded = load_job(text(f"{job}.yaml"), f"{job}.yaml")
        assert loaded.model is not None or (HOSPITAL / loaded.code).is_file()
        assert loaded.agreement == agreement.agreement
        assert loaded.product in agreement.products
        assert loaded.purpose in agreement.purposes
    assert description.dataset == agreement.grants[0].dataset


def test_the_agreement_grants_described_columns_within_the_datasets_budget(description, agreement):
    (grant,) = agreement.grants
    assert all(description.column(name) is not None for name in grant.columns)
    assert grant.budget.fits(description.budget)
    assert (agreement.not_before, agreement.not_after) == ("2026-06-30T16:00:00Z", "2027-06-30T16:00:00Z")


def test_the_description_is_what_the_catalogue_calls_d10(description):
    assert (description.catalogue_id, description.department_zh) == ("D10", "市卫健委")
    assert {column.classification for column in description.columns} == {"L3"}
    assert (description.unit.kind, description.unit.column, description.unit.label_zh) == (
        "patient",
        "patient_nbr",
        "患者",
    )
    assert "CC BY 4.0" in description.source_licence


def test_every_row_of_the_study_is_sealed_or_excluded(sealed, description):
    batches, report = sealed
    assert (report.rows_read, report.rows_broken) == (101_766, 0)
    assert report.rows_sealed == sum(batch.num_rows for batch in batches) == 101_766 - report.rows_excluded
    assert report.rows_excluded == 1_652  # 1642 of code 11, 8 of 19, 2 of 20, counted with grep
    assert [name for name in batches[0].schema.names if name != "_unit"] == [c.name for c in description.columns]


def test_the_public_bounds_cut_almost_nothing(sealed):
    _, report = sealed
    assert sum(count for _, count in report.clamped) < 10


def test_the_archive_is_small_and_holds_one_file_with_a_fixed_date():
    path = HOSPITAL / "encounters.csv.zip"
    assert path.stat().st_size < 3_000_000
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
    assert (entry.filename, entry.date_time) == ("encounters.csv", (2014, 1, 1, 0, 0, 0))


def test_prepare_keeps_every_row_and_gives_the_same_bytes_again(tmp_path):
    prepare = module_of("prepare")
    header = ["encounter_id", "race", *prepare.COLUMNS, "weight"]
    body = io.StringIO(newline="")
    csv.writer(body).writerows([header, *([str(i), "x", *(f"{c}{i}" for c in prepare.COLUMNS), "y"] for i in range(5))])
    with zipfile.ZipFile(tmp_path / "uci.zip", "w") as archive:
        archive.writestr("__MACOSX/dataset_diabetes/._diabetic_data.csv", "x")
        archive.writestr("dataset_diabetes/diabetic_data.csv", body.getvalue())
    digests = set()
    for name in ("a.zip", "b.zip"):
        prepare.main([str(tmp_path / "uci.zip"), str(tmp_path / name)])
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = archive.read("encounters.csv").decode().splitlines()
    assert rows[0] == ",".join(prepare.COLUMNS)
    assert rows[5].startswith("patient_nbr4,gender4,")
    assert len(rows) == 6


@pytest.mark.parametrize("name", ["stay.sql", "public.sql", "attack_rows.sql"])
def test_the_questions_are_sql_over_described_columns(name, description):
    tree = sqlglot.parse_one(text(name), dialect="duckdb")
    assert [table.name for table in tree.find_all(sqlglot.exp.Table)] == [description.table]
    aliases = {alias.alias for alias in tree.find_all(sqlglot.exp.Alias)}
    columns = {column.name for column in tree.find_all(sqlglot.exp.Column)} - aliases
    assert all(description.column(column) is not None for column in columns)


def request_for(job, description, agreement, **changes):
    loaded = load_job(text(f"{job}.yaml"), f"{job}.yaml")
    fields = {
        "operator": PARTIES["operator"],
        "agreement": agreement,
        "product": loaded.product,
        "purpose": loaded.purpose,
        "reads": loaded.reads or (("hospital", ("age", "medical_specialty")),),
        "description_columns": (described_columns(description),),
        "loss": loaded.loss,
        "raw_rows": False,
        "at": "2026-11-23T08:00:00Z",
        "isolation": "standard" if loaded.kind is JobKind.PYTHON else "no-program",
    }
    return DecisionRequest(**{**fields, **changes})


@pytest.mark.parametrize("job", ["job_public", "job_python"])
def test_the_honest_jobs_are_allowed(job, description, agreement):
    assert decide(request_for(job, description, agreement)).clauses == ("agreed-use",)


def test_the_model_is_planned_and_its_columns_and_loss_are_granted(description, agreement):
    job = load_job(text("job_model.yaml"), "job_model.yaml")
    plan = plan_model(job.model, job.loss, {description.table: description}, rows=job.rows, groups=job.groups)
    request = request_for("job_model", description, agreement, reads=(plan.reads,))
    assert plan.reads == (
        "hospital",
        ("insulin", "number_emergency", "number_inpatient", "readmitted", "time_in_hospital"),
    )
    assert decide(request).clauses == ("agreed-use",)


def test_the_attacks_on_rows_and_budget_are_denied_by_their_clauses(description, agreement):
    assert decide(request_for("attack_budget", description, agreement)).clauses == ("job-loss-limit",)
    rows = request_for("attack_rows", description, agreement, raw_rows=True)
    assert decide(rows).clauses == ("no-raw-rows",)


def test_one_job_speaks_epsilon_and_the_others_rho():
    assert load_job(text("job_sql.yaml"), "job_sql.yaml").loss == EpsilonDelta("1", "1e-7")
    assert load_job(text("job_python.yaml"), "job_python.yaml").loss.rho == Fraction(1, 50)


class Answer:
    def __init__(self, table, keys):
        self.table = table
        errors = table.astype(object)
        errors.loc[:, :] = 12.5
        errors.loc[:, keys] = None
        self.standard_errors = errors


class Data:
    """Answers the program's questions exactly, from the sealed table."""

    def __init__(self, table):
        self.parameters = {"within": "<30"}
        self.questions = []
        self._table = table

    def ask(self, sql, share):
        self.questions.append((sql, share))
        encounters = self._table  # noqa: F841  (duckdb finds it by its name)
        table = duckdb.sql(sql).df()
        return Answer(table, [name for name in table.columns if name != "encounters"])


def test_the_program_asks_twice_and_its_outputs_are_as_declared(sealed):
    pa_table = sealed[0][0]
    data = Data(pa_table)
    outputs = module_of("analyze").analyze(data)
    assert [share for _, share in data.questions] == ["1/2", "1/2"]
    assert "WHERE age = '[70-80)'" in data.questions[1][0]
    declared = load_job(text("job_python.yaml"), "job_python.yaml").outputs
    assert set(outputs) == {output.name for output in declared}
    for output in declared:
        frame = outputs[output.name]
        assert list(frame.columns) == [name for name, _ in output.columns]
        assert 0 < len(frame) <= output.max_rows
        assert not frame.isna().any().any()
    table, figure = outputs["readmission_by_age"], outputs["readmission_by_a1c"]
    exact = pa_table.to_pandas()
    seventies = exact[exact["age"] == "[70-80)"]
    row = table[table["age"] == "[70-80)"].iloc[0]
    assert row["encounters"] == len(seventies)
    assert row["rate"] == pytest.approx((seventies["readmitted"] == "<30").mean())
    n, p = row["encounters"], row["rate"]
    assert row["standard_error"] == pytest.approx(12.5 * (1 - 2 * p + 3 * p**2) ** 0.5 / n)
    assert ((figure["lower"] <= figure["rate"]) & (figure["rate"] <= figure["upper"])).all()
    assert set(figure["age"]) == {"[70-80)"}


def test_the_program_survives_counts_that_noise_made_negative():
    rows = [(age, back, -3.0) for age in ("[0-10)", "[10-20)") for back in ("<30", ">30", "NO")]

    class Noisy(Data):
        def ask(self, sql, share):
            key = "a1c_result" if "a1c_result" in sql else "age"
            return Answer(pd.DataFrame(rows, columns=[key, "readmitted", "encounters"]), [key, "readmitted"])

    outputs = module_of("analyze").analyze(Noisy(None))
    for frame in outputs.values():
        assert not frame.isna().any().any()
        assert frame["rate"].between(0, 1).all()


@pytest.mark.parametrize("name", ["analyze.py", "attack_files.py"])
def test_the_programs_are_in_the_restricted_language(name):
    assert compile_restricted(text(name), name, "exec") is not None
