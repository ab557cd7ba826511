"""A table that protects enterprises and people, from ingest to replay: each kind has an account, and both pay."""

from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.errors import BudgetExhaustedError, InputError, LedgerError, QueryError, VaultError
from sandbox.jobs.destroy import destroy
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.specify import specify
from sandbox.model.entry import EntryKind
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_description import load_description
from sandbox.model.load_job import load_job
from sandbox.model.loss import PrivacyLoss
from sandbox.service.compose import unlock_named
from sandbox.vault.unit_keys import unit_kinds
from tests.conftest import MARKER, PASSPHRASE, World, copy_world
from tests.support.joint_world import add_agreement, add_dataset
from tests.support.line_world import check_books, exported, kinds, last, posted, replayed, saggar, size
from tests.support.two_unit_world import (
    ACCOUNTS,
    EMPLOYMENTS,
    JOB,
    LIMIT,
    PERMITS,
    SQL,
    employment_rows,
    make_two_units,
)


@pytest.fixture(scope="module")
def _two(_fired_gm: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_two_units(copy_world(_fired_gm, tmp_path_factory.mktemp("two")))


@pytest.fixture
def two(_two: World, tmp_path) -> World:
    return copy_world(_two, tmp_path / "two")


def quoted(world: World, sql: str = SQL, job: str = JOB):
    with world.records() as records:
        spec = specify(records, load_job(job, "job.yaml"), sql)
        return quote_job(records, spec, sql, operator=next(k.key_id for k in records.trusted(Role.OPERATOR)))


def test_a_sealing_opens_an_account_for_each_kind_and_takes_no_profile(two: World) -> None:
    with two.records() as records:
        state = records.state()
    dataset = state.datasets["employments"]
    assert (dataset.unit_kinds, dataset.accounts) == (("enterprise", "person"), ACCOUNTS[1:])
    assert dataset.profile is None
    assert {state.accounts[name].limit.to_record()["rho"] for name in ACCOUNTS[1:]} == {"1/4"}
    assert {posted(two, name).rho for name in ACCOUNTS} == {0}
    assert last(two, EntryKind.DATASET_SEALED)["also_protects"] == ["person"]


def test_a_quote_names_both_accounts_and_the_noise_of_the_further_reach(two: World) -> None:
    quote = quoted(two)
    assert quote.allowed
    assert tuple(line.account for line in quote.accounts) == ACCOUNTS
    assert quote.question.statistics[0].sensitivity == "8", "of an enterprise 8 rows, of a person 2 x 3"
    assert quoted(two, SQL, JOB + "rows: 2\n").question.statistics[0].sensitivity == str(2 * LIMIT)
    notes = " ".join(quote.question.notes)
    assert f"the noise covers one person with at most {LIMIT} rows too" in notes
    assert "no profile is taken of several kinds of units" in notes


def test_an_answer_is_charged_to_both_kinds_and_replays(two: World) -> None:
    released = two.run(JOB, SQL)
    for account in ACCOUNTS:
        assert posted(two, account) == PrivacyLoss.parse({"rho": "1/10", "delta": "0"})
    assert [read[2] for read in last(two, EntryKind.VAULT_OPENED)["reads"]] == [["sector", "wage"]]
    rows = {row[0]: float(row[1]) for row in released.release.outputs["answer"]["rows"]}
    exact = {sector: employment_rows().count(f",{sector},") for sector in ("tiles", "other")}
    assert all(abs(rows[sector] - exact[sector]) < 120 for sector in exact)
    with two.records() as records:
        check_books(records.state())
    assert any("1 answers are exact integers" in verdict for verdict in replayed(two))
    assert MARKER.encode() not in b"".join(exported(two).values())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT post, COUNT(*) AS n FROM jobs GROUP BY post",
        f"{SQL} SETTINGS bounding = 'rescale'",
        "SELECT a.sector, COUNT(*) AS n FROM jobs a JOIN jobs b USING (enterprise_id) GROUP BY 1",
    ],
)
def test_private_keys_rescaled_rows_and_a_table_with_itself_pay_for_both_kinds_and_replay(two: World, sql: str) -> None:
    two.run(JOB.replace("{rho: 0.1}", "{rho: 0.1, delta: 1e-7}"), sql)
    assert {posted(two, account).rho for account in ACCOUNTS} == {Fraction(1, 10)}
    assert any("1 answers are exact integers" in verdict for verdict in replayed(two))


