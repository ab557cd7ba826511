"""Files that people get wrong: each is told in one sentence with its place, and nothing is lost or spent."""

import pytest

from connectors.csv_source import CsvSource
from sandbox.errors import DescriptionError, FileFormatError, InputError, SaggarError
from sandbox.jobs.ingest import ingest
from sandbox.model.keys import SuiteName
from sandbox.model.load_agreement import load_agreement
from sandbox.model.load_description import load_description
from sandbox.model.load_job import load_job
from tests.conftest import AGREEMENT, DESCRIPTION, PYTHON_JOB, SQL, SQL_JOB
from tests.support.line_world import DATASET_ACCOUNT, check_log, posted, size


def line_of(text, part):
    return text[: text.index(part)].count("\n") + 1


def check(error, line):
    assert error.details["line"] == line, error.message
    assert error.hint
    assert "\n" not in error.message
    assert not error.message.endswith(".")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("kind: decimal", "kind: float", "float"),
        ("lower: 0, upper: 14", "lower: 14, upper: 0", "lower: 14"),
        ("classification: L2", "classification: L9", "L9"),
        ("rho: 2,", "rho: -2,", "rho: -2"),
        ("dataset: clinic", "dataset: ../clinic", "dataset: ../"),
        ("table: visits", "tabel: visits", "tabel"),
        ("max_rows: 100000", "max_rows: many", "many"),
        ("unit: {kind: patient, column: patient, zh: 患者}", "unit: [", "bound:"),
    ],
)
def test_a_malformed_dataset_description_is_told_with_its_line(old, new, place):
    assert old in DESCRIPTION
    text = DESCRIPTION.replace(old, new, 1)
    with pytest.raises(DescriptionError) as refused:
        load_description(text, "clinic.yaml")
    assert abs(refused.value.details["line"] - line_of(text, place)) <= 1
    check(refused.value, refused.value.details["line"])
    assert "clinic.yaml" in refused.value.message or refused.value.details["file"] == "clinic.yaml"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("product: P08", "product: [P08]", "[P08]"),
        ("code: question.sql", "code: ../question.sql", "../"),
        ("loss: {rho: 0.1}", "loss: {rho: much}", "much"),
        ("loss: {rho: 0.1}", "loss: {rho: -0.1}", "-0.1"),
        ("purpose: public-governance", "porpoise: public-governance", "porpoise"),
    ],
)
def test_a_malformed_job_file_is_told_with_its_line(old, new, place):
    text = SQL_JOB.replace(old, new, 1)
    with pytest.raises(DescriptionError) as refused:
        load_job(text, "job.yaml")
    check(refused.value, line_of(text, place))


@pytest.mark.parametrize("loss", ["{rho: 1e300}", "{rho: 1e-300}", "{epsilon: 1e300, delta: 1e-7}"])
def test_a_loss_that_no_account_can_hold_is_an_input_error_and_not_the_ledgers(world, loss):
    with pytest.raises(SaggarError) as refused:
        world.run(SQL_JOB.replace("{rho: 0.1}", loss), SQL)
    assert refused.value.code.startswith(("input.exact", "policy.denied", "privacy"))
    assert len(refused.value.message) < 300
    assert posted(world).rho == 0


def test_an_output_of_a_kind_that_does_not_exist_is_told_with_its_line():
    text = PYTHON_JOB.replace("kind: number}", "kind: picture}")
    with pytest.raises(DescriptionError) as refused:
        load_job(text, "job.yaml")
    check(refused.value, line_of(text, "picture"))


def test_an_agreement_with_a_party_nobody_knows_is_told_with_its_line():
    with pytest.raises(DescriptionError) as refused:
        load_agreement(AGREEMENT, "agreement.yaml", {"operator": "sm3:" + "0" * 64})
    check(refused.value, line_of(AGREEMENT, "agency: agency"))


def sealing(world, engine, csv, description=DESCRIPTION, owner="health"):
    path = world.files / "batch.csv"
    path.write_text(csv, encoding="utf-8")
    described = load_description(description, "clinic.yaml")
    sources = []

    def source(tokeniser):
        sources.append(CsvSource(path, described, tokeniser))
        return sources[0]

    ingest(engine, described, source, suite=SuiteName.GM, owner=owner)
    return sources[0].report()


def batch(world, *broken):
    """Return the clinic's first 400 rows with some rows put in after the header."""
    header, *rows = (world.files / "clinic.csv").read_text(encoding="utf-8").splitlines()[:401]
    return "\n".join([header, *rows[:9], *broken, *rows[9:]]) + "\n"


def test_a_broken_row_is_counted_with_its_number_and_the_rest_is_sealed(world):
    with world.engine() as engine:
        report = sealing(world, engine, batch(world, "P9,0,north,cough,many,1.00,x", "P8,0,west,cough,1,1.00,x"))
        check_log(engine)
    assert (report.rows_read, sum(broken.rows for broken in report.broken)) == (402, 2)
    assert {(broken.column, broken.first_rows) for broken in report.broken} == {("days", (11,)), ("district", (12,))}


def test_too_many_broken_rows_refuse_the_file_and_seal_nothing(world):
    before = size(world), posted(world, DATASET_ACCOUNT)
    with world.engine() as engine, pytest.raises(FileFormatError) as refused:
        sealing(world, engine, batch(world, *["P9,0,north,cough,many,1.00,x"] * 8))
    assert refused.value.code.startswith("input.file")
    assert "11" in refused.value.message + str(refused.value.details)
    assert "many" not in refused.value.message, "a message holds no value"
    assert (size(world), posted(world, DATASET_ACCOUNT)) == before
    assert world.run().release, "the snapshot before still serves"


def test_a_file_without_a_described_column_is_refused(world):
    before = size(world)
    with world.engine() as engine, pytest.raises(FileFormatError) as refused:
        sealing(world, engine, batch(world).replace("district", "quarter", 1))
    assert "district" in refused.value.message
    assert size(world) == before


@pytest.mark.parametrize("owner", ["nobody", "operator", ""])
def test_an_owner_that_is_no_department_is_refused_before_anything_is_sealed(world, owner):
    before = size(world)
    with world.engine() as engine, pytest.raises(InputError, match="no registered department is called") as refused:
        sealing(world, engine, batch(world), owner=owner)
    assert refused.value.code == "input.unknown_key"
    assert size(world) == before
