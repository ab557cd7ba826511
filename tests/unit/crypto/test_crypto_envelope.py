"""Envelopes: only the recipient, only in context, only unaltered."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.crypto.aead import OpensslSm4Gcm
from sandbox.crypto.curve25519 import HpkeX25519
from sandbox.crypto.envelope import OVERHEAD_BYTES, open_sealed, seal_to
from sandbox.crypto.keys import generate_key
from sandbox.crypto.known_answers import flip
from sandbox.crypto.sm2 import Sm2
from sandbox.errors import KeyUnavailableError, SealBrokenError
from sandbox.model.keys import Role, SuiteName

KEYS = {name: generate_key(f"department-{name}", Role.DEPARTMENT, name) for name in SuiteName}


@pytest.fixture(params=list(SuiteName))
def key(request):
    return KEYS[request.param]


def refusal(key, sealed, context="batch"):
    with pytest.raises(SealBrokenError) as caught:
        open_sealed(key, sealed, context)
    error = caught.value
    assert error.code == "vault.seal_broken"
    name = key.public.name
    assert error.message == f"the envelope does not open with the key of `{name}` in the context `{context}`"
    assert error.details == {"object": context}


@pytest.mark.parametrize("size", [0, 1, 16, 1000, 300_000])
def test_the_recipient_opens_it(key, size):
    plaintext = b"\xe5" * size
    sealed = seal_to(key.public, plaintext, "batch")
    assert len(sealed) == size + OVERHEAD_BYTES[key.public.suite]
    assert open_sealed(key, sealed, "batch") == plaintext


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(list(SuiteName)), st.binary(max_size=500), st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_in_any_context_round_trips(suite, plaintext, context):
    key = KEYS[suite]
    assert open_sealed(key, seal_to(key.public, plaintext, context), context) == plaintext


def test_every_flipped_byte_is_refused(key):
    sealed = seal_to(key.public, b"a small batch", "batch")
    for position in range(len(sealed)):
        refusal(key, flip(sealed, position))
        with pytest.raises(SealBrokenError):
            open_sealed(key, sealed[:position] + bytes([sealed[position] ^ 0x80]) + sealed[position + 1 :], "batch")


def test_every_truncation_and_any_extension_is_refused(key):
    sealed = seal_to(key.public, b"a small batch", "batch")
    for length in range(len(sealed)):
        refusal(key, sealed[:length])
    for more in (b"\x00", sealed[-16:], sealed):
        refusal(key, sealed + more)


def test_another_recipient_of_either_suite_is_refused(key):
    sealed = seal_to(key.public, b"a small batch", "batch")
    for suite in SuiteName:
        refusal(generate_key("other", Role.DEPARTMENT, suite), sealed)


def test_an_envelope_readdressed_to_another_recipient_is_refused(key):
    other = generate_key("other", Role.DEPARTMENT, key.public.suite)
    sealed = seal_to(key.public, b"a small batch", "batch")
    refusal(other, sealed[:6] + bytes.fromhex(other.public.key_id) + sealed[22:])


def test_the_same_private_key_under_another_name_does_not_open_it(key):
    renamed = dataclasses.replace(key, public=dataclasses.replace(key.public, name="someone-else"))
    refusal(renamed, seal_to(key.public, b"a small batch", "batch"))


@pytest.mark.parametrize("context", ["batc", "batch ", "Batch", "other"])
def test_another_context_is_refused(key, context):
    refusal(key, seal_to(key.public, b"a small batch", "batch"), context)


def test_two_envelopes_of_one_text_share_nothing_after_the_header(key):
    first, second = (seal_to(key.public, b"a small batch" * 10, "batch") for _ in range(2))
    assert first[:22] == second[:22]
    assert not {first[i : i + 8] for i in range(23, len(first) - 8)} & {
        second[i : i + 8] for i in range(23, len(second) - 8)
    }


def test_parts_of_two_envelopes_do_not_mix():
    key = KEYS[SuiteName.GM]
    first, second = (seal_to(key.public, text, "batch") for text in (b"first text", b"other text"))
    refusal(key, first[:135] + second[135:])
    refusal(key, first[:147] + second[147:])


def test_a_recipient_without_a_usable_key_is_refused(key):
    for wrong in (b"", bytes(len(key.public.sealing))):
        with pytest.raises(KeyUnavailableError) as caught:
            seal_to(dataclasses.replace(key.public, sealing=wrong), b"text", "batch")
        assert caught.value.code == "vault.key_unavailable.malformed"


def test_sealing_without_a_context_is_a_bug(key):
    with pytest.raises(AssertionError, match="an envelope needs a context"):
        seal_to(key.public, b"text", "")


def test_the_header_is_as_documented(key):
    sealed = seal_to(key.public, b"text", "batch")
    number = {SuiteName.GM: b"\x01", SuiteName.INTL: b"\x02"}[key.public.suite]
    assert sealed[:22] == b"SGEV\x01" + number + bytes.fromhex(key.public.key_id)


def test_an_envelope_built_by_hand_from_the_documentation_opens():
    context = "批次"
    for suite, key in KEYS.items():
        header = b"SGEV\x01" + {"gm": b"\x01", "intl": b"\x02"}[suite] + bytes.fromhex(key.public.key_id)
        bound = b"saggar.envelope.v1\x00" + (6).to_bytes(4) + context.encode()
        if suite is SuiteName.GM:
            head = header + Sm2().encrypt(key.public.sealing, b"k" * 16) + b"n" * 12
            sealed = head + OpensslSm4Gcm().seal(b"k" * 16, b"n" * 12, b"by hand", bound + head)
        else:
            sealed = header + HpkeX25519().encrypt(key.public.sealing, b"by hand", bound + header)
        assert open_sealed(key, sealed, context) == b"by hand"