def test_a_join_of_two_tables_of_both_kinds_is_charged_to_every_account_of_each(two: World) -> None:
    other = EMPLOYMENTS.replace("dataset: employments", "dataset: permits").replace("table: jobs", "table: permits")
    add_dataset(two, other, employment_rows(seed=11), "labour")
    add_agreement(two, PERMITS)
    sql = "SELECT SUM(p.wage) AS s FROM jobs j LEFT JOIN permits p USING (enterprise_id)"
    job = JOB.replace("agreement: labour", "agreement: both")
    quote = quoted(two, sql, job)
    assert quote.question.statistics[0].sensitivity == str(2 * (LIMIT + LIMIT) * 8 * 50)
    assert f"the noise covers one person with at most {2 * LIMIT} rows too" in " ".join(quote.question.notes)
    two.run(job, sql)
    every = [f"dataset:{name}/{kind}" for name in ("employments", "permits") for kind in ("enterprise", "person")]
    every += ["agreement:both/employments", "agreement:both/permits"]
    assert {posted(two, account).rho for account in every} == {Fraction(1, 10)}
    assert posted(two, ACCOUNTS[0]).rho == 0, "the other agreement paid nothing"


def test_a_job_is_refused_when_the_account_of_one_kind_has_no_room(two: World) -> None:
    lower = EMPLOYMENTS.replace("budget: {rho: 0.25", "budget: {rho: 0.15")
    add_dataset(two, lower, employment_rows(), "labour")
    two.run(JOB, SQL)
    assert not quoted(two).allowed
    before = {account: posted(two, account) for account in ACCOUNTS}
    with pytest.raises(BudgetExhaustedError, match="dataset:employments/"):
        two.run(JOB, SQL, nonce="again")
    assert {account: posted(two, account) for account in ACCOUNTS} == before
    assert kinds(two)[-1] == "job.refused"
    told = saggar("--state", two.state, "budget", "--json", cwd=two.files)
    assert all(account in told.out for account in ACCOUNTS), told.err


@pytest.mark.parametrize("left_out", ACCOUNTS[1:])
def test_the_ledger_takes_no_reservation_that_leaves_out_one_kind(two: World, left_out: str) -> None:
    from sandbox.jobs import admit as admitting
    from sandbox.jobs.submit import submit

    with two.engine() as engine:
        submitted = submit(engine, two.signed(engine, JOB, SQL))
        admitted = admitting.admit(engine, submitted)
        kept = tuple(each for each in admitted.reservations if each[0] != left_out)
        with pytest.raises(LedgerError) as caught:
            admitting.reserve(engine, replace(admitted, reservations=kept))
    assert caught.value.code == "ledger.entry.wrong_accounts"


@pytest.mark.parametrize(
    ("sql", "error", "code"),
    [
        ("SELECT COUNT(DISTINCT person_id) AS n FROM jobs", QueryError, "input.query.unit_column"),
        ("SELECT person_id, COUNT(*) AS n FROM jobs GROUP BY person_id", QueryError, "input.query.unit_column"),
        ("SELECT COUNT(*) AS n FROM jobs WHERE person_id = 'x'", QueryError, "input.query.unit_column"),
        ("SELECT COUNT(_unit_person) AS n FROM jobs", QueryError, "input.query.unknown_column"),
        (
            "SELECT COUNT(*) AS n FROM jobs a JOIN jobs b ON a.person_id = b.person_id",
            QueryError,
            "input.query.join",
        ),
        (
            (
                "SELECT sector, COUNT(DISTINCT enterprise_id) AS n FROM jobs GROUP BY sector ORDER BY n DESC LIMIT 1 "
                "SETTINGS top = 'noisy_max'"
            ),
            QueryError,
            "input.query.top",
        ),
    ],
)
def test_what_is_not_proven_for_two_kinds_is_refused_before_anything_is_held(two: World, sql, error, code) -> None:
    job = JOB.replace("{rho: 0.1}", "{rho: 0.1, delta: 1e-7}")
    with pytest.raises(error) as caught:
        two.run(job, sql)
    assert caught.value.code == code
    assert caught.value.hint
    assert kinds(two)[-1] == "job.refused"


