"""Models on the line of a job: signed, admitted, paid by the question, gated, receipted, made again by an auditor."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.cli.delivery import deliver
from sandbox.client.submission import sign_spec, verify_release
from sandbox.errors import BoundError, CanonicalError, ReplayMismatchError, SaggarError
from sandbox.jobs import measuring
from sandbox.jobs.export import export_bundle
from sandbox.jobs.line import run_job
from sandbox.jobs.models import learn_again
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.registry import transcript_of
from sandbox.jobs.rehearse import rehearse_job
from sandbox.jobs.replay import replay_bundle
from sandbox.jobs.specify import specify
from sandbox.jobs.stages import SignedJob
from sandbox.ledger.verify import Trusted
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobKind, JobState
from sandbox.model.keys import Role
from sandbox.model.load_job import load_job
from sandbox.privacy.models.asking import COUNT_SHARE
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service.compose import unlock_named
from tests.conftest import PASSPHRASE
from tests.support.line_world import check_log, kinds, last, posted, saggar, size

HEAD = """
name: a model
agreement: clinic-test
product: P08
purpose: public-governance
loss: {rho: 0.3}
rows: 3
model:
  table: visits
"""
LOGISTIC = f"""{HEAD}
  kind: logistic
  target: days >= 7
  features:
    - cost
    - {{name: north, sql: CASE WHEN district = 'north' THEN 1 ELSE 0 END}}
"""
LINEAR = f"""{HEAD}
  kind: linear
  target: days
  filter: district <> 'east'
  features: [cost]
"""
SCORECARD = f"""{HEAD}
  kind: scorecard
  target: days >= 7
  features:
    - {{name: bill, sql: cost, cuts: [250, 500]}}
    - district
"""
SYNTHETIC = f"""{HEAD}
  kind: synthetic
  columns: [district, days]
  max_rows: 500
