"""Custody: any threshold of shares gives the master key back, fewer give nothing, and a wrong share is named."""

from dataclasses import replace
from itertools import combinations

import pytest
from Crypto.Protocol.SecretSharing import Shamir

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.signing import sign
from sandbox.crypto.suites import suite
from sandbox.errors import InputError, KeyUnavailableError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import Role, SuiteName
from sandbox.vault.custody import (
    SIGNING_CONTEXT,
    OpenedShare,
    Share,
    combine_shares,
    open_share,
    split_master,
    verify_share,
)
from sandbox.vault.masters import MasterRing, check_value

AT = "2027-01-31T08:00:00Z"
NAMES = ("an", "bo", "chen", "dai", "ma")


@pytest.fixture(scope="module")
def people() -> dict[str, PrivateKey]:
    return {name: generate_key(name, Role.CUSTODIAN, SuiteName.GM) for name in NAMES}


@pytest.fixture
def ring(suite_name: SuiteName) -> MasterRing:
    return MasterRing.new(suite_name)


@pytest.fixture
def signer(signers: dict[SuiteName, PrivateKey]) -> PrivateKey:
    return signers[SuiteName.GM]


@pytest.fixture
def shares(ring: MasterRing, people: dict[str, PrivateKey], signer: PrivateKey) -> tuple[Share, ...]:
    return deal(ring, people, signer)


def deal(ring: MasterRing, people: dict[str, PrivateKey], signer: PrivateKey) -> tuple[Share, ...]:
    return split_master(ring, [key.public for key in people.values()], threshold=3, signer=signer, at=AT)


def opened(shares: tuple[Share, ...], people: dict[str, PrivateKey]) -> list[OpenedShare]:
    return [open_share(share, people[share.custodian]) for share in shares]


def test_any_three_of_five_give_the_key_back(
    ring: MasterRing, shares: tuple[Share, ...], people: dict[str, PrivateKey]
) -> None:
    on_the_table = opened(shares, people)
    for chosen in combinations(on_the_table, 3):
        assert combine_shares(chosen) == ring
    assert combine_shares(on_the_table) == ring


def test_two_of_five_are_refused_and_a_share_does_not_count_twice(
    shares: tuple[Share, ...], people: dict[str, PrivateKey]
) -> None:
    on_the_table = opened(shares, people)
    for chosen in (on_the_table[:2], [on_the_table[0], on_the_table[1], on_the_table[1]]):
        with pytest.raises(KeyUnavailableError, match="2 shares of 3 that are needed") as caught:
            combine_shares(chosen)
        assert caught.value.code == "vault.key_unavailable.shares"
    with pytest.raises(KeyUnavailableError, match="0 shares"):
        combine_shares([])


def test_two_shares_fit_every_key_equally_well(shares: tuple[Share, ...], people: dict[str, PrivateKey]) -> None:
    """Each third point gives another key, so two points leave every key possible."""
    first, second, third = opened(shares, people)[:3]
    keys = set()
    for guess in range(256):
        points = [(each.share.index, each.content[:16]) for each in (first, second)]
        keys.add(Shamir.combine([*points, (third.share.index, bytes(15) + bytes([guess]))]))
    assert len(keys) == 256


def test_a_file_reads_back_and_verifies(shares: tuple[Share, ...], signer: PrivateKey) -> None:
    for share in shares:
        again = Share.parse(share.to_bytes(), name="share")
        assert again == share
        verify_share(again, [signer.public])


def test_every_altered_byte_of_a_share_is_noticed_and_its_holder_named(
    shares: tuple[Share, ...], signer: PrivateKey
) -> None:
    raw = shares[1].to_bytes()
    for place in range(0, len(raw), 5):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(VaultError) as caught:
            verify_share(Share.parse(bytes(changed), name="bo"), [signer.public])
        assert caught.value.code == "vault.custody.share"
        assert caught.value.message.startswith("the share of `")


def test_a_share_that_was_dealt_wrongly_is_named(
    shares: tuple[Share, ...], people: dict[str, PrivateKey], signer: PrivateKey
) -> None:
    """Even the sandbox's own signature does not make a wrong content pass for the one that was dealt."""
    wrong = replace(shares[2], sealed=shares[3].sealed)
    wrong = replace(wrong, signature=sign(signer, SIGNING_CONTEXT, canonical_bytes(wrong.words())))
    verify_share(wrong, [signer.public])
    with pytest.raises(VaultError, match="the share of `chen` does not open with its custodian's key"):
        open_share(wrong, people["chen"])
    content = OpenedShare(shares[2], bytes(len(opened(shares, people)[2].content)))
    with pytest.raises(VaultError, match="the share of `chen` is not the one that was dealt") as caught:
        combine_shares([*opened(shares, people)[:2], content])
    assert caught.value.code == "vault.custody.share"
    assert caught.value.details["custodian"] == "chen"


def test_a_share_of_another_ceremony_is_named(
    ring: MasterRing, shares: tuple[Share, ...], people: dict[str, PrivateKey], signer: PrivateKey
) -> None:
    other = opened(deal(ring, people, signer), people)
    with pytest.raises(VaultError, match="the share of `ma` is of another ceremony than the others"):
        combine_shares([*opened(shares, people)[:2], other[4]])


def test_another_custodian_cannot_open_it(shares: tuple[Share, ...], people: dict[str, PrivateKey]) -> None:
    with pytest.raises(VaultError, match="the share of `an` cannot be opened by `bo`"):
        open_share(shares[0], people["bo"])


def test_only_the_sandbox_signs_shares(shares: tuple[Share, ...], people: dict[str, PrivateKey]) -> None:
    with pytest.raises(VaultError, match="the share of `an` is signed by a key that is not the sandbox's"):
        verify_share(shares[0], [people["an"].public])


def test_the_check_value_catches_a_key_that_is_not_the_one_split(
    ring: MasterRing, shares: tuple[Share, ...], people: dict[str, PrivateKey]
) -> None:
    lying = [OpenedShare(replace(each.share, kcv="0" * 32), each.content) for each in opened(shares, people)]
    with pytest.raises(VaultError, match="do not give the key whose check value they carry") as caught:
        combine_shares(lying[:3])
    assert caught.value.code == "vault.custody.check_value"
    assert caught.value.details["custodians"] == ["an", "bo", "chen"]
    assert shares[0].kcv == check_value(suite(ring.suite), ring.primary.secret)


@pytest.mark.parametrize(("names", "threshold"), [(NAMES, 1), (NAMES[:2], 3), (("an", "an", "bo"), 2)])
def test_a_splitting_that_would_not_protect_is_refused(
    ring: MasterRing, people: dict[str, PrivateKey], signer: PrivateKey, names: tuple[str, ...], threshold: int
) -> None:
    with pytest.raises(InputError) as caught:
        split_master(ring, [people[name].public for name in names], threshold=threshold, signer=signer, at=AT)
    assert caught.value.code == "input.custody"


def test_a_share_goes_to_a_custodian_only(ring: MasterRing, people: dict[str, PrivateKey], signer: PrivateKey) -> None:
    department = generate_key("health", Role.DEPARTMENT, SuiteName.GM).public
    with pytest.raises(InputError, match="`health` is registered as department and cannot hold a share"):
        split_master(ring, [people["an"].public, department], threshold=2, signer=signer, at=AT)


def test_a_share_shows_nothing_of_its_content(shares: tuple[Share, ...], people: dict[str, PrivateKey]) -> None:
    for each in opened(shares, people):
        record = parse_canonical(each.share.to_bytes())
        assert each.content.hex() not in str(record)
        assert repr(each.content) not in repr(each)
