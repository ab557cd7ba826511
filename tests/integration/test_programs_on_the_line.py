"""Programs that err, ask for too much, or catch a refusal: what they are told, what it costs, what leaves."""

from fractions import Fraction

import pytest

from sandbox.compute.reader import JobReaders
from sandbox.compute.run import engine_failed
from sandbox.errors import GateError, GuestFailedError, LimitExceededError, ProgramError, SaggarError, VaultError
from sandbox.jobs.export import export_bundle
from sandbox.jobs.replay import replay_bundle
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.loss import NO_LOSS
from sandbox.model.transcript import Transcript
from sandbox.service import compose
from sandbox.service.compose import unlock_named
from tests.conftest import MARKER, PASSPHRASE, PYTHON_JOB
from tests.support.line_world import last, posted

NUMBER_JOB = PYTHON_JOB[: PYTHON_JOB.index("outputs:")] + "outputs:\n  - {name: value, kind: number}\n"


def ask(sql, share="1/2"):
    return f'data.ask("{sql}", share="{share}")'


FIRST = ask("SELECT COUNT(*) AS n FROM visits WHERE days > 3")


def run(world, body, job=NUMBER_JOB):
    """Run a program whose `analyze` has this body, with `first` answered before it."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return world.run(job, f"def analyze(data):\n    first = {FIRST}\n{lines}\n")


def failed(world):
    body = last(world, EntryKind.JOB_SETTLED)
    assert (body["outcome"], body["release"]) == ("failed", None)
    return body


@pytest.mark.parametrize(
    ("program", "line", "column"),
    [
        ("def analyze(data):\n    return {'value': 1 +}\n", 2, None),
        ("def analyze(data)\n    return {}\n", 1, None),
        ("import os\n\ndef analyze(data):\n    return {'value': 1}\n", 1, None),
        ("def analyze(data):\n    x = 1\n    return {'value': data.__class__}\n", 3, None),
        ("def analyze(data):\n    exec('1')\n    return {'value': 1}\n", 2, None),
    ],
)
def test_a_program_that_is_not_in_the_language_is_refused_with_line_and_column_and_costs_nothing(
    world, program, line, column
):
    with pytest.raises(ProgramError) as refused:
        world.run(NUMBER_JOB, program)
    assert refused.value.code.startswith("input.program")
    assert refused.value.details["line"] == line
    assert isinstance(refused.value.details["column"], int)
    assert column is None or refused.value.details["column"] == column
    assert refused.value.hint
    assert posted(world) == NO_LOSS
    assert last(world, EntryKind.JOB_REFUSED)["stage"] == "admit"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('on purpose')", "on purpose"),
        ("return {'value': 1 / 0}", "line 3"),
        ("return {'value': first.table['nosuch'].iloc[0]}", "line 3"),
        ("x = [][1]\nreturn {'value': 1}", "line 3"),
    ],
)
def test_a_program_that_fails_is_told_its_line_in_one_bounded_sentence_and_pays_what_it_was_answered(world, body, says):
    with pytest.raises(GuestFailedError) as refused:
        run(world, body)
    assert refused.value.code == "isolation.guest_failed.program_error"
    assert says in refused.value.message
    assert "line 3" in refused.value.message
    assert "\n" not in refused.value.message
    assert MARKER not in refused.value.message
    assert failed(world)["code"] == "isolation.guest_failed.program_error"
    assert posted(world).rho == Fraction(1, 20)


def test_the_message_of_a_failing_program_is_bounded(world):
    with pytest.raises(GuestFailedError) as refused:
        run(world, "raise ValueError('x' * 100000 + str(first.table))")
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return {'value': 1, 'more': 2}", "job.gate.names", "`more` was not declared"),
        ("return {}", "job.gate.names", "`value` is missing"),
        ("return {'other': 1}", "job.gate.names", "`other` was not declared, `value` is missing"),
        ("return {'value': first.table}", "job.gate.type", "output `value` should be one finite number"),
        ("return {'value': float('nan')}", "job.gate.type", "output `value` should be one finite number"),
    ],
)
def test_an_output_that_was_not_declared_does_not_leave(world, body, code, says):
    with pytest.raises(GateError) as refused:
        run(world, body)
    assert refused.value.code == code
    assert says in refused.value.message
    assert failed(world)["code"] == code
    assert posted(world).rho == Fraction(1, 20)


CAUGHT = """
said = ''
try:
    {question}
except Exception as refusal:
    said = str(refusal)
