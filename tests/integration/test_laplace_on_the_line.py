"""Laplace noise by choice, from a quote and a signed job to an auditor's replay, and a sandbox that lies about it."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
from rich.console import Console

from sandbox.cli.delivery import show_release
from sandbox.cli.render import quote_tables
from sandbox.errors import QueryError, ReplayMismatchError, SaggarError
from sandbox.jobs import questions
from sandbox.jobs.gate import check_permit
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.replay import replay_bundle
from sandbox.jobs.specify import specify
from sandbox.model.keys import Role
from sandbox.model.load_job import load_job
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service import compose
from sandbox.service.compose import unlock_named
from sandbox.service.embedded import connect
from tests.conftest import PASSPHRASE, PYTHON_JOB, SQL_JOB
from tests.support.line_world import exported, posted, replayed

LAPLACE = "SELECT district, COUNT(*) AS n, AVG(days) AS m FROM visits GROUP BY district SETTINGS noise = 'laplace'"
BY_DAYS = "SELECT district, days, COUNT(*) AS n FROM visits GROUP BY district, days SETTINGS noise = 'laplace'"
EXACT = {"rho": "1/8", "delta": "0"}
JOB = SQL_JOB.replace("rho: 0.1", "rho: 0.125")
PROGRAM = """
def analyze(data):
    answer = data.ask("SELECT COUNT(*) AS n FROM visits SETTINGS noise = 'laplace'", share="1/2")
    plain = data.ask("SELECT COUNT(*) AS n FROM visits", share="1/2")
    pure = answer.pure_loss["epsilon"].split("/")
    return {"epsilon": float(pure[0]) / float(pure[1]), "plain": 1.0 if plain.pure_loss is None else 0.0}
