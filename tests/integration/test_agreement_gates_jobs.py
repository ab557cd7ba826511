"""An agreement needs two signatures, and gates every job: what is outside it is denied with the clause that denied."""

from dataclasses import replace

import pytest

from sandbox.crypto.keys import generate_key
from sandbox.crypto.signing import sign
from sandbox.errors import DeniedError, ExpiredError, PolicyError, QueryError, SaggarError, SignatureError
from sandbox.jobs.agree import register_agreement
from sandbox.jobs.registry import agreement_of
from sandbox.model.agreement import SIGNING_CONTEXT, SignedAgreement
from sandbox.model.canonical import canonical_bytes
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_agreement import load_agreement
from sandbox.model.loss import NO_LOSS
from sandbox.service.compose import register_key, unlock_named
from tests.conftest import AGREEMENT, DESCRIPTION, PASSPHRASE, PROGRAM, PYTHON_JOB, SQL, SQL_JOB, running
from tests.support.line_world import check_books, last, posted

SECOND = AGREEMENT.replace("clinic-test", "second")


def terms_of(engine, text=SECOND):
    parties = {key.name: key.key_id for key in engine.state().keys.values()}
    return running(load_agreement(text, "agreement.yaml", parties), engine.clock.now())


def signed_by(world, terms, *names):
    message = canonical_bytes(terms.to_record())
    keys = [unlock_named(world.state, name, PASSPHRASE) for name in names]
    return SignedAgreement(terms, tuple(sign(key, SIGNING_CONTEXT, message) for key in keys))


@pytest.mark.parametrize(("signer", "absent"), [("operator", "agency"), ("agency", "operator")])
def test_one_signature_is_not_enough(world, signer, absent):
    with world.engine() as engine:
        with pytest.raises(
            SignatureError, match=f"the {absent} `{absent}` has not signed agreement `second`"
        ) as refused:
            register_agreement(engine, signed_by(world, terms_of(engine), signer))
        assert refused.value.code == "policy.signature.missing"
        assert "second" not in engine.state().agreements


def test_two_signatures_of_the_parties_register_it_with_term_purpose_columns_and_budget(world):
    with world.engine() as engine:
        terms = terms_of(engine)
        register_agreement(engine, signed_by(world, terms, "operator", "agency"))
        kept = agreement_of(engine, "second").agreement
        assert kept == terms
        assert (kept.purposes, kept.products) == (("public-governance",), ("P08",))
        assert kept.grants[0].columns == ("cost", "days", "district", "reason")
        assert str(kept.grants[0].budget.rho) == "1"
        assert kept.not_before < engine.clock.now() < kept.not_after
        assert engine.state().accounts["agreement:second/clinic"].limit == kept.grants[0].budget


def test_a_signature_over_other_terms_does_not_count(world):
    with world.engine() as engine:
        terms = terms_of(engine)
        signed = signed_by(world, terms, "operator", "agency")
        richer = replace(terms, products=("P01", "P08"))
        with pytest.raises(SignatureError):
            register_agreement(engine, SignedAgreement(richer, signed.signatures))


def test_somebody_elses_signature_does_not_count(world):
    with world.engine() as engine, pytest.raises(SignatureError, match="has not signed"):
        register_agreement(engine, signed_by(world, terms_of(engine), "operator", "auditor"))


def test_a_party_in_the_wrong_role_does_not_count(world):
    with world.engine() as engine:
        text = AGREEMENT.replace("clinic-test", "second").replace("agency: agency", "agency: health")
        with pytest.raises(SignatureError, match="which is not registered as one"):
            register_agreement(engine, signed_by(world, terms_of(engine, text), "operator", "health"))


def test_an_agreement_over_a_column_that_does_not_exist_is_refused(world):
    with world.engine() as engine:
        text = AGREEMENT.replace("clinic-test", "second").replace("reason]", "reasons]")
        with pytest.raises(PolicyError, match="grants column `reasons`") as refused:
            register_agreement(engine, signed_by(world, terms_of(engine, text), "operator", "agency"))
        assert refused.value.code == "policy.grant_unknown_column"


