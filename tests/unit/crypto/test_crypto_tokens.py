"""Tokens: the first 8 bytes of HMAC-SM3, once per distinct value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.crypto import providers, tokens
from sandbox.crypto.hashing import StdlibHashes
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import InputError, KeyUnavailableError
from sandbox.model.digest import hash_bytes

KEY = bytes(range(32))


def by_the_definition(key, value):
    """HMAC-SM3 written out (RFC 2104), apart from the code under test."""
    key = key.ljust(64, b"\x00")
    inner = hash_bytes(bytes(b ^ 0x36 for b in key) + value.encode())
    return int.from_bytes(hash_bytes(bytes(b ^ 0x5C for b in key) + inner)[:8], signed=True)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=16, max_size=64), st.lists(st.text(st.characters(codec="utf-8")), max_size=30))
def test_a_token_is_what_the_definition_says(key, values):
    made = Tokeniser(key).tokens(values)
    assert made.dtype == np.int64
    assert made.tolist() == [by_the_definition(key, value) for value in values]


def test_tokens_are_stable_across_versions():
    # A change here would cut every table sealed before from every table sealed after.
    made = Tokeniser(KEY).tokens(["330106199001011234", "张三", ""])
    assert made.tolist() == GOLDEN


GOLDEN = [3420716414197978663, 9168727355037131525, -168947052236485241]


def test_equal_values_share_a_token_and_other_keys_give_others():
    values = ["a", "b", "a", "c", "b"]
    first = Tokeniser(KEY).tokens(values)
    assert first[0] == first[2]
    assert first[1] == first[4]
    assert len(set(first.tolist())) == 3
    assert not set(first.tolist()) & set(Tokeniser(KEY[::-1]).tokens(values).tolist())


def test_nothing_in_nothing_out():
    assert Tokeniser(KEY).tokens([]).shape == (0,)


def test_each_distinct_value_is_computed_once(monkeypatch):
    seen = []
    real = tokens._macs
    monkeypatch.setattr(
        tokens, "_macs", lambda family, key, messages: seen.extend(messages) or real(family, key, messages)
    )
    Tokeniser(KEY).tokens(["a", "b", "a", "a", "b"])
    assert seen == [b"a", b"b"]


def test_the_second_provider_gives_the_same_tokens(monkeypatch):
    values = ["a", "b", "张三"]
    expected = Tokeniser(KEY).tokens(values).tolist()
    try:
        second = StdlibHashes("sm3")
    except ValueError:
        pytest.skip("this Python was built without SM3, so there is no second provider")
    monkeypatch.setattr(providers, "hash_family", lambda _: providers.Choice("SM3", second, ()))
    assert Tokeniser(KEY).tokens(values).tolist() == expected


@pytest.mark.parametrize("length", [0, 15])
def test_a_short_key_is_refused(length):
    with pytest.raises(KeyUnavailableError, match=f"a token key has at least 16 bytes, got {length}") as caught:
        Tokeniser(bytes(length))
    assert caught.value.code == "vault.key_unavailable.malformed"


def test_an_identifier_that_is_not_text_is_refused_without_being_shown():
    with pytest.raises(InputError, match="an identifier is not text that UTF-8 can write") as caught:
        Tokeniser(KEY).tokens(["fine", "half \ud800 a pair"])
    assert caught.value.code == "input.identifier"
    assert "half" not in str(caught.value.to_dict())
