"""An auditor replays a bundle elsewhere; a change anywhere in it is found and named."""

import shutil

import pytest

from sandbox.crypto.keys import generate_key
from sandbox.errors import CheckpointError, LedgerError, ReplayMismatchError, SaggarError
from sandbox.jobs.replay import replay_bundle
from sandbox.ledger.checkpoint import parse_checkpoint, sign_checkpoint
from sandbox.model.keys import Role, SuiteName
from sandbox.service import compose
from sandbox.service.compose import unlock_named
from tests.conftest import PASSPHRASE, copy_world
from tests.support.line_world import files_below, saggar

SUBJECT_WORDS = {
    "bundle": "files are as signed",
    "log": "entries give both roots",
    "state": "accounts and",
    "decisions": "decisions come out the same, clause by clause",
}


@pytest.fixture(scope="module")
def auditor(worked):
    return unlock_named(worked.world.state, "auditor", PASSPHRASE)


def test_levels_0_to_3_hold_for_released_and_failed_jobs_of_both_kinds(worked, auditor):
    with compose.lazy_guests() as guests:
        findings = replay_bundle(worked.bundle, level=3, auditor=auditor, guests=guests)
    assert [f.level for f in findings] == sorted(f.level for f in findings)
    for subject, words in SUBJECT_WORDS.items():
        assert any(f.subject == subject and words in f.verdict for f in findings), subject
    verdicts = [f.verdict for f in findings if f.level == 3]
    assert verdicts.count("the release is those outputs, let pass by a signed permit") == 3
    assert verdicts.count("the program, run again on the recorded answers, hands over the same bytes") == 1
    assert "2 answers are exact integers plus noise that fits" in verdicts
    assert "ended without a release (`isolation.guest_failed.program_error`)" in verdicts
    assert "ended without a release (`job.gate.names`)" in verdicts


def test_each_level_checks_no_more_than_it_says(worked):
    for level, most in ((0, 0), (1, 1), (2, 2)):
        assert max(f.level for f in replay_bundle(worked.bundle, level=level)) == most


def test_level_3_without_the_auditors_key_says_so(worked):
    with pytest.raises(ReplayMismatchError, match="needs the auditor's key") as refused:
        replay_bundle(worked.bundle, level=3)
    assert refused.value.code == "job.replay_mismatch.no_key"


def test_level_3_with_somebody_elses_key_opens_nothing(worked):
    other = unlock_named(worked.world.state, "operator", PASSPHRASE)
    with pytest.raises(ReplayMismatchError, match=r"nothing of job .* is sealed to key"):
        replay_bundle(worked.bundle, level=3, auditor=other)