assert said, 'the question was answered'
return {{'value': float(first.table['n'].iloc[0])}}
"""


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (ask("SELECT AVG(cost) AS mean FROM visits"), "policy.columns_not_declared"),
        (ask("SELECT AVG(nosuch) AS mean FROM visits"), "input.query.unknown_column"),
        (ask("SELECT COUNT(*) AS n FROM nosuch"), "input.query"),
        (ask("SELECT COUNT(*) AS n FROM visits", share="3/4"), "privacy.budget"),
        (ask("DELETE FROM visits"), "input.query"),
    ],
    ids=["undeclared column", "unknown column", "unknown table", "over its share", "not a question"],
)
def test_a_program_can_catch_a_refused_question_and_go_on_and_the_refusal_costs_nothing_and_replays(
    world, question, code
):
    released = run(world, CAUGHT.format(question=question))
    assert released.release.loss.rho == Fraction(1, 20)
    assert posted(world).rho == Fraction(1, 20)
    with world.engine() as engine:
        body = [e.body for e in engine.ledger.entries() if e.kind is EntryKind.JOB_SETTLED][-1]
        transcript = Transcript.parse(engine.documents.get(body["transcript"]))
        (refusal,) = transcript.refusals
        assert refusal["code"].startswith(code)
        assert refusal["after"] == 1
        bundle = export_bundle(engine, by=engine.key.public.key_id)
    with compose.lazy_guests() as guests:
        replay_bundle(bundle, level=3, auditor=unlock_named(world.state, "auditor", PASSPHRASE), guests=guests)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_question_that_was_paid_for_and_failed_ends_the_job_and_an_auditor_finds_no_fault(
    world, monkeypatch, fails_at
):
    """The program must not hear of it and go on: whether the engine fails is no noisy answer, and the log counted it."""
    honest, asked = JobReaders.map_partitions, []

    def failing(self, plan, parts, **more):
        asked.append(plan)
        if len(asked) == fails_at:
            raise engine_failed()
        return honest(self, plan, parts, **more)

    monkeypatch.setattr(JobReaders, "map_partitions", failing)
    body = f"""
try:
    second = {ask("SELECT COUNT(*) AS n FROM visits", share="1/8")}
except Exception:
    second = None
third = {ask("SELECT COUNT(*) AS n FROM visits", share="1/8")}
return {{'value': 1}}
"""
    with pytest.raises(VaultError) as caught:
        run(world, body)
    assert caught.value.code == "vault.engine"
    assert len(asked) == fails_at
    assert failed(world)["code"] == "vault.engine"
    assert posted(world).rho == Fraction(1, 20) + Fraction(fails_at - 1, 80)
    with world.engine() as engine:
        (job,) = engine.state().jobs.values()
        assert job.questions == fails_at, "what was paid for stands in the log"
        bundle = export_bundle(engine, by=engine.key.public.key_id)
    with compose.lazy_guests() as guests:
        replay_bundle(bundle, level=3, auditor=unlock_named(world.state, "auditor", PASSPHRASE), guests=guests)


def test_a_program_that_overdrew_once_is_answered_nothing_more(world):
    body = f"""
try:
    {ask("SELECT COUNT(*) AS n FROM visits", share="3/4")}
except Exception:
    pass
second = {ask("SELECT COUNT(*) AS n FROM visits", share="1/10")}
return {{'value': 1}}
"""
    with pytest.raises(GuestFailedError, match="more loss than the job has left"):
        run(world, body)
    assert posted(world).rho == Fraction(1, 20)


def test_a_program_that_never_ends_is_stopped_and_pays_what_it_was_answered(world, monkeypatch):
    from sandbox.runtime.host import guests

    monkeypatch.setattr(guests, "DEFAULT_LIMITS", guests.GuestLimits(cpu_s=0.5, wall_s=5))
    monkeypatch.setitem(guests.GuestHost.run.__kwdefaults__, "limits", guests.GuestLimits(cpu_s=0.5, wall_s=5))
    with pytest.raises((GuestFailedError, LimitExceededError)) as refused:
        run(world, "while True:\n    pass")
    assert "processor time" in refused.value.message or "seconds" in refused.value.message
    assert failed(world)["code"] == refused.value.code
    assert posted(world).rho == Fraction(1, 20)


def test_a_program_that_asks_nothing_costs_nothing(world):
    released = world.run(NUMBER_JOB, "def analyze(data):\n    return {'value': 42}\n")
    assert released.release.loss == NO_LOSS
    assert released.release.outputs["value"] == {"kind": "number", "value": 42}
    assert posted(world) == NO_LOSS


@pytest.mark.parametrize(
    "attempt",
    [
        "import pandas as pd\n\ndef analyze(data):\n    return {'value': len(pd.read_csv('/etc/passwd'))}\n",
        "import socket\n\ndef analyze(data):\n    return {'value': 1}\n",
        "def analyze(data):\n    return {'value': len(open('/etc/passwd').read())}\n",
    ],
    ids=["file by a library", "socket", "open"],
)
def test_a_program_that_reaches_for_files_or_the_network_gets_nothing_and_nothing_leaves(world, attempt):
    with pytest.raises(SaggarError) as refused:
        world.run(NUMBER_JOB, attempt)
    assert refused.value.code.startswith(("input.program", "isolation"))
    with world.records() as records:
        (job,) = records.state().jobs.values()
        assert job.state in (JobState.REFUSED, JobState.FAILED)
        assert job.release is None
    assert posted(world) == NO_LOSS