def test_the_limit_is_kept_at_sealing_over_everything_that_is_appended(two: World) -> None:
    rows = employment_rows(seed=9, most=LIMIT + 2)
    before = size(two)
    with pytest.raises(InputError) as caught:
        add_dataset(two, EMPLOYMENTS, rows, "labour")
    assert caught.value.code == "input.seal.unit_rows"
    assert f"`person_id` has more rows than the {LIMIT} " in caught.value.message
    assert MARKER not in str(caught.value)
    from connectors.csv_source import CsvSource
    from sandbox.jobs.ingest import ingest

    description = load_description(EMPLOYMENTS, "more.yaml")
    path = two.files / "more.csv"
    path.write_text(employment_rows(enterprises=40), encoding="utf-8")
    with two.engine() as engine, pytest.raises(InputError) as caught:
        ingest(
            engine,
            description,
            lambda *tokenisers: CsvSource(path, description, *tokenisers),
            suite=SuiteName.GM,
            owner="labour",
            append=True,
        )
    assert caught.value.code == "input.seal.unit_rows", "within the limit by itself, and not with the rows before"
    with two.engine() as engine:
        assert engine.vault.check(engine.trusted(Role.SANDBOX)).garbage == ()
    assert size(two) == before
    path.write_text(employment_rows(enterprises=40).replace("P", "Q"), encoding="utf-8")
    with two.engine() as engine:
        made = ingest(
            engine,
            description,
            lambda *tokenisers: CsvSource(path, description, *tokenisers),
            suite=SuiteName.GM,
            owner="labour",
            append=True,
        )
        assert made.snapshot == engine.state().datasets["employments"].snapshot


def test_the_kinds_of_a_dataset_never_change(two: World) -> None:
    fewer = EMPLOYMENTS.replace("also_protects:\n", "").replace(
        f"  - {{kind: person, column: person_id, zh: 自然人, rows: {LIMIT}}}\n", ""
    )
    assert fewer != EMPLOYMENTS
    with pytest.raises(LedgerError) as caught:
        add_dataset(two, fewer, employment_rows(), "labour")
    assert caught.value.code == "ledger.entry.unit_changed"


def test_tokens_of_people_are_opened_for_no_question_and_hold_no_name(two: World) -> None:
    with two.engine() as engine:
        snapshot = engine.state().datasets["employments"].snapshot
        trusted = engine.trusted(Role.SANDBOX)
        with engine.vault.open_snapshot(snapshot, ["wage"], trusted) as opened, pytest.raises(VaultError):
            opened.partition(0, ["_unit_person"])
        assert [name for name, _ in engine.vault.manifest(snapshot, trusted).columns[:3]] == [
            "_unit",
            "_rank",
            "_unit_person",
        ]
        parties = [unlock_named(two.state, name, PASSPHRASE) for name in ("operator", "labour")]
        destroy(engine, "employments", parties, basis="a test")
        assert unit_kinds(engine.vault.keyring) == ("patient",)


def test_a_batch_of_two_kinds_is_sealed_at_the_source_under_both_token_keys(two: World) -> None:
    (two.files / "more.yaml").write_text(EMPLOYMENTS, encoding="utf-8")
    (two.files / "more.csv").write_text(employment_rows(), encoding="utf-8")
    desk = lambda *words: saggar("--state", two.state, *words, cwd=two.files)  # noqa: E731
    assert desk("keys", "public", "sandbox", "--out", "vault.pub").code == 0
    for kind in ("enterprise", "person"):
        told = desk("keys", "issue-token-key", kind, "--to", "labour", "--out", f"{kind}.token")
        assert told.code == 0, told.err
    seal = ("seal-source", "more.yaml", "more.csv", "--to", "vault.pub", "--as", two.state / "keys" / "labour.key")
    first, second = ("--token-key", "enterprise.token"), ("--token-key", "person.token")
    told = desk(*seal, *first, "--out", "batch", "--json")
    assert "input.token_keys" in told.out + told.err
    told = desk(*seal, *second, *first, "--out", "batch", "--json")
    assert "vault.key_unavailable.token_key" in told.out + told.err
    assert desk(*seal, *first, *second, "--out", "batch").code == 0
    received = desk("receive", "batch", "--json")
    assert received.code == 0, received.err
    two.run(JOB, SQL)
