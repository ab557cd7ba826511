"""Nothing in clear ever lands on disk: every file under the state directory is searched for what was in the source."""

import csv
import io
import itertools
import struct

import pytest

from sandbox.crypto.envelope import open_sealed
from sandbox.model.entry import EntryKind
from sandbox.model.transcript import SEALING_CONTEXT, Transcript, parse_secret
from sandbox.service.compose import unlock_named
from tests.conftest import MARKER, PASSPHRASE, build_world, clinic_rows, work_in
from tests.support.line_world import files_below


@pytest.fixture(scope="module", params=["gm", "intl"])
def fired(request, worked, tmp_path_factory):
    """A world after ingest, agreement, released, failed and refused jobs, and an export, in each suite."""
    if request.param == "gm":
        return worked
    return work_in(build_world(tmp_path_factory.mktemp("worked-intl"), "intl"))


def rows():
    return list(csv.DictReader(io.StringIO(clinic_rows())))


def needles():
    """Return values that stand in the source and that no release can hold."""
    found = {MARKER, "unique-illness", "secret_note,"}
    for row in rows():
        found |= {row["patient"], row["secret_note"]}
    # With the word before them: numbers alone, as in `12,7.43`, may stand side by side in a released answer by chance.
    found |= {f"{row['reason']},{row['days']},{row['cost']}" for row in rows()}
    return {needle.encode() for needle in found}


def test_no_value_of_the_source_is_in_any_file_under_the_state_directory(fired):
    searched = files_below(fired.world.state)
    assert len(searched) > 50
    wanted = needles()
    assert len(wanted) > 1000
    blob = {name: data for name, data in searched.items() if any(needle in data for needle in wanted)}
    assert not blob


def test_the_search_would_find_a_value_that_was_written_in_clear(fired):
    data = (fired.world.files / "clinic.csv").read_bytes()
    assert all(needle in data for needle in needles() - {b"secret_note,"})


def test_no_column_lies_on_disk_as_plain_numbers_or_as_a_readable_table(fired):
    cents = [round(float(row["cost"]) * 100) for row in rows()]
    words = {struct.pack("<qq", first, second) for first, second in itertools.pairwise(cents)}
    words |= {struct.pack("<q", cent) for cent in cents if cent > 50_000}
    magic = (b"PAR1", b"ARROW1", b"DUCK")
    for name, data in files_below(fired.world.state).items():
        if name.startswith("ledger/"):
            continue  # sqlite's own numbers; what it says is text and is searched above
        assert not any(mark in data[:8] or mark in data[-8:] for mark in magic), name
        assert not any(word in data for word in words), name


def test_no_private_key_and_no_passphrase_is_on_disk_in_clear(fired):
    secrets = {PASSPHRASE.encode()}
    for name in ("sandbox", "operator", "agency", "health", "auditor"):
        key = unlock_named(fired.world.state, name, PASSPHRASE)
        secrets |= {key.signing, key.sealing}
    for name, data in files_below(fired.world.state).items():
        assert not any(secret in data for secret in secrets), name


def test_exact_integers_of_answers_are_sealed_to_the_auditor_and_nowhere_else(fired):
    auditor = unlock_named(fired.world.state, "auditor", PASSPHRASE)
    with fired.world.records() as records:
        settled = [e.body for e in records.ledger.entries() if e.kind is EntryKind.JOB_SETTLED]
        transcripts = [Transcript.parse(records.documents.get(body["transcript"])) for body in settled]
        secrets = []
        for transcript in transcripts:
            sealed = records.documents.get(transcript.sealed[auditor.public.key_id])
            secrets.append(open_sealed(auditor, sealed, f"{SEALING_CONTEXT}/{transcript.job}"))
    questions = [question for secret in secrets for question in parse_secret(secret)["questions"]]
    assert len(questions) >= 4
    for name, data in {**files_below(fired.world.state), **fired.bundle}.items():
        for secret in secrets:
            assert secret not in data
            inner = secret[secret.index(b'"questions":[') + 13 :][:60]
            assert len(inner) < 30 or inner not in data, name


def test_a_rare_value_is_in_no_release_receipt_or_bundle(fired):
    released = {"sql": fired.sql.raw, "python": fired.python.raw, "receipt": fired.sql.receipt.encode(), **fired.bundle}
    for name, data in released.items():
        assert b"unique-illness" not in data, name
        assert MARKER.encode() not in data, name


def test_the_state_directory_is_its_owners_alone(fired):
    assert fired.world.state.stat().st_mode & 0o077 == 0
    for path in fired.world.state.rglob("*.key"):
        assert path.stat().st_mode & 0o077 == 0, path.name
