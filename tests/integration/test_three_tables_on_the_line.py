"""A join of three departments' datasets, from quote to replay: every account pays, and only named columns open."""

import csv
import io
from collections import Counter

import pytest

from sandbox.errors import BudgetExhaustedError, DeniedError, SnapshotNotFoundError
from sandbox.jobs.destroy import destroy
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.rehearse import rehearse_job
from sandbox.jobs.specify import specify
from sandbox.model.entry import EntryKind
from sandbox.model.keys import Role
from sandbox.model.load_job import load_job
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service.compose import unlock_named
from tests.conftest import PASSPHRASE, World, clinic_rows, copy_world
from tests.support.joint_world import JOB, claim_rows, drug_rows, make_joint, make_three
from tests.support.line_world import check_books, kinds, last, posted, replayed

THREE = JOB.replace("agreement: joint", "agreement: three")
ACCOUNTS = tuple(
    account
    for dataset in ("clinic", "insurance", "pharmacy")
    for account in (f"agreement:three/{dataset}", f"dataset:{dataset}/patient")
)
CHAIN = "visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = c.insured"
SQL = f"SELECT form, COUNT(*) AS n, SUM(paid) AS paid, COUNT(DISTINCT patient) AS people FROM {CHAIN} GROUP BY form"
READS = (("clinic", ()), ("insurance", ("paid",)), ("pharmacy", ("form",)))