def test_an_agreement_that_is_over_cannot_be_registered(world):
    with world.engine() as engine:
        terms = replace(terms_of(engine), not_after=engine.clock.now())
        with pytest.raises(PolicyError, match="agreement `second` ended at") as refused:
            register_agreement(engine, signed_by(world, terms, "operator", "agency"))
        assert refused.value.code == "policy.expired.agreement"


DENIALS = {
    "purpose": (SQL_JOB.replace("public-governance", "advertising"), SQL, "purpose-agreed"),
    "product": (SQL_JOB.replace("P08", "P01"), SQL, "product-agreed"),
    "column": (SQL_JOB, "SELECT COUNT(*) AS n FROM visits WHERE secret_note = 'x'", "columns-agreed"),
    "column of a program": (PYTHON_JOB.replace("[days, district]", "[days, secret_note]"), PROGRAM, "columns-agreed"),
    "loss": (SQL_JOB.replace("0.1", "0.51"), SQL, "job-loss-limit"),
    "delta": (SQL_JOB.replace("{rho: 0.1}", "{rho: 0.1, delta: 1e-5}"), SQL, "job-loss-limit"),
}


@pytest.mark.parametrize("what", DENIALS)
def test_a_job_outside_the_agreement_is_denied_with_the_clause_that_denied(world, what):
    job, code, clause = DENIALS[what]
    before = posted(world)
    with pytest.raises(DeniedError, match=f"denied by clause `{clause}`") as denied:
        world.run(job, code)
    assert denied.value.details["clauses"] == [clause]
    assert denied.value.hint
    decided, refused = last(world, EntryKind.JOB_DECIDED), last(world, EntryKind.JOB_REFUSED)
    assert (decided["allowed"], decided["clauses"]) == (False, [clause])
    assert (refused["stage"], refused["code"], refused["clauses"]) == ("admit", "policy.denied", [clause])
    assert posted(world) == before
    with world.records() as records:
        check_books(records.state())


def other_dataset(world, engine):
    from connectors.csv_source import CsvSource
    from sandbox.jobs.ingest import ingest
    from sandbox.model.load_description import load_description

    text = DESCRIPTION.replace("dataset: clinic", "dataset: other").replace("table: visits", "table: others")
    description = load_description(text, "other.yaml")
    ingest(
        engine,
        description,
        lambda tokeniser: CsvSource(world.files / "clinic.csv", description, tokeniser),
        suite=SuiteName.GM,
        owner="health",
    )


def test_a_job_over_a_dataset_that_was_not_granted_is_denied_and_names_the_clause(world):
    with world.engine() as engine:
        other_dataset(world, engine)
    for job, code in (
        (SQL_JOB, "SELECT COUNT(*) AS n FROM others"),
        (PYTHON_JOB.replace("clinic:", "other:"), PROGRAM),
    ):
        with pytest.raises(DeniedError, match="denied by clause `dataset-agreed`") as denied:
            world.run(job, code)
        assert "dataset-agreed" in denied.value.details["clauses"]


def test_a_job_by_another_operator_than_the_agreements_is_denied(world):
    from sandbox.crypto.keyfile import lock_key
    from sandbox.jobs.line import run_job

    with world.engine() as engine:
        rival = generate_key("rival", Role.OPERATOR, SuiteName.GM)
        (world.state / "keys" / "rival.key").write_bytes(lock_key(rival, PASSPHRASE))
        register_key(engine, rival.public)
        with pytest.raises(DeniedError, match="denied by clause `operator-is-party`"):
            run_job(engine, world.signed(engine, SQL_JOB, SQL, by="rival"))


class Moved:
    """A clock that says another time."""

    def __init__(self, clock, year):
        self._clock = clock
        self._year = year

    def now(self):
        return f"{int(self._clock.now()[:4]) + self._year}-06-01T00:00:00Z"

    def __getattr__(self, name):
        return getattr(self._clock, name)


def test_a_job_after_the_term_is_denied_as_expired(world):
    from sandbox.jobs.line import run_job

    with world.engine() as engine:
        later = replace(engine, clock=Moved(engine.clock, 2))
        with pytest.raises(ExpiredError, match="denied by clause `agreement-window`") as expired:
            run_job(later, world.signed(later, SQL_JOB, SQL))
        assert expired.value.code == "policy.expired"
        assert expired.value.exit_status == 4
    assert last(world, EntryKind.JOB_REFUSED)["clauses"] == ["agreement-window"]


