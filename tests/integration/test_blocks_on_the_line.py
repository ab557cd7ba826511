"""A function over blocks of raw rows, through the whole line: asked, paid, run behind walls, released, replayed."""

import threading
import time

import pytest

from sandbox.errors import CancelledError, LedgerError
from sandbox.jobs.export import export_bundle
from sandbox.jobs.line import run_job
from sandbox.jobs.replay import replay_bundle
from sandbox.model.blocks_question import BlocksQuestion
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.loss import NO_LOSS
from sandbox.model.transcript import Transcript
from sandbox.service.compose import lazy_guests, unlock_named
from tests.conftest import MARKER, PASSPHRASE, PYTHON_JOB
from tests.support.line_world import last, posted

pytestmark = pytest.mark.isolation

JOB = PYTHON_JOB[: PYTHON_JOB.index("outputs:")].replace("rho: 0.1", "rho: 0.5") + (
    "outputs:\n  - {name: value, kind: number}\n  - {name: error, kind: number}\n"
)
MIDDLE = (
    "def block(rows):\n    return {'middle': rows['days'].median(), 'north': (rows['district'] == 'north').mean()}\n"
)


def ask(source, **options):
    """Return a program that asks one question to blocks and releases its first number."""
    given = {"k": 12, "output": {"middle": (0, 14), "north": (0, 1)}, "milliseconds": 250, "mode": "fast", "share": "1"}
    given |= options
    words = ", ".join(f"{name}={value!r}" for name, value in given.items())
    name = next(iter(given["output"]))
    return (
        f"def analyze(data):\n    answer = data.blocks('visits', {source!r}, {words})\n"
        f"    return {{'value': answer.table['{name}'][0], 'error': answer.standard_errors['{name}'][0]}}\n"
    )


def transcript(world):
    with world.records() as records:
        return Transcript.parse(records.documents.get(last(world, EntryKind.JOB_SETTLED)["transcript"]))


def test_blocks_are_asked_paid_released_and_replayed(world):
    released = world.run(JOB, ask(MIDDLE, failures=True))
    outputs = {name: output["value"] for name, output in released.release.outputs.items()}
    assert abs(outputs["value"] - 7) < 5 * outputs["error"] + 1
    assert outputs["error"] > 0
    exchange = transcript(world).exchanges[0]
    assert isinstance(exchange.question, BlocksQuestion)
    assert exchange.question.columns == ("days", "district")
    assert [column["name"] for column in exchange.answer["columns"]] == ["middle", "north", "failures"]
    assert any("fast mode" in note for note in exchange.answer["notes"])
    assert posted(world) == released.release.loss == exchange.question.loss
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    with world.engine() as engine:
        bundle = export_bundle(engine, by=auditor.public.key_id)
    with lazy_guests() as guests:
        findings = replay_bundle(bundle, level=3, auditor=auditor, guests=guests)
    assert [finding.verdict for finding in findings if finding.level == 3] == [
        "1 answers are exact integers plus noise that fits",
        "the program, run again on the recorded answers, hands over the same bytes",
        "the release is those outputs, let pass by a signed permit",
    ]
    assert MARKER.encode() not in b"".join(bundle.values())
    check_changed_bundle_is_found(world, bundle, auditor)


def check_changed_bundle_is_found(world, bundle, auditor):
    """A question whose number of blocks was changed afterwards is another document than the log names."""
    digest = last(world, EntryKind.JOB_SETTLED)["transcript"].partition(":")[2]
    path = f"documents/{digest}"
    changed = {**bundle, path: bundle[path].replace(b'"blocks":12', b'"blocks":13')}
    assert changed != bundle
    with pytest.raises(LedgerError, match="is not the file that was signed for"):
        replay_bundle(changed, level=3, auditor=auditor)


REFUSED = [
    (("import os\ndef block(rows):\n    return 1\n", {}), "`import os` is not offered"),
    (("def other(rows):\n    return 1\n", {}), "has no function `block`"),
    ((MIDDLE, {"k": 1}), "1 blocks are asked for"),
    ((MIDDLE, {"columns": ["cost"]}), "not among the columns this job declared"),
    ((MIDDLE, {"columns": ["nosuch"]}), "has no column `nosuch`"),
]


def test_what_is_not_a_question_to_blocks_is_refused_on_public_facts_and_costs_nothing(world):
    asked = [
        (source, {"k": 9, "output": {"middle": (0, 14), "north": (0, 1)}, **more}) for (source, more), _ in REFUSED
    ]
    program = (
        f"def analyze(data):\n    for source, options in {asked!r}:\n        try:\n"
        "            data.blocks('visits', source, share='1/9', **options)\n            return {}\n"
        "        except QuestionRefused:\n            pass\n    return {'value': 1, 'error': 0}\n"
    )
    world.run(JOB, program)
    refusals = transcript(world).refusals
    for refusal, (_, says) in zip(refusals, REFUSED, strict=True):
        assert says in refusal["message"]
    assert posted(world) == NO_LOSS


def test_a_question_to_blocks_is_cancelled_within_seconds_and_stays_paid(world):
    cancel = threading.Event()

    def cancel_while_measuring(stage: str) -> None:
        if stage.startswith("measure"):
            threading.Timer(6, cancel.set).start()

    with world.engine() as engine:
        signed = world.signed(engine, JOB, ask(MIDDLE, k=64, milliseconds=1000, mode="strict", share="1/2"))
        started = time.monotonic()
        with pytest.raises(CancelledError, match="cancelled"):
            run_job(engine, signed, cancel=cancel, progress=cancel_while_measuring)
        assert time.monotonic() - started < 64  # the question alone takes longer
        job = engine.state().jobs[signed.spec.digest()]
    assert job.state is JobState.FAILED
    assert last(world, EntryKind.JOB_SETTLED)["code"] == "job.cancelled"


def test_a_machine_too_busy_for_blocks_is_told_with_the_answer_and_replays(world, monkeypatch):
    monkeypatch.setattr("sandbox.jobs.questions.check_pace", lambda *_: None)
    monkeypatch.setattr("sandbox.jobs.blocks._TRIVIAL", "def block(rows, parameters):\n    while True:\n        pass\n")
    world.run(JOB, ask(MIDDLE, k=4))
    notes = transcript(world).exchanges[0].answer["notes"]
    assert any("the machine was busy: 4 of 4 control blocks" in note for note in notes)
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    with world.engine() as engine:
        bundle = export_bundle(engine, by=auditor.public.key_id)
    with lazy_guests() as guests:
        assert replay_bundle(bundle, level=3, auditor=auditor, guests=guests)