"""
ALL = {"logistic": LOGISTIC, "linear": LINEAR, "scorecard": SCORECARD, "synthetic": SYNTHETIC}
TOO_FEW = LOGISTIC.replace("days >= 7", "days >= 14 AND cost > 990")


def code_of(job):
    model = load_job(job, "job.yaml").model
    assert model is not None
    return model.to_text()


def run(world, job, **more):
    return world.run(job, code_of(job), **more)


def verdicts(world):
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    return [finding.verdict for finding in replay_bundle(bundle_of(world), level=3, auditor=auditor)]


def bundle_of(world):
    with world.engine() as engine:
        return export_bundle(engine, by=next(k for k in engine.state().keys.values() if k.name == "auditor").key_id)


@pytest.mark.parametrize("kind", ALL)
def test_a_model_goes_the_whole_way_and_an_auditor_makes_the_same_bytes_again(world, kind):
    before = size(world)
    released = run(world, ALL[kind])
    outputs = released.release.outputs
    assert (
        set(outputs)
        == {
            "logistic": {"card", "coefficients"},
            "linear": {"card", "coefficients"},
            "scorecard": {"card", "base", "points"},
            "synthetic": {"card", "rows", "tree"},
        }[kind]
    )
    facts = dict(outputs["card"]["rows"])
    assert facts["kind"] == kind
    assert facts["rho"] == "3/10"
    assert "quality" in facts
    with world.engine() as engine:
        check_log(engine)
        asked = len(transcript_of(engine, released.release.job).exchanges)
        trusted = Trusted(engine.origin, engine.trusted(Role.SANDBOX), engine.trusted(Role.WITNESS))
        spec = world.signed(engine, ALL[kind], code_of(ALL[kind])).spec
        verify_release(released.raw, released.receipt, trusted, spec=spec)
    assert spec.kind is JobKind.MODEL
    assert released.release.isolation == "no-program"
    line = ["job.submitted", "job.decided", "budget.reserved", "vault.opened", *["question.answered"] * asked]
    assert kinds(world, before) == [*line, "job.gated", "job.settled"]
    assert asked == {"logistic": 2, "linear": 2, "scorecard": 3, "synthetic": 1}[kind]
    assert posted(world).rho == Fraction(3, 10)
    assert "the model, made again from the recorded answers, gives the same bytes" in verdicts(world)


def test_coefficients_have_errors_and_intervals_and_a_picture(world, tmp_path):
    with world.engine() as engine:
        signed = world.signed(engine, LOGISTIC, code_of(LOGISTIC))
        delivered = deliver(engine, signed.spec, run_job(engine, signed), tmp_path)
    table = delivered.release.outputs["coefficients"]
    assert table["columns"][0] == ["feature", "text"]
    assert [row[0] for row in table["rows"]] == ["(intercept)", "cost", "north"]
    assert all(low < value < high and error > 0 for _, value, low, high, error in table["rows"])
    assert {path.name for path in delivered.files} >= {"card.csv", "coefficients.csv", "coefficients.png"}


def test_the_points_name_their_bins(world):
    points = run(world, SCORECARD).release.outputs["points"]["rows"]
    assert [row[:2] for row in points] == [
        ["bill", "below 250"],
        ["bill", "250 to below 500"],
        ["bill", "500 or more"],
        ["district", "north"],
        ["district", "south"],
        ["district", "east"],
    ]


def test_a_synthetic_table_has_its_public_values_and_no_more_rows_than_declared(world):
    rows = run(world, SYNTHETIC).release.outputs["rows"]
    assert rows["columns"] == [["district", "text"], ["days", "integer"]]
    assert len(rows["rows"]) == 500
    assert {row[0] for row in rows["rows"]} == {"north", "south", "east"}
    assert all(0 <= row[1] <= 14 for row in rows["rows"])


def test_the_same_job_gives_the_stored_release_and_another_nonce_another_model(world):
    first = run(world, LOGISTIC)
    assert run(world, LOGISTIC).raw == first.raw
    assert posted(world).rho == Fraction(3, 10)
    assert run(world, LOGISTIC, nonce="again").release.outputs != first.release.outputs


def test_too_few_positives_cost_the_count_alone_and_end_with_a_code_that_the_auditor_finds_again(world):
    with pytest.raises(BoundError, match="positives x epsilon / features is below 70") as refused:
        run(world, TOO_FEW)
    assert refused.value.code == "privacy.bound.rows_needed"
    body = last(world, EntryKind.JOB_SETTLED)
    assert (body["outcome"], body["code"], body["release"]) == ("failed", "privacy.bound.rows_needed", None)
    assert posted(world).rho == Fraction(3, 10) * COUNT_SHARE
    found = verdicts(world)
    assert "the model, made again from the recorded answers, refuses for the same reason" in found
    assert "ended without a release (`privacy.bound.rows_needed`)" in found
    with world.engine() as engine:
        check_log(engine)
        assert {facts.state for facts in engine.state().jobs.values()} == {JobState.FAILED}


def test_a_refusal_where_there_was_enough_is_found_by_the_auditor(world, monkeypatch):
    def stingy(*given, **more):
        questioner = given[3]
        questioner.answer(measuring_first(given))
        raise BoundError("there is too little", hint="", code="privacy.bound.rows_needed")

    def measuring_first(given):
        from sandbox.jobs.models import model_plan

        return model_plan(given[0], given[1], given[2]).questions[0][0]

    with monkeypatch.context() as lying:
        lying.setattr(measuring, "learn", stingy)
        with pytest.raises(BoundError):
            run(world, LOGISTIC)
    with pytest.raises(ReplayMismatchError, match="the model cannot be made again"):
        verdicts(world)


def test_another_model_than_the_answers_give_is_found_by_the_auditor(world, monkeypatch):
    honest = measuring.learn

    def bent(*given, **more):
        outputs = honest(*given, **more)
        outputs["coefficients"]["rows"][1][1] += 1e-9
        return outputs

    with monkeypatch.context() as lying:
        lying.setattr(measuring, "learn", bent)
        run(world, LOGISTIC)
    with pytest.raises(ReplayMismatchError, match="is another than the recorded one"):
        verdicts(world)


def test_made_again_it_wants_all_recorded_answers_and_no_others(world):
    released = run(world, LOGISTIC)
    with world.engine() as engine:
        from sandbox.jobs.registry import tables_of
        from sandbox.model.job import JobSpec

        spec = world.signed(engine, LOGISTIC, code_of(LOGISTIC)).spec
        assert isinstance(spec, JobSpec)
        transcript = transcript_of(engine, released.release.job)
        answered = [(exchange.question, exchange.answer) for exchange in transcript.exchanges]
        given = (spec, code_of(LOGISTIC), tables_of(engine))
        seed = measuring.program_seed(transcript.job)
        assert learn_again(*given, answered, seed=seed) == transcript.outputs
        with pytest.raises(CanonicalError, match="asks fewer questions"):
            learn_again(*given, [*answered, answered[0]], seed=seed)
        with pytest.raises(CanonicalError, match="asks another question"):
            learn_again(*given, answered[::-1], seed=seed)


def test_a_model_of_a_column_that_the_agreement_does_not_grant_is_denied_before_anything_is_spent(world):
    job = SCORECARD.replace("- district", "- secret_note").replace("{rho: 0.3}", "{rho: 0.3, delta: 1e-7}")
    with pytest.raises(SaggarError) as refused:
        run(world, job)
    assert refused.value.code == "policy.denied"
    assert posted(world).rho == 0


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("- cost", "- {name: c, sql: cost) + (cost}"), "input.query.model", "is not one expression"),
        (("- cost", "- {name: c, sql: 'cost -- x'}"), "input.query.model", "is not one expression"),
        (("- cost", "- reason"), "input.query.type", "SUM needs a number"),
        (("- cost", "- nothing"), "input.query.unknown_column", ""),
        (("table: visits", "table: elsewhere"), "input.query.unknown_table", "there is no table"),
        (("- cost", "- {name: c, sql: CASE WHEN cost > 1 THEN 1 END}"), "input.query.model", "may be NULL"),
        (("days >= 7", "COUNT(*) > 3"), "input.query", ""),
        (("{rho: 0.3}", "{rho: 0.6}"), "policy.denied", "job-loss-limit"),
    ],
)
def test_what_cannot_be_learned_is_refused_at_admission(world, change, code, message):
    with pytest.raises(SaggarError) as refused:
        run(world, LOGISTIC.replace(*change))
    assert refused.value.code.startswith(code)
    assert message in refused.value.message
    assert posted(world).rho == 0
    assert kinds(world)[-1] == "job.refused"


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: {"reads": (("clinic", ("cost", "days", "district", "reason")),)},
        lambda spec: {"outputs": spec.outputs[:1]},
        lambda spec: {"parameters": (("a", 1),)},
    ],
)
def test_a_spec_that_declares_other_than_its_document_is_refused(world, change):
    with world.engine() as engine:
        spec = world.signed(engine, LOGISTIC, code_of(LOGISTIC)).spec
        spec = replace(spec, **change(spec))
        signature = sign_spec(spec, unlock_named(world.state, "operator", PASSPHRASE))
        with pytest.raises(SaggarError, match="declares other columns or outputs than its model") as refused:
            run_job(engine, SignedJob(spec, code_of(LOGISTIC), signature))
    assert refused.value.code == "input.query.model"


def test_code_that_is_no_document_is_refused(world):
    with pytest.raises(CanonicalError):
        world.run(LOGISTIC, "{}")
    with pytest.raises(CanonicalError):
        world.run(LOGISTIC, code_of(LOGISTIC) + "\n")


@pytest.mark.parametrize(
    ("kind", "counted"), [("logistic", "positives"), ("linear", "rows"), ("scorecard", "positives")]
)
def test_a_quote_says_how_many_rows_a_model_wants_and_what_it_would_be_worth(world, kind, counted):
    with world.records() as records:
        job = load_job(ALL[kind], "job.yaml")
        spec = specify(records, job, job.model.to_text())
        operator = next(key.key_id for key in records.state().keys.values() if key.name == "operator")
        quoted = quote_job(records, spec, job.model.to_text(), operator=operator)
    assert quoted.allowed
    assert quoted.question is None
    assert quoted.reads[0][0] == "clinic"
    record = quoted.to_record()["model"]
    assert record["counted"] == counted
    assert 10 < record["needed"] < 2000
    assert all(found["standard_error"] > 0 for found in record["expected"])
    assert json.dumps(record)


def test_the_command_quotes_and_submits_a_model_and_the_refusal_has_exit_code_5(world, tmp_path):
    (tmp_path / "job.yaml").write_text(SCORECARD, encoding="utf-8")
    (tmp_path / "few.yaml").write_text(TOO_FEW, encoding="utf-8")
    state = ("--state", world.state)
    told = saggar(*state, "quote", "job.yaml", cwd=tmp_path)
    assert told.code == 0, told.err
    assert "how good the scorecard model would be" in told.out
    assert "positives" in told.out
    told = saggar(*state, "submit", "job.yaml", cwd=tmp_path)
    assert told.code == 0, told.err
    assert "points" in told.out
    told = saggar(*state, "submit", "few.yaml", cwd=tmp_path)
    assert told.code == 5
    assert "privacy.bound.rows_needed" in told.err


@pytest.mark.parametrize("kind", ["linear", "synthetic"])
def test_a_model_is_rehearsed_on_made_up_rows_and_nothing_is_spent(world, kind):
    before = size(world)
    with world.records() as records:
        spec = specify(records, load_job(ALL[kind], "job.yaml"), code_of(ALL[kind]))
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        gone = rehearse_job(records, spec, code_of(ALL[kind]), operator=operator, noise=OpenDpNoise(), units=4000)
    assert gone.problem == ""
    assert "card" in gone.outputs
    assert gone.questions == {"linear": 2, "synthetic": 1}[kind]
    assert size(world) == before
