"""A sandbox that lies, with every key in its hands, is found out by the level that is meant to find it.

Each test lets a sandbox misbehave while it runs a job; log, checkpoints, witness and bundle are all genuine.
"""

from dataclasses import replace

import pytest

from sandbox.compute.order import WorkOrder
from sandbox.errors import ReplayMismatchError, SaggarError
from sandbox.jobs import admit, gate, measuring, questions, settling
from sandbox.jobs.export import export_bundle
from sandbox.jobs.replay import replay_bundle
from sandbox.model.loss import PrivacyLoss
from sandbox.service import compose
from sandbox.service.compose import unlock_named
from tests.conftest import PASSPHRASE, PROGRAM, PYTHON_JOB, SQL, SQL_JOB

WRONG_PURPOSE = SQL_JOB.replace("public-governance", "marketing")


def bundle_of(world):
    with world.engine() as engine:
        return export_bundle(engine, by=next(k for k in engine.state().keys.values() if k.name == "auditor").key_id)


def found_at(world, level):
    """Return the mismatch at `level`, after everything below it held."""
    bundle = bundle_of(world)
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    with compose.lazy_guests() as guests:
        replay_bundle(bundle, level=level - 1, auditor=auditor, guests=guests)
        with pytest.raises(SaggarError) as found:
            replay_bundle(bundle, level=level, auditor=auditor, guests=guests)
    return found.value


def test_a_decision_that_the_policies_do_not_give_is_found_at_level_2(world, monkeypatch):
    honest = admit.decide
    with monkeypatch.context() as lying:
        lying.setattr(admit, "decide", lambda request: replace(honest(request), allowed=True, clauses=("agreed-use",)))
        world.run(WRONG_PURPOSE)
    error = found_at(world, 2)
    assert error.message == "the decision comes out differently under the policy of its day"
    assert error.details["place"].startswith("log entry ")


@pytest.mark.parametrize(
    ("field", "job", "code", "lie"),
    [
        ("purpose", WRONG_PURPOSE, SQL, {"purpose": "public-governance"}),
        ("product", SQL_JOB.replace("P08", "P01"), SQL, {"product": "P08"}),
        ("loss", SQL_JOB, SQL, {"loss": PrivacyLoss.parse({"rho": "1/5", "delta": "0"})}),
        ("columns", SQL_JOB, SQL, {"reads": (("clinic", ("days", "district")),)}),
        (
            "classes",
            SQL_JOB,
            SQL,
            {"description_columns": (("clinic", (("cost", "L1"), ("days", "L1"), ("district", "L1"))),)},
        ),
        ("time", SQL_JOB, SQL, {"at": "2099-01-01T00:00:00Z"}),
    ],
)
def test_a_decision_about_another_request_than_the_jobs_is_found_at_level_2(world, monkeypatch, field, job, code, lie):
    honest = admit.decision_request
    with monkeypatch.context() as lying:
        lying.setattr(admit, "decision_request", lambda *a, **k: replace(honest(*a, **k), **lie))
        if field == "time":  # a request of a time to come is denied, and the denial is the lie
            with pytest.raises(SaggarError):
                world.run(job, code)
        else:
            world.run(job, code)
    assert found_at(world, 2).message == f"the decision was about another request than the job's, in its {field}"


def test_columns_opened_beyond_the_decision_are_found_at_level_2(world, monkeypatch):
    honest = measuring.log_opening

    def greedy(engine, reserved):
        reads = (("clinic", ("cost", "days", "district", "reason")),)
        honest(engine, replace(reserved, admitted=replace(reserved.admitted, reads=reads)))

    with monkeypatch.context() as lying:
        lying.setattr("sandbox.jobs.line.log_opening", greedy)
        world.run()
    assert found_at(world, 2).message == "other columns were opened than the decision was about"


def test_an_answer_that_is_not_exact_plus_noise_is_found_at_level_3(world, monkeypatch):
    honest = questions.measure

    def bent(*given, **more):
        measured = honest(*given, **more)
        rows = [[row[0], row[1] + 1, *row[2:]] for row in measured.answer.rows]
        return replace(measured, answer=replace(measured.answer, rows=tuple(map(tuple, rows))))

    with monkeypatch.context() as lying:
        lying.setattr(questions, "measure", bent)
        world.run()
    assert isinstance(found_at(world, 3), ReplayMismatchError)


def test_an_answer_that_cost_less_than_it_should_is_found_at_level_3(world, monkeypatch):
    honest = questions.plan_query

    class Cheap:
        def __init__(self, plan):
            self._plan = plan
            self.loss = plan.loss.scaled(PrivacyLoss.parse({"rho": "1/2", "delta": "0"}).rho)

        def __getattr__(self, name):
            return getattr(self._plan, name)

    real_of, real_measure = WorkOrder.of, questions.measure
    with monkeypatch.context() as lying:
        lying.setattr(questions, "plan_query", lambda *given: Cheap(honest(*given)))
        lying.setattr(WorkOrder, "of", lambda plan: real_of(plan._plan))
        lying.setattr(questions, "measure", lambda plan, *a, **k: real_measure(plan._plan, *a, **k))
        world.run()
    assert found_at(world, 3).message == "the answers cost another loss than was posted"


def test_outputs_that_the_program_did_not_hand_over_are_found_at_level_3(world, monkeypatch):
    honest = measuring._run_code

    def bent(*given):
        outputs, guest = honest(*given)
        return {**outputs, "mean_days": {"kind": "number", "value": 7.25}}, guest

    with monkeypatch.context() as lying:
        lying.setattr(measuring, "_run_code", bent)
        world.run(PYTHON_JOB, PROGRAM)
    assert found_at(world, 3).message == "the program hands over other outputs than the recorded ones"


def test_a_release_that_the_gate_did_not_let_pass_is_found_at_level_3(world, monkeypatch):
    honest = gate.gate_outputs

    def bent(spec, transcript):
        outputs = honest(spec, transcript)
        answer = outputs["answer"]
        return {"answer": {**answer, "notes": ["nothing to see here"]}}

    with monkeypatch.context() as lying:
        lying.setattr(gate, "gate_outputs", bent)
        world.run()
    assert found_at(world, 3).message == "the release says other outputs than the gate lets pass"


def test_a_release_that_hides_what_it_cost_is_found_at_level_3(world, monkeypatch):
    honest = settling._release_of
    small = PrivacyLoss.parse({"rho": "1/1000", "delta": "0"})
    with monkeypatch.context() as lying:
        lying.setattr(settling, "_release_of", lambda gated: replace(honest(gated), loss=small))
        world.run()
    assert found_at(world, 3).message == "the release says another loss than was posted"


def test_a_log_that_breaks_its_own_rules_is_found_at_level_1(world, monkeypatch):
    from sandbox.ledger import job_rules

    with monkeypatch.context() as lying:
        lying.setattr(job_rules.PrivacyLoss, "fits", lambda *_: True)
        world.run(SQL_JOB.replace("0.1", "0.45"), nonce="1")
        world.run(SQL_JOB.replace("0.1", "0.45"), nonce="2")
        world.run(SQL_JOB.replace("0.1", "0.45"), nonce="3")
        bundle = bundle_of(world)
    replay_bundle(bundle, level=0)
    with pytest.raises(SaggarError, match="was not allowed") as found:
        replay_bundle(bundle, level=1)
    assert found.value.code == "ledger.replay"
    assert found.value.details["cause"]["code"].startswith("privacy.budget")
