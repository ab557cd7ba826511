"""The line of a job from a signed spec to a release: what it costs, what stands in the log, what comes back."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.client.submission import verify_release
from sandbox.compute.reader import JobReaders
from sandbox.crypto.keys import generate_key
from sandbox.errors import (
    AuthenticationError,
    InclusionError,
    InputError,
    JobError,
    PolicyError,
    SaggarError,
    SignatureError,
)
from sandbox.jobs.line import run_job
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.specify import specify
from sandbox.jobs.stages import SignedJob
from sandbox.ledger.verify import Trusted
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_job import load_job
from sandbox.model.loss import NO_LOSS
from tests.conftest import PROGRAM, PYTHON_JOB, SQL, SQL_JOB
from tests.support.line_world import AGREEMENT_ACCOUNT, check_log, files_below, kinds, posted, size

SQL_LINE = [
    "job.submitted", "job.decided", "budget.reserved", "vault.opened", "question.answered", "job.gated", "job.settled",
]  # fmt: skip


def test_an_sql_job_releases_an_answer_with_its_errors_and_every_step_is_an_entry(world):
    before = size(world)
    released = world.run()
    answer = released.release.outputs["answer"]
    assert [row[0] for row in answer["rows"]] == ["north", "south", "east"]
    assert all(low < row[1] < high for row, low, high in zip(answer["rows"], *bounds(answer), strict=True))
    assert 0 < sum(row[1] for row in answer["rows"]) < 4000
    assert kinds(world, before) == SQL_LINE
    with world.engine() as engine:
        check_log(engine)


def bounds(answer):
    return [row[1] for row in answer["lower"]], [row[1] for row in answer["upper"]]


def test_a_python_job_asks_adaptively_and_releases_what_it_declared(world):
    before = size(world)
    released = world.run(PYTHON_JOB, PROGRAM)
    assert set(released.release.outputs) == {"by_district", "mean_days"}
    assert 0 <= released.release.outputs["mean_days"]["value"] <= 14
    assert released.release.isolation in ("standard", "full")
    expected = SQL_LINE[:4] + ["question.answered"] * 2 + SQL_LINE[5:]
    assert kinds(world, before) == expected
    assert posted(world).rho == Fraction(1, 10)


def test_budget_is_reserved_durably_before_any_data_is_opened(world, monkeypatch):
    from sandbox.ledger.store import Ledger
    from sandbox.vault.store import Vault

    seen = []
    honest = Vault.open_snapshot

    def spied(vault, snapshot, columns, trusted):
        with Ledger.open(world.state / "ledger", read_only=True) as beside:  # another connection: what is durable
            seen.append((beside.state().accounts[AGREEMENT_ACCOUNT].pending.rho, tuple(columns)))
            assert [e.kind for e in beside.entries()][-2:] == [EntryKind.BUDGET_RESERVED, EntryKind.VAULT_OPENED]
        return honest(vault, snapshot, columns, trusted)

    monkeypatch.setattr(Vault, "open_snapshot", spied)
    world.run()
    assert seen == [(Fraction(1, 10), ("cost", "days", "district"))]


def test_a_question_is_paid_in_the_log_before_the_data_is_asked(world, monkeypatch):
    honest, asked = JobReaders.map_partitions, []

    def spied(readers, plan, parts, **options):
        assert kinds(world)[-1] == "question.answered"
        asked.append(plan)
        return honest(readers, plan, parts, **options)

    monkeypatch.setattr(JobReaders, "map_partitions", spied)
    world.run()
    assert len(asked) == 1


@pytest.mark.parametrize(("job", "code"), [(SQL_JOB, SQL), (PYTHON_JOB, PROGRAM)], ids=["sql", "python"])
def test_the_same_spec_twice_gives_the_stored_release_byte_for_byte_and_no_second_charge(world, job, code):
    first = world.run(job, code)
    before, entries = posted(world), size(world)
    second = world.run(job, code)
    assert second.raw == first.raw
    assert posted(world) == before
    assert size(world) == entries
    assert world.run(job, code, nonce="more").raw != first.raw
    assert posted(world) == before + before


def test_a_stored_release_is_handed_to_its_own_operator_only(world):
    world.run()
    with world.engine() as engine:
        signed = world.signed(engine, SQL_JOB, SQL)
        value = signed.signature.value
        forged = replace(signed, signature=replace(signed.signature, value=value[:-1] + bytes([value[-1] ^ 1])))
        with pytest.raises(SignatureError):
            run_job(engine, forged)
        with pytest.raises(AuthenticationError, match="is not a registered operator's"):
            run_job(engine, world.signed(engine, SQL_JOB, SQL, by="agency"))
        rival = generate_key("rival", Role.OPERATOR, SuiteName.GM)
        from sandbox.client.submission import sign_spec
        from sandbox.service.compose import register_key

        register_key(engine, rival.public)
        with pytest.raises(AuthenticationError, match="was submitted by another operator") as refused:
            run_job(engine, SignedJob(signed.spec, SQL, sign_spec(signed.spec, rival)))
        assert refused.value.code == "service.authentication.another_operator"


def test_a_job_with_a_wrong_signature_another_code_or_an_unknown_key_is_not_even_submitted(world):
    before = size(world)
    with world.engine() as engine:
        signed = world.signed(engine, SQL_JOB, SQL)
        with pytest.raises(InputError, match="the code is not the code that was signed"):
            run_job(engine, replace(signed, code=SQL + " "))
        with pytest.raises(SignatureError):
            run_job(engine, replace(signed, spec=replace(signed.spec, nonce="changed")))
        with pytest.raises(AuthenticationError) as refused:
            run_job(engine, replace(signed, signature=replace(signed.signature, key_id="0" * 64)))
        assert refused.value.code == "service.authentication.unknown_key"
    assert size(world) == before


def test_a_job_under_an_unknown_agreement_is_refused_and_the_known_ones_are_named(world):
    with pytest.raises(PolicyError, match="no agreement is called `nosuch`") as refused:
        world.run(SQL_JOB.replace("clinic-test", "nosuch"), SQL)
    assert refused.value.code == "policy.agreement_unknown"
    assert "clinic-test" in refused.value.hint


def test_a_job_over_an_older_snapshot_is_refused(world):
    with world.engine() as engine:
        signed = world.signed(engine, SQL_JOB, SQL)
        from sandbox.client.submission import sign_spec
        from sandbox.service.compose import unlock_named
        from tests.conftest import PASSPHRASE

        stale = replace(signed.spec, snapshots=(("clinic", "sm3:" + "0" * 64),))
        again = SignedJob(stale, SQL, sign_spec(stale, unlock_named(world.state, "operator", PASSPHRASE)))
        with pytest.raises(SaggarError) as refused:
            run_job(engine, again)
        assert refused.value.code == "input.query.snapshot"
        assert engine.state().jobs[stale.digest()].state is JobState.REFUSED


@pytest.mark.parametrize(("job", "code"), [(SQL_JOB, SQL), (PYTHON_JOB, PROGRAM)], ids=["sql", "python"])
def test_a_quote_costs_nothing_and_leaves_log_accounts_and_documents_as_they_were(world, job, code):
    before = files_below(world.state / "documents"), files_below(world.state / "vault"), size(world), posted(world)
    with world.records() as records:
        spec = specify(records, load_job(job, "job.yaml"), code)
        roots = records.ledger.roots()
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        quoted = quote_job(records, spec, code, operator=operator)
        assert records.ledger.roots() == roots
    assert quoted.allowed
    assert quoted.loss.rho == Fraction(1, 10)
    assert {line.account for line in quoted.accounts} == {AGREEMENT_ACCOUNT, "dataset:clinic/patient"}
    assert (quoted.question is None) == (job is PYTHON_JOB)
    json.dumps(quoted.to_record())
    assert (
        files_below(world.state / "documents"),
        files_below(world.state / "vault"),
        size(world),
        posted(world),
    ) == before


def test_a_quote_says_what_a_submission_would_say(world):
    with world.records() as records:
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        for job, allowed, clauses in (
            (SQL_JOB, True, ("agreed-use",)),
            (SQL_JOB.replace("public-governance", "x"), False, ("purpose-agreed",)),
            (SQL_JOB.replace("0.1", "0.5"), True, ("agreed-use",)),
            (SQL_JOB.replace("0.1", "0.6"), False, ("job-loss-limit",)),
        ):
            spec = specify(records, load_job(job, "job.yaml"), SQL)
            quoted = quote_job(records, spec, SQL, operator=operator)
            assert (quoted.allowed, quoted.decision.clauses) == (allowed, clauses)


def test_when_the_budget_is_gone_a_job_is_refused_and_the_quote_says_so(world):
    world.run(SQL_JOB.replace("0.1", "0.5"), nonce="1")
    world.run(SQL_JOB.replace("0.1", "0.45"), nonce="2")
    with world.records() as records:
        spec = specify(records, load_job(SQL_JOB, "job.yaml"), SQL)
        operator = next(key.key_id for key in records.trusted(Role.OPERATOR))
        quoted = quote_job(records, spec, SQL, operator=operator)
        assert not quoted.allowed
        assert [line.enough for line in quoted.accounts] == [False, True]
    with pytest.raises(SaggarError) as refused:
        world.run()
    assert refused.value.code == "privacy.budget"
    assert refused.value.details["account"] == AGREEMENT_ACCOUNT
    assert posted(world).rho == Fraction(19, 20)
    with world.engine() as engine:
        check_log(engine)
        assert engine.state().accounts[AGREEMENT_ACCOUNT].pending == NO_LOSS


def test_a_receipt_proves_the_release_offline_and_no_other_bytes_and_no_other_job(world):
    first, second = world.run(), world.run(nonce="2")
    with world.records() as records:
        trusted = Trusted(records.state().origin, records.trusted(Role.SANDBOX), records.trusted(Role.WITNESS))
        spec = specify(records, load_job(SQL_JOB, "job.yaml"), SQL)
    assert verify_release(first.raw, first.receipt, trusted, spec=spec) == first.release
    with pytest.raises(InclusionError):
        verify_release(second.raw, first.receipt, trusted, spec=spec)
    with pytest.raises(InclusionError, match="the release is for another job"):
        verify_release(second.raw, second.receipt, trusted, spec=spec)
    with pytest.raises(SaggarError):
        verify_release(first.raw, first.receipt, replace(trusted, witness_keys=()), spec=spec)


def test_a_checkpoint_is_cosigned_by_a_witness_process_with_a_key_and_memory_of_its_own(world, monkeypatch):
    import subprocess

    from sandbox.ledger.checkpoint import verify_checkpoint

    started = []
    honest = subprocess.Popen

    def spied(arguments, *given, **more):
        started.append([str(argument) for argument in arguments])
        return honest(arguments, *given, **more)

    monkeypatch.setattr(subprocess, "Popen", spied)
    world.run()
    witnesses = [arguments for arguments in started if "sandbox.service.witness_process" in arguments]
    assert [arguments[-1] for arguments in witnesses] == [str(world.state / "witness")]
    with world.records() as records:
        note = list(records.ledger.checkpoints())[-1]
        verified = verify_checkpoint(note, records.trusted(Role.SANDBOX), records.trusted(Role.WITNESS))
        assert [cosigned.key.name for cosigned in verified.cosigners] == ["witness"]
        assert verified.checkpoint.size == records.ledger.size


def test_a_cancelled_program_posts_what_was_answered_and_voids_the_rest(world):
    import threading

    from sandbox.jobs import questions

    cancel = threading.Event()
    honest = questions.Questioner.answer

    def once(questioner, question):
        answered = honest(questioner, question)
        cancel.set()
        return answered

    with pytest.MonkeyPatch.context() as patched, world.engine() as engine:
        patched.setattr(questions.Questioner, "answer", once)
        with pytest.raises(SaggarError) as stopped:
            run_job(engine, world.signed(engine, PYTHON_JOB, PROGRAM), cancel=cancel)
    assert stopped.value.code == "job.cancelled"
    assert posted(world).rho == Fraction(1, 20)


def test_a_fault_of_ours_while_measuring_charges_everything_and_nothing_leaves(world, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(JobReaders, "map_partitions", broken)
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert posted(world).rho == Fraction(1, 10)
    with world.engine() as engine:
        (job,) = engine.state().jobs.values()
        assert (job.state, job.ending, job.release) == (JobState.RECOVERED, "fault", None)
        with pytest.raises(JobError, match="already in the log as `recovered`"):
            run_job(engine, world.signed(engine, SQL_JOB, SQL))