def positions(data):
    return sorted({0, 1, len(data) // 3, len(data) // 2, 2 * len(data) // 3, len(data) - 2, len(data) - 1})


def refusal(files, **more):
    with pytest.raises(SaggarError) as refused:
        replay_bundle(files, level=0, **more)
    return refused.value


def names(error, path):
    return error.details.get("place") == path or f"`{path}`" in error.message


@pytest.mark.parametrize("brought", [False, True], ids=["the bundle's keys", "keys the auditor brought"])
def test_one_flipped_bit_in_any_file_at_any_place_is_found_and_the_file_is_named(worked, brought):
    with worked.world.records() as records:
        trusted = tuple(records.state().keys.values()) if brought else None
    for path, data in worked.bundle.items():
        for place in positions(data):
            changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            error = refusal({**worked.bundle, path: changed}, trusted=trusted)
            assert names(error, path), (path, place, error.message, error.details)
            assert error.hint


def test_a_cut_or_longer_file_is_found_and_named(worked):
    for path, data in worked.bundle.items():
        for changed in (data[:-1], data + b"\n", b""):
            error = refusal({**worked.bundle, path: changed})
            assert names(error, path), (path, len(changed), error.message)


def test_a_missing_file_is_found_and_named(worked):
    for path in worked.bundle:
        error = refusal({name: data for name, data in worked.bundle.items() if name != path})
        assert names(error, path), (path, error.message)


@pytest.mark.parametrize("path", ["documents/" + "0" * 64, "log/checkpoints/000099.note", "extra.txt", "a/b/../c"])
def test_an_added_file_is_found_and_named(worked, path):
    error = refusal({**worked.bundle, path: b"something"})
    assert names(error, path)
    assert error.code == "ledger.bundle.extra"


def test_two_files_that_changed_places_are_found(worked):
    first, second = sorted(path for path in worked.bundle if path.startswith("documents/"))[:2]
    error = refusal({**worked.bundle, first: worked.bundle[second], second: worked.bundle[first]})
    assert names(error, first) or names(error, second)


def test_an_empty_bundle_is_refused():
    assert refusal({}).message == "`trust.json` is missing from the bundle"


def test_a_bundle_of_another_sandbox_is_refused_by_keys_the_auditor_brought(worked):
    error = refusal(worked.bundle, trusted=(generate_key("sandbox", Role.SANDBOX, SuiteName.INTL).public,))
    assert isinstance(error, LedgerError)
    assert error.code == "ledger.bundle.not_trusted"


def test_a_bundle_of_another_log_of_the_same_sandbox_is_refused(worked):
    error = refusal(worked.bundle, origin="another.example/log")
    assert error.message == "the bundle is of the log `test.example/log` and not of `another.example/log`"


def test_a_checkpoint_that_the_auditor_held_must_be_extended(worked):
    held = worked.bundle["log/checkpoints/000003.note"].decode()
    findings = replay_bundle(worked.bundle, level=0, held_checkpoint=held)
    assert any(f.verdict == "extends the checkpoint you held" for f in findings)


def test_a_held_checkpoint_that_another_sandbox_signed_is_refused(worked):
    own = parse_checkpoint(worked.bundle["log/checkpoints/000003.note"].decode())
    held = sign_checkpoint(own, generate_key("sandbox", Role.SANDBOX, SuiteName.GM))
    with pytest.raises(CheckpointError):
        replay_bundle(worked.bundle, level=0, held_checkpoint=held)


def test_an_auditor_replays_and_verifies_on_another_machine_without_the_state(worked, tmp_path):
    world = copy_world(worked.world, tmp_path / "here")
    made = saggar("--state", world.state, "export", tmp_path / "bundle", "--by", "auditor", "--json", cwd=tmp_path)
    assert made.code == 0, made.err
    assert made.json["files"] == len(files_below(tmp_path / "bundle"))
    submitted = saggar(
        "--state", world.state, "submit", world.files / "job_sql.yaml", "--out", tmp_path / "out", cwd=tmp_path
    )
    assert submitted.code == 0, submitted.err
    assert "receipt verified" in submitted.out

    away = tmp_path / "another machine"
    away.mkdir()
    shutil.move(tmp_path / "bundle", away / "bundle")
    shutil.move(tmp_path / "out", away / "out")
    shutil.copy(world.state / "keys" / "auditor.key", away / "auditor.key")
    shutil.rmtree(world.state)

    nowhere = away / "no-such-state"
    told = saggar("--state", nowhere, "replay", "bundle", "--level", 3, "--key", "auditor.key", "--json", cwd=away)
    assert told.code == 0, told.err
    assert {finding["level"] for finding in told.json} == {0, 1, 2, 3}
    trusted = away / "bundle" / "trust.json"
    told = saggar(
        "--state", nowhere, "verify", "bundle", "bundle", "--trust", trusted, cwd=away, SAGGAR_PASSPHRASE=None
    )
    assert told.code == 0, told.err
    assert "everything holds" in told.out

    (receipt,) = (away / "out").glob("*/receipt.tlog-proof")
    told = saggar("--state", nowhere, "verify", "receipt", receipt, "--json", cwd=away, SAGGAR_PASSPHRASE=None)
    assert told.code == 0, told.err
    assert told.json["verified"] is True
    release = receipt.with_name("release.json")
    raw = release.read_bytes()
    release.write_bytes(raw.replace(b'"north"', b'"South"', 1))
    told = saggar("--state", nowhere, "verify", "receipt", receipt, cwd=away, SAGGAR_PASSPHRASE=None)
    assert told.code == 7
    assert "ledger.inclusion.release" in told.err
    assert not nowhere.exists()

    victim = min((away / "bundle" / "documents").iterdir())
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    told = saggar("--state", nowhere, "replay", "bundle", "--json", cwd=away, SAGGAR_PASSPHRASE=None)
    assert told.code == 7
    assert told.json["error"]["details"]["place"] == f"documents/{victim.name}"
    assert victim.name in told.err
