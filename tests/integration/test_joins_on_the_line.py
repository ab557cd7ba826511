"""A join of two departments' datasets, from quote to replay: both accounts pay, and only named columns open."""

import csv
import io
from collections import defaultdict

import pytest

from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import BudgetExhaustedError, DeniedError, InputError, KeyUnavailableError, QueryError
from sandbox.jobs.destroy import destroy
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.rehearse import rehearse_job
from sandbox.jobs.specify import specify
from sandbox.model.entry import EntryKind
from sandbox.model.keys import Role
from sandbox.model.load_job import load_job
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service.compose import unlock_named
from sandbox.vault.unit_keys import unit_keys, unit_kinds
from tests.conftest import PASSPHRASE, World, clinic_rows, copy_world
from tests.support.joint_world import INSURANCE, JOB, SQL, add_dataset, claim_rows, make_joint
from tests.support.line_world import check_books, kinds, last, posted, replayed

ACCOUNTS = (
    "agreement:joint/clinic",
    "dataset:clinic/patient",
    "agreement:joint/insurance",
    "dataset:insurance/patient",
)


@pytest.fixture(scope="module")
def _joint(_fired_gm: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_joint(copy_world(_fired_gm, tmp_path_factory.mktemp("joint")))


@pytest.fixture
def joint(_joint: World, tmp_path) -> World:
    return copy_world(_joint, tmp_path / "joint")


def quoted(world: World, sql: str, job: str = JOB):
    with world.records() as records:
        spec = specify(records, load_job(job, "job.yaml"), sql)
        return quote_job(records, spec, sql, operator=next(k.key_id for k in records.trusted(Role.OPERATOR)))


def expected_counts() -> dict[str, int]:
    """Return what the join counts without noise, where no unit is over any bound: all pairs of a patient's rows."""
    visits, claims = defaultdict(list), defaultdict(int)
    for row in csv.DictReader(io.StringIO(clinic_rows())):
        if row["secret"] != "1":
            visits[row["patient"]].append(row["district"])
    for row in csv.DictReader(io.StringIO(claim_rows())):
        claims[row["insured"]] += 1
    counts: dict[str, int] = defaultdict(int)
    for patient, districts in visits.items():
        for district in set(districts) if claims[patient] else ():
            counts[district] += 1
    return counts


def test_a_join_is_quoted_with_both_accounts_and_both_columns(joint: World) -> None:
    quote = quoted(joint, SQL)
    assert quote.allowed
    assert quote.reads == (("clinic", ("district",)), ("insurance", ("paid",)))
    assert tuple(line.account for line in quote.accounts) == ACCOUNTS
    assert quote.question.columns == quote.reads
    assert quote.question.bound == {"rows": 3, "groups": 2}
    assert "no profile speaks of joined rows" in " ".join(quote.question.notes)
    assert "from the 3 lowest ranks of the patient in `v` and `c`" in quote.question.bounding


def test_a_join_charges_all_four_accounts_opens_only_its_columns_and_replays(joint: World) -> None:
    before = {account: posted(joint, account) for account in ACCOUNTS}
    released = joint.run(JOB, SQL)
    for account in ACCOUNTS:
        assert posted(joint, account).minus(before[account]) == PrivacyLoss.parse({"rho": "1/10", "delta": "0"})
    opened = last(joint, EntryKind.VAULT_OPENED)["reads"]
    assert [(dataset, columns) for dataset, _, columns in opened] == [("clinic", ["district"]), ("insurance", ["paid"])]
    rows = released.release.outputs["answer"]["rows"]
    people = {row[0]: float(row[3]) for row in rows}
    # At most 2 of 3 districts and 3 of a patient's rows count, so fewer; the noise is a few people.
    for district, exact in expected_counts().items():
        assert exact * 0.6 - 40 < people[district] < exact + 40
    with joint.records() as records:
        check_books(records.state())
    assert any("1 answers are exact integers" in verdict for verdict in replayed(joint))


def test_a_join_is_refused_whole_when_one_of_its_accounts_is_used_up(joint: World) -> None:
    big = JOB.replace("0.1", "0.2")
    joint.run(big, SQL)
    before = {account: posted(joint, account) for account in ACCOUNTS}
    assert not quoted(joint, SQL, big).allowed
    with pytest.raises(BudgetExhaustedError, match="agreement:joint/insurance"):
        joint.run(big, SQL, nonce="again")
    assert {account: posted(joint, account) for account in ACCOUNTS} == before
    assert kinds(joint)[-1] == "job.refused"


def test_the_policy_decides_over_the_columns_of_both_sides(joint: World) -> None:
    with pytest.raises(DeniedError):
        joint.run(JOB, SQL.replace("SUM(paid)", "SUM(hidden)"))
    assert kinds(joint)[-1] == "job.refused"


def test_steps_of_both_datasets_join(joint: World) -> None:
    sql = (
        "WITH p AS (SELECT patient, SUM(cost) AS cost FROM visits GROUP BY patient), "
        "q AS (SELECT insured, SUM(paid) AS paid FROM claims GROUP BY insured) "
        "SELECT CORR(cost, paid) AS r, COUNT(*) AS n FROM p LEFT JOIN q ON p.patient = q.insured"
    )
    released = joint.run(JOB, sql)
    (row,) = released.release.outputs["answer"]["rows"]
    assert abs(float(row[1]) - 600) < 30
    assert quoted(joint, sql).reads == (("clinic", ("cost",)), ("insurance", ("paid",)))


def test_a_program_joins_what_it_declared(joint: World) -> None:
    program = f"""
def analyze(data):
    table = data.ask("{SQL}", share="1/2").table
    return {{"n": float(table["n"].iloc[0])}}
"""
    job = JOB.replace("question.sql", "program.py") + (
        "reads: {clinic: [district], insurance: [paid]}\noutputs:\n  - {name: n, kind: number}\n"
    )
    released = joint.run(job, program)
    assert set(released.release.outputs) == {"n"}
    with pytest.raises(Exception, match="may not read dataset `insurance`|ended without outputs"):
        joint.run(job.replace(", insurance: [paid]", ""), program)


def test_one_dataset_is_destroyed_and_the_other_keeps_its_tokens(joint: World) -> None:
    with joint.engine() as engine:
        before = unit_keys(engine.vault.keyring, "patient")
        parties = [unlock_named(joint.state, name, PASSPHRASE) for name in ("operator", "insurer")]
        destroy(engine, "insurance", parties, basis="a test")
        assert unit_keys(engine.vault.keyring, "patient") == before
        assert Tokeniser(before.tokens).tokens(["x"]) is not None
    with pytest.raises(QueryError):
        joint.run(JOB, SQL.replace("claims", "nothing"))
    joint.run()
    with joint.engine() as engine:
        parties = [unlock_named(joint.state, name, PASSPHRASE) for name in ("operator", "health")]
        destroy(engine, "clinic", parties, basis="a test")
        assert unit_kinds(engine.vault.keyring) == ()
        with pytest.raises(KeyUnavailableError):
            unit_keys(engine.vault.keyring, "patient")


def test_a_join_is_rehearsed_on_made_up_rows_of_both_datasets(joint: World) -> None:
    with joint.records() as records:
        spec = specify(records, load_job(JOB, "job.yaml"), SQL)
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        before = records.state().size
        gone = rehearse_job(records, spec, SQL, operator=operator, noise=OpenDpNoise())
        assert (gone.problem, gone.questions) == ("", 1)
        assert records.state().size == before


TWICE = INSURANCE.replace("table: claims", "table: visits")


def test_two_datasets_of_one_table_name_are_refused_by_name_and_not_the_last_one_read(
    joint: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest refuses a taken name; a log that has two all the same must not read whichever was sealed last."""
    alone = "SELECT COUNT(*) AS n FROM visits"
    assert quoted(joint, alone).allowed
    with pytest.raises(InputError) as taken:
        add_dataset(joint, TWICE, claim_rows(), "insurer")
    assert taken.value.code == "input.table_taken"
    monkeypatch.setattr("sandbox.jobs.ingest._check_names", lambda *_: None)
    add_dataset(joint, TWICE, claim_rows(), "insurer")
    for act in (lambda: quoted(joint, alone), lambda: joint.run(JOB, alone)):
        with pytest.raises(QueryError, match="stands for the datasets `clinic` and `insurance`") as caught:
            act()
        assert caught.value.code == "input.query.ambiguous_table"
        assert caught.value.details["datasets"] == ["clinic", "insurance"]
    assert kinds(joint)[-1] == "job.refused"
    assert last(joint, EntryKind.JOB_REFUSED)["code"] == "input.query.ambiguous_table"
    both = JOB.replace("question.sql", "program.py") + (
        "reads: {clinic: [district], insurance: [paid]}\noutputs:\n  - {name: value, kind: number}\n"
    )
    program = "def analyze(data):\n    return {'value': 1}\n"
    with pytest.raises(QueryError) as caught:
        joint.run(both, program)
    assert caught.value.code == "input.query.ambiguous_table"
    one = both.replace(", insurance: [paid]", "")
    assert joint.run(one, program).release.loss == NO_LOSS, "a program that declares one of them says which it means"