@pytest.fixture(scope="module")
def _three(_fired_gm: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_three(make_joint(copy_world(_fired_gm, tmp_path_factory.mktemp("three"))))


@pytest.fixture
def three(_three: World, tmp_path) -> World:
    return copy_world(_three, tmp_path / "three")


def quoted(world: World, sql: str, job: str = THREE):
    with world.records() as records:
        spec = specify(records, load_job(job, "job.yaml"), sql)
        return quote_job(records, spec, sql, operator=next(k.key_id for k in records.trusted(Role.OPERATOR)))


def rows_of(text: str, unit: str) -> Counter[str]:
    """Return how many rows of a file each person has; the clinic's excluded ones are left out."""
    return Counter(row[unit] for row in csv.DictReader(io.StringIO(text)) if row.get("secret") != "1")


def test_a_join_of_three_is_quoted_with_all_accounts_and_columns(three: World) -> None:
    quote = quoted(three, SQL)
    assert quote.allowed
    assert quote.reads == READS
    assert tuple(line.account for line in quote.accounts) == ACCOUNTS
    assert quote.question.columns == READS
    assert quote.question.bound == {"rows": 2, "groups": 2}
    assert "of `v` and `c` at most 4 rows that meet `d`" in quote.question.bounding
    assert "no profile speaks of joined rows" in " ".join(quote.question.notes)


def test_a_join_of_three_charges_every_account_opens_only_its_columns_and_replays(three: World) -> None:
    before = {account: posted(three, account) for account in ACCOUNTS}
    released = three.run(THREE, SQL)
    for account in ACCOUNTS:
        assert posted(three, account).minus(before[account]) == PrivacyLoss.parse({"rho": "1/10", "delta": "0"})
    assert posted(three, "agreement:joint/clinic") == PrivacyLoss.parse({"rho": "0", "delta": "0"})
    opened = last(three, EntryKind.VAULT_OPENED)["reads"]
    assert [(dataset, tuple(columns)) for dataset, _, columns in opened] == list(READS)
    visits, claims, drugs = (
        rows_of(clinic_rows(), "patient"), rows_of(claim_rows(), "insured"), rows_of(drug_rows(), "holder")
    )  # fmt: skip
    met = visits.keys() & claims.keys() & drugs.keys()
    exact = sum(min(2, visits[one] * claims[one] * drugs[one]) for one in met)
    counted = sum(float(row[1]) for row in released.release.outputs["answer"]["rows"])
    assert abs(counted - exact) < 80, "the noise of two counts is a dozen rows each"
    with three.records() as records:
        check_books(records.state())
    assert any("1 answers are exact integers" in verdict for verdict in replayed(three))


def test_a_join_of_three_is_refused_whole_when_the_third_account_is_used_up(three: World) -> None:
    big = THREE.replace("0.1", "0.2")
    three.run(big, SQL)
    before = {account: posted(three, account) for account in ACCOUNTS}
    assert not quoted(three, SQL, big).allowed
    with pytest.raises(BudgetExhaustedError, match="agreement:three/pharmacy"):
        three.run(big, SQL, nonce="again")
    assert {account: posted(three, account) for account in ACCOUNTS} == before
    assert kinds(three)[-1] == "job.refused"


def test_the_policy_decides_over_the_columns_and_the_dataset_of_the_third_side(three: World) -> None:
    with pytest.raises(DeniedError):
        three.run(THREE, SQL.replace("SUM(paid)", "SUM(d.hidden)"))
    assert kinds(three)[-1] == "job.refused"
    with pytest.raises(DeniedError):
        three.run(JOB, SQL)  # the agreement over two grants no pharmacy
    assert kinds(three)[-1] == "job.refused"


@pytest.mark.parametrize(
    "sql",
    [
        (
            "SELECT COUNT(*) AS n, SUM(price) AS s FROM visits v LEFT JOIN claims c ON v.patient = c.insured "
            "LEFT JOIN drugs d ON d.holder = c.insured WHERE v.district IS NOT NULL"
        ),
        (
            "WITH z(form, dear) AS (VALUES ('pill', 1), ('salve', 2)), y(dear, name) AS (VALUES (1, 'low'), (2, 'high')) "
            "SELECT name, COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured "
            "LEFT JOIN drugs d ON d.holder = v.patient JOIN z USING (form) JOIN y ON y.dear = z.dear GROUP BY name"
        ),
        (
            "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient), q AS (SELECT insured, SUM(paid) AS s "
            "FROM claims GROUP BY insured), r AS (SELECT holder, SUM(price) AS t FROM drugs GROUP BY holder) "
            "SELECT CORR(s, t) AS r, COUNT(*) AS n FROM p JOIN q ON p.patient = q.insured JOIN r ON r.holder = p.patient"
        ),
        (
            "SELECT COUNT(DISTINCT v.patient) AS u FROM visits v JOIN claims c ON v.patient = c.insured "
            "JOIN drugs d ON d.holder = v.patient JOIN claims e ON e.insured = d.holder WHERE c.paid > e.paid"
        ),
    ],
    ids=["left", "public", "steps", "four"],
)
def test_every_form_of_three_and_four_sides_runs_and_replays(three: World, sql: str) -> None:
    released = three.run(THREE, sql)
    assert released.release.outputs["answer"]["rows"]
    assert any("1 answers are exact integers" in verdict for verdict in replayed(three))


def test_a_join_of_three_is_rehearsed_and_asked_by_a_program(three: World) -> None:
    with three.records() as records:
        spec = specify(records, load_job(THREE, "job.yaml"), SQL)
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        gone = rehearse_job(records, spec, SQL, operator=operator, noise=OpenDpNoise())
        assert (gone.problem, gone.questions) == ("", 1)
    program = f"""
def analyze(data):
    table = data.ask("{SQL}", share="1/2").table
    return {{"n": float(table["n"].iloc[0])}}
"""
    job = THREE.replace("question.sql", "program.py") + (
        "reads: {clinic: [district], insurance: [paid], pharmacy: [form]}\noutputs:\n  - {name: n, kind: number}\n"
    )
    assert set(three.run(job, program).release.outputs) == {"n"}
    with pytest.raises(Exception, match="may not read dataset `pharmacy`|ended without outputs"):
        three.run(job.replace(", pharmacy: [form]", ""), program)


def test_a_join_whose_third_dataset_is_destroyed_is_refused(three: World) -> None:
    with three.engine() as engine:
        parties = [unlock_named(three.state, name, PASSPHRASE) for name in ("operator", "chemist")]
        destroy(engine, "pharmacy", parties, basis="a test")
    with pytest.raises(SnapshotNotFoundError, match="`pharmacy` was destroyed") as caught:
        three.run(THREE, SQL)
    assert caught.value.code == "vault.snapshot_not_found.destroyed"
    three.run(THREE, "SELECT COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured")
