"""Signed notes and checkpoints: round trips, C2SP's own example, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sandbox.errors import CheckpointError, LedgerError
from sandbox.ledger.checkpoint import (
    Checkpoint,
    check_origin,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
    verify_uncosigned_checkpoint,
    with_cosignature,
)
from sandbox.ledger.merkle import Roots
from sandbox.ledger.note import (
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    cosign_text,
    cosigner_key_id,
    parse_note,
    posix_seconds,
    sign_text,
    signer_key_id,
    verify_cosigners,
    verify_signers,
)
from sandbox.model.keys import PublicKey, Role, SuiteName
from tests.support import ledger_world as city

HEAD = Checkpoint(city.ORIGIN, 1832, Roots(sm3=bytes(range(32)), sha256=bytes(range(32, 64))))
SUITES = list(SuiteName)
# The example of C2SP's tlog-cosignature page: a checkpoint with a log's signature and a witness's cosignature.
C2SP_EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def cosigned(suite=SuiteName.GM, at=city.START, head=HEAD):
    note = sign_checkpoint(head, city.sandbox_key(suite))
    return with_cosignature(note, cosign_text(head.to_text(), city.witness_key(suite), at).to_line())


def keys(suite=SuiteName.GM):
    return (city.sandbox_key(suite).public,), (city.witness_key(suite).public,)


@pytest.mark.parametrize("suite", SUITES)
def test_a_cosigned_checkpoint_verifies_and_says_who_and_when(suite):
    verified = verify_checkpoint(cosigned(suite), *keys(suite))
    assert verified.checkpoint == HEAD
    assert verified.signers == keys(suite)[0]
    assert [(cosigner.key, cosigner.time_s) for cosigner in verified.cosigners] == [(keys(suite)[1][0], 1772352000)]


def test_the_text_is_that_of_a_c2sp_checkpoint_with_one_extension_line():
    assert HEAD.to_text() == (
        "test.example/saggar\n1832\n"
        f"{base64.b64encode(bytes(range(32, 64))).decode()}\nsm3 {base64.b64encode(bytes(range(32))).decode()}\n"
    )
    assert parse_checkpoint(cosigned()) == HEAD


def test_the_example_of_c2sp_reads_and_its_cosignature_time_is_the_one_on_the_page():
    note = parse_note(C2SP_EXAMPLE)
    assert note.to_text() == C2SP_EXAMPLE
    assert [signature.name for signature in note.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    assert int.from_bytes(note.signatures[1].payload[:8]) == 1679315147
    with pytest.raises(CheckpointError, match="its text is not origin, size"):
        parse_checkpoint(C2SP_EXAMPLE)


def test_an_ed25519_line_is_plain_so_that_any_c2sp_tool_can_check_it():
    key, text = city.sandbox_key(SuiteName.INTL), HEAD.to_text()
    line = sign_text(text, HEAD.origin, key)
    Ed25519PublicKey.from_public_bytes(key.public.signing).verify(line.payload, text.encode())
    expected = hashlib.sha256(HEAD.origin.encode() + b"\n\x01" + key.public.signing).digest()[:4]
    assert line.key_id == expected == signer_key_id(HEAD.origin, key.public)
    witness = city.witness_key(SuiteName.INTL)
    line = cosign_text(text, witness, city.START)
    message = f"cosignature/v1\ntime {posix_seconds(city.START)}\n{text}".encode()
    Ed25519PublicKey.from_public_bytes(witness.public.signing).verify(line.payload[8:], message)
    assert line.key_id == hashlib.sha256(b"witness.example\n\x04" + witness.public.signing).digest()[:4]


def test_an_sm2_line_has_the_long_identifier_in_its_key_id():
    key, witness = city.sandbox_key().public, city.witness_key().public
    expected = hashlib.sha256(b"a.example\n\xffsaggar/sm2-note/1" + key.signing).digest()[:4]
    assert signer_key_id("a.example", key) == expected
    expected = hashlib.sha256(b"witness.example\n\xffsaggar/sm2-cosignature/1" + witness.signing).digest()[:4]
    assert cosigner_key_id(witness) == expected


def test_both_suites_may_sign_one_checkpoint():
    note = cosigned(SuiteName.GM)
    other = cosigned(SuiteName.INTL)
    for line in other.split("\n\n")[1].splitlines(keepends=True):
        note = with_cosignature(note, line)
    for suite in SUITES:
        verify_checkpoint(note, *keys(suite))
    both = verify_checkpoint(
        note, [*keys(SUITES[0])[0], *keys(SUITES[1])[0]], [*keys(SUITES[0])[1], *keys(SUITES[1])[1]]
    )
    assert (len(both.signers), len(both.cosigners)) == (2, 2)


def test_adding_the_same_cosignature_again_changes_nothing():
    note = cosigned()
    line = parse_note(note).signatures[1].to_line()
    assert with_cosignature(note, line) == note


def test_lines_by_unknown_keys_are_ignored():
    stranger = NoteSignature("stranger.example", b"\x00\x01\x02\x03", b"x" * 64)
    verified = verify_checkpoint(with_cosignature(cosigned(), stranger.to_line()), *keys())
    assert len(verified.cosigners) == 1


def refusal(note, sandbox=None, witness=None):
    with pytest.raises(CheckpointError) as caught:
        verify_checkpoint(note, keys()[0] if sandbox is None else sandbox, keys()[1] if witness is None else witness)
    return caught.value


def test_without_a_trusted_cosignature_only_the_bare_form_verifies():
    note = sign_checkpoint(HEAD, city.sandbox_key())
    error = refusal(note)
    assert (error.code, error.message) == (
        "ledger.checkpoint.not_cosigned",
        "the checkpoint is not cosigned by a trusted witness",
    )
    assert verify_uncosigned_checkpoint(note, keys()[0]).cosigners == ()
    assert refusal(cosigned(), witness=()).code == "ledger.checkpoint.not_cosigned"
    stranger = city.key("witness.example", Role.WITNESS, SuiteName.INTL).public
    assert refusal(cosigned(), witness=(stranger,)).code == "ledger.checkpoint.not_cosigned"


def test_without_a_trusted_signature_of_the_sandbox_nothing_verifies():
    other = city.key("other-sandbox", Role.SANDBOX).public
    for sandbox in ((), (other,)):
        error = refusal(cosigned(), sandbox=sandbox)
        assert (error.code, error.details["origin"]) == ("ledger.checkpoint.not_signed", city.ORIGIN)


def test_a_signature_under_another_origin_does_not_count():
    text = Checkpoint("other.example/log", 1832, HEAD.roots).to_text()
    forged = Note(text, (sign_text(text, city.ORIGIN, city.sandbox_key()),)).to_text()
    with pytest.raises(CheckpointError, match="not signed by a trusted key"):
        verify_uncosigned_checkpoint(forged, keys()[0])


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("line", [0, 1])
def test_a_line_of_a_known_key_that_does_not_hold_refuses_the_whole_note(suite, line):
    note = parse_note(cosigned(suite))
    lines = list(note.signatures)
    for payload in (lines[line].payload[:-1] + bytes([lines[line].payload[-1] ^ 1]), lines[line].payload[:-1], b"x"):
        broken = list(lines)
        broken[line] = NoteSignature(lines[line].name, lines[line].key_id, payload)
        with pytest.raises(CheckpointError, match="does not hold") as caught:
            verify_checkpoint(Note(note.text, tuple(broken)).to_text(), *keys(suite))
        assert caught.value.code == "ledger.checkpoint.signature"


@pytest.mark.parametrize("suite", SUITES)
def test_a_cosignature_does_not_hold_for_another_time(suite):
    note = parse_note(cosigned(suite))
    late = note.signatures[1]
    moved = NoteSignature(late.name, late.key_id, (posix_seconds(city.START) + 1).to_bytes(8) + late.payload[8:])
    for payload in (moved, NoteSignature(late.name, late.key_id, b"\xff" * 8 + late.payload[8:])):
        with pytest.raises(CheckpointError, match=r"`witness\.example` on the checkpoint does not hold"):
            verify_cosigners(Note(note.text, (payload,)), keys(suite)[1])


@pytest.mark.parametrize("suite", SUITES)
def test_a_changed_text_is_signed_by_nobody(suite):
    note = cosigned(suite)
    for changed in (note.replace("\n1832\n", "\n1833\n"), note.replace("sm3 AAEC", "sm3 AAED")):
        assert changed != note
        with pytest.raises(CheckpointError, match="does not hold"):
            verify_checkpoint(changed, *keys(suite))


def test_one_key_may_not_sign_twice():
    note = parse_note(cosigned())
    again = cosign_text(note.text, city.witness_key(), "2026-03-01T09:00:00Z")
    with pytest.raises(CheckpointError, match=r"key `witness\.example` signed it twice"):
        verify_cosigners(Note(note.text, (*note.signatures, again)), keys()[1])


def test_roles_are_kept_apart():
    for call in (
        lambda: sign_text("a\n", "a", city.witness_key()),
        lambda: cosign_text("a\n", city.sandbox_key(), city.START),
        lambda: verify_signers(parse_note(cosigned()), "a", keys()[1]),
        lambda: verify_cosigners(parse_note(cosigned()), keys()[0]),
    ):
        with pytest.raises(CheckpointError, match="has the role") as caught:
            call()
        assert caught.value.code == "ledger.checkpoint.wrong_role"


def test_a_sandbox_that_is_its_own_witness_is_refused():
    sandbox = keys()[0][0]
    same = PublicKey("witness.example", Role.WITNESS, sandbox.suite, sandbox.signing, sandbox.sealing)
    error = refusal(cosigned(), witness=(*keys()[1], same))
    assert error.message == "a key is trusted both as the sandbox's and as a witness's"


TEXT = HEAD.to_text()
LINE = NoteSignature("a", b"1234", b"5").to_line()


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("", "no signatures after a blank line"),
        (TEXT, "no signatures after a blank line"),
        ("\n\n" + LINE, "no signatures after a blank line"),
        (TEXT + "\n" + LINE[:-1], "no signatures after a blank line"),
        (TEXT + "\n\n" + LINE, "is not origin, size"),
        (TEXT + "\n" + LINE * 65, "too many signatures"),
        (TEXT + "\n" + LINE + "\n", "no signatures after a blank line"),
        (TEXT + "\n- a MTIzNDU=\n", "a signature line is not"),
        (TEXT + "\n— a+b MTIzNDU=\n", "a signature line is not"),
        (TEXT + "\n— a b MTIzNDU=\n", "a signature line is not"),
        (TEXT + "\n—  MTIzNDU=\n", "a signature line is not"),
        (TEXT + "\n— a\u3000b MTIzNDU=\n", "a signature line is not"),
        (TEXT + "\n— a MTIzNDU\n", "a signature is not base64"),
        (TEXT + "\n— a MTIzNDV=\n", "not canonical base64"),
        (TEXT + "\n— a MTIzNA==\n", "more than 4 bytes"),
        (TEXT.replace("1832", "1832\r") + "\n" + LINE, "control character"),
        (TEXT.replace("1832", "18\ud80032") + "\n" + LINE, "control character"),
        ("x" * (MAX_NOTE_BYTES + 1), "too large"),
        (TEXT.replace("1832", "01832") + "\n" + LINE, "the size is not a plain number"),
        (TEXT.replace("1832", "-1") + "\n" + LINE, "the size is not a plain number"),
        (TEXT.replace("1832", "１８３２") + "\n" + LINE, "the size is not a plain number"),
        (TEXT.replace("1832", "9007199254740992") + "\n" + LINE, "the size is not a plain number"),
        (TEXT.replace("sm3 ", "md5 ") + "\n" + LINE, "the SM3 root is missing"),
        (TEXT.replace("sm3 AAEC", "sm3 AAE") + "\n" + LINE, "a root is not"),
        (TEXT.replace("sm3 AAECAwQF", "sm3 ") + "\n" + LINE, "a root is not 32 bytes"),
        (TEXT + "more\n\n" + LINE, "is not origin, size"),
        (TEXT.replace("test.example/saggar", "two words") + "\n" + LINE, "the origin is not a name"),
        (TEXT.replace("test.example/saggar", "cosignature/v1") + "\n" + LINE, "the origin is not a name"),
    ],
)  # fmt: skip
def test_a_malformed_checkpoint_is_refused_and_told_why(note, why):
    with pytest.raises(CheckpointError, match=why) as caught:
        parse_checkpoint(note)
    assert caught.value.code == "ledger.checkpoint.malformed"


def test_what_cannot_be_written_cannot_be_signed():
    with pytest.raises(CheckpointError, match="the origin is not a name"):
        sign_checkpoint(Checkpoint("a b", 1, HEAD.roots), city.sandbox_key())
    with pytest.raises(CheckpointError, match="cannot be a key name"):
        sign_text("a\n", "a b", city.sandbox_key())
    with pytest.raises(LedgerError, match="the time of an entry is malformed"):
        cosign_text("a\n", city.witness_key(), "yesterday")
    check_origin("城市.example/日志")