def test_a_clock_set_back_into_the_term_does_not_bring_an_expired_agreement_back(world):
    from sandbox.jobs.line import run_job

    with world.engine() as engine:
        later = replace(engine, clock=Moved(engine.clock, 2))
        with pytest.raises(ExpiredError):
            run_job(later, world.signed(later, SQL_JOB, SQL))
        before = engine.state().accounts["agreement:clinic-test/clinic"].posted
        with pytest.raises(ExpiredError, match="outside its term"):
            run_job(engine, world.signed(engine, SQL_JOB, SQL, nonce="now"))
        assert engine.state().accounts["agreement:clinic-test/clinic"].posted == before


def test_a_clock_that_goes_backwards_never_turns_the_log_back(world):
    from sandbox.jobs.line import run_job

    with world.engine() as engine:
        run_job(engine, world.signed(engine, SQL_JOB, SQL))
        times = [entry.at for entry in engine.ledger.entries()]
        early = (
            replace(engine, clock=Moved(engine.clock, 0))
            if times[-1][5:7] > "06"
            else replace(engine, clock=Moved(engine.clock, -1))
        )
        assert early.clock.now() < times[-1]
        run_job(early, world.signed(early, SQL_JOB, SQL, nonce="early"))
        times = [entry.at for entry in engine.ledger.entries()]
        assert times == sorted(times)


def test_without_an_auditor_no_job_runs(world, monkeypatch):
    from sandbox.jobs.engine import Records

    honest = Records.trusted
    monkeypatch.setattr(Records, "trusted", lambda self, role: () if role is Role.AUDITOR else honest(self, role))
    with pytest.raises(PolicyError, match="no auditor's key is registered") as refused:
        world.run()
    assert refused.value.code == "policy.no_auditor"
    assert posted(world) == NO_LOSS


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("SELECT nosuch FROM visits", "input.query.unknown_column", "nosuch"),
        ("SELECT * FROM visits", "input.query", ""),
        ("SELECT district FROM visits", "input.query", ""),
        ("DELETE FROM visits", "input.query", ""),
        ("SELECT COUNT(*) FROM visits; SELECT COUNT(*) FROM visits", "input.query", ""),
        ("what is the mean of everything", "input.query", ""),
        ("", "input.query", ""),
        ("SELECT COUNT(*) AS n FROM read_csv('/etc/passwd')", "input.query", ""),
        ("SELECT COUNT(*) AS n FROM nosuch", "input.query", "nosuch"),
        ("SELECT MAX(cost) AS most FROM visits", "input.query", ""),
        ("SELECT " + "(" * 2000 + "1" + ")" * 2000 + " FROM visits", "input.query", ""),
    ],
)
def test_sql_that_is_not_a_question_is_refused_before_anything_is_spent(world, code, error, says):
    with pytest.raises(QueryError) as refused:
        world.run(SQL_JOB, code)
    assert refused.value.code.startswith(error)
    assert says in refused.value.message
    assert refused.value.hint
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400
    assert posted(world) == NO_LOSS
    with world.records() as records:
        (job,) = records.state().jobs.values()
        assert (job.state, job.reserved) == (JobState.REFUSED, NO_LOSS)


def test_a_refusal_names_the_place_in_the_question(world):
    with pytest.raises(QueryError) as refused:
        world.run(SQL_JOB, "SELECT COUNT(*) AS n,\n       AVG(nosuch) AS m\nFROM visits")
    assert (refused.value.details["line"], refused.value.details["column"]) == (2, 12)


def test_a_question_that_its_loss_cannot_answer_costs_nothing(world):
    with pytest.raises(SaggarError) as refused:  # private keys need a delta, and the job has none
        world.run(SQL_JOB, "SELECT reason, COUNT(*) AS n FROM visits GROUP BY reason")
    assert refused.value.code.startswith(("privacy", "input"))
    assert posted(world) == NO_LOSS