"""
PROGRAM_JOB = (
    PYTHON_JOB.partition("reads:")[0]
    + "reads: {clinic: [days]}\noutputs:\n  - {name: epsilon, kind: number}\n  - {name: plain, kind: number}\n"
)


def printed(parts):
    terminal = Console(file=io.StringIO(), width=200)
    for part in parts:
        terminal.print(part)
    return terminal.file.getvalue()


def quoted(world, sql):
    with world.records() as records:
        spec = specify(records, load_job(JOB, "job.yaml"), sql)
        return quote_job(
            records,
            spec,
            sql,
            operator=next(k.key_id for k in records.trusted(Role.OPERATOR)),
            wanted=(Fraction(1, 50), 1000),
        )


def test_a_pure_loss_is_quoted_answered_charged_in_rho_and_replayed(world):
    quote = quoted(world, LAPLACE)
    assert quote.allowed
    assert {s.mechanism for s in quote.question.statistics} == {"discrete Laplace"}
    shown = printed(quote_tables(quote))
    assert "discrete Laplace, deviation" in shown
    assert "pure loss 纯损失: ε = 0.707107, δ = 0" in shown
    assert "times narrower" in shown
    assert "needs ρ" in shown

    before = posted(world)
    released = world.run(JOB, LAPLACE)
    answer = released.release.outputs["answer"]
    assert answer["pure_loss"] == quote.to_record()["question"]["pure_loss"]
    assert answer["loss"] == EXACT == released.release.loss.to_record()
    assert posted(world).minus(before) == PrivacyLoss.parse(EXACT)
    terminal = Console(file=io.StringIO(), width=200)
    show_release(terminal, released.release)
    assert "pure loss 纯损失: ε = 0.707107, δ = 0" in terminal.file.getvalue()
    assert "a pure loss of epsilon = 0.707107, delta = 0" in terminal.file.getvalue()
    assert any("exact integers plus noise that fits" in verdict for verdict in replayed(world))


def test_the_permit_covers_the_kind_of_noise(world):
    """What the gate signed is the answer with its pure loss: another one, or none, is other outputs."""
    release = world.run(JOB, LAPLACE).release
    with world.records() as records:
        key = next(iter(records.trusted(Role.SANDBOX)))
    honest = {"job": release.job, "transcript": release.permit.transcript, "key": key}
    check_permit(release.permit, outputs=release.outputs, **honest)
    answer = release.outputs["answer"]
    without = {name: part for name, part in answer.items() if name != "pure_loss"}
    for other in (without, {**answer, "pure_loss": {"epsilon": "1/10", "delta": "0"}}):
        with pytest.raises(SaggarError, match="the permit is for other outputs"):
            check_permit(release.permit, outputs={"answer": other}, **honest)


def test_a_pure_loss_that_is_asked_for_is_charged_what_it_costs_and_the_rest_is_given_back(world):
    before = posted(world)
    sql = "SELECT district, COUNT(*) AS n FROM visits GROUP BY district SETTINGS noise = 'laplace', pure_loss = 0.5"
    released = world.run(SQL_JOB.replace("rho: 0.1", "rho: 0.4"), sql)
    answer = released.release.outputs["answer"]
    assert answer["pure_loss"] == {"epsilon": "1/2", "delta": "0"}
    assert answer["loss"] == EXACT == released.release.loss.to_record()
    assert posted(world).minus(before) == PrivacyLoss.parse(EXACT)
    assert any("exact integers plus noise that fits" in verdict for verdict in replayed(world))


def test_a_program_learns_the_pure_loss_of_its_answers(world):
    outputs = world.run(PROGRAM_JOB, PROGRAM).release.outputs
    assert outputs["epsilon"]["value"] == pytest.approx((2 * 0.05) ** 0.5)
    assert outputs["plain"]["value"] == 1.0


def test_a_notebook_shows_the_pure_loss(world):
    city = connect(world.state, key="operator", passphrase=PASSPHRASE)
    shown = city.ask(LAPLACE, epsilon="0.5")._repr_html_()
    assert "pure loss 纯损失: ε = " in shown
    assert "δ = 0" in shown
    assert "pure loss" not in city.ask(LAPLACE.partition(" SETTINGS")[0], epsilon="0.5")._repr_html_()


def test_a_question_that_it_is_not_for_is_refused_before_anything_is_spent(world):
    before = posted(world)
    with pytest.raises(QueryError, match="not for private group keys") as raised:
        world.run(JOB, LAPLACE.replace("district", "reason"))
    assert raised.value.code == "input.query.noise"
    assert posted(world) == before


class Quiet(OpenDpNoise):
    """Draws a tenth of the noise that was planned."""

    def laplace(self, values, *, noise, rho):
        less = replace(noise, scale=noise.scale / 16, epsilon=16 * noise.epsilon)
        return super().laplace(values, noise=less, rho=256 * rho)


def mismatch(world):
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    bundle = exported(world)
    with compose.lazy_guests() as guests:
        replay_bundle(bundle, level=2, auditor=auditor, guests=guests)
        with pytest.raises(ReplayMismatchError) as raised:
            replay_bundle(bundle, level=3, auditor=auditor, guests=guests)
    return raised.value


@pytest.mark.parametrize("lie", ["too little noise", "Gaussian noise", "another pure loss"])
def test_a_sandbox_that_lies_about_the_noise_is_found_at_level_3(world, monkeypatch, lie):
    honest, plan_of = questions.measure, questions.plan_query

    def measured(plan, partials, noise, **more):
        if lie == "too little noise":
            return honest(plan, partials, Quiet(), **more)
        found = honest(plan, partials, noise, **more)
        if lie == "another pure loss":
            return replace(found, answer=replace(found.answer, pure_loss=Fraction(1, 100)))
        return found

    def planned(query, loss):
        gaussian = replace(query, settings=replace(query.settings, laplace=False))
        return plan_of(gaussian if lie == "Gaussian noise" else query, loss)

    with monkeypatch.context() as lying:
        lying.setattr(questions, "measure", measured)
        lying.setattr(questions, "plan_query", planned)
        world.run(JOB, BY_DAYS)
    expected = {
        "too little noise": "the noise is not of its mechanism's size",
        "Gaussian noise": "a recorded question gives another plan than the recorded one",
        "another pure loss": "the answer's pure_loss are not the replay's",
    }
    assert expected[lie] in mismatch(world).message
