"""Loss, exact amounts, digests, entries, keys: strict, exact, and one spelling each."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import BoundError, CanonicalError, ExactError, SignatureError, TransitionError
from sandbox.model.digest import digest_of, parse_digest
from sandbox.model.entry import MAX_ENTRY_BYTES, Entry, EntryKind
from sandbox.model.exact import decimal_text, format_exact, parse_exact
from sandbox.model.job import JobState, check_transition
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.model.unit import ContributionBound

AMOUNTS = st.fractions(min_value=0, max_value=10)


@given(st.fractions())
def test_an_exact_amount_comes_back_as_it_was(amount: Fraction) -> None:
    assert parse_exact(format_exact(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.05", Fraction(1, 20)),
        ("1e-7", Fraction(1, 10**7)),
        ("-3", Fraction(-3)),
        ("1/60", Fraction(1, 60)),
        (4, Fraction(4)),
    ],
)
def test_people_may_write_an_amount_in_these_ways(text: object, amount: Fraction) -> None:
    assert parse_exact(text) == amount


@pytest.mark.parametrize("text", [0.1, True, "", "1/0", "0x10", "1e999", "nan", "1_000", "1,5", None, "1/2/3"])
def test_everything_else_is_refused(text: object) -> None:
    with pytest.raises(ExactError):
        parse_exact(text)


@given(AMOUNTS)
def test_a_decimal_for_people_is_never_rounded_in_our_favour(amount: Fraction) -> None:
    assert Fraction(decimal_text(amount, digits=4, round_up=True)) >= amount
    assert Fraction(decimal_text(amount, digits=4)) <= amount


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_losses_add_and_never_give_back(a: Fraction, b: Fraction, c: Fraction) -> None:
    one, two, three = PrivacyLoss(a), PrivacyLoss(b), PrivacyLoss(c)
    assert (one + two) + three == one + (two + three)
    assert one.fits(one + two)
    assert (one + two).minus(two) == one
    assert PrivacyLoss.parse(one.to_record()) == one
    assert one + NO_LOSS == one


def test_a_loss_out_of_range_cannot_exist() -> None:
    for rho, delta in ((Fraction(-1), Fraction(0)), (Fraction(1), Fraction(-1)), (Fraction(1), Fraction(2))):
        with pytest.raises(ExactError, match="out of range"):
            PrivacyLoss(rho, delta)
    with pytest.raises(ExactError, match="share of a loss"):
        PrivacyLoss(Fraction(1)).scaled(Fraction(2))
    with pytest.raises(ExactError, match="needs `rho`"):
        PrivacyLoss.parse({"epsilon": "1"})


def test_a_bound_may_be_lowered_and_never_raised() -> None:
    bound = ContributionBound(4, 2)
    assert bound.lowered(rows=2) == ContributionBound(2, 2)
    assert bound.lowered(rows=1) == ContributionBound(1, 1)
    for rows, groups in ((5, None), (None, 3), (0, None)):
        with pytest.raises(BoundError):
            bound.lowered(rows=rows, groups=groups)


def test_a_digest_names_its_hash_and_nothing_else_is_one() -> None:
    assert digest_of(b"abc") == "sm3:66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert digest_of(b"abc", hash_name="sha256").startswith("sha256:ba7816bf")
    for text in ("md5:" + "0" * 64, "sm3:" + "G" * 64, "sm3:00", None, "sm3:" + "A" * 64):
        with pytest.raises(CanonicalError):
            parse_digest(text)


def test_an_entry_has_one_spelling() -> None:
    entry = Entry(3, "2026-01-01T00:00:00Z", EntryKind.EXPORT_MADE, "k", {"by": "中"})
    assert Entry.parse(entry.to_bytes()) == entry
    for raw in (
        entry.to_bytes().replace(b'"v":1', b'"v":2'),
        entry.to_bytes().replace(b'"seq":3', b'"seq":-3'),
        entry.to_bytes().replace(b"export.made", b"export.mode"),
        entry.to_bytes().replace(b"00:00Z", b"00:00+"),
        b"x" * (MAX_ENTRY_BYTES + 1),
    ):
        with pytest.raises(CanonicalError):
            Entry.parse(raw)
    with pytest.raises(CanonicalError, match="would be over"):
        Entry(0, "2026-01-01T00:00:00Z", EntryKind.EXPORT_MADE, "k", {"by": "x" * 70_000}).to_bytes()


def test_a_job_that_ended_stays_ended() -> None:
    check_transition(JobState.SUBMITTED, JobState.ADMITTED)
    with pytest.raises(TransitionError, match="cannot go from `released` to `reserved`"):
        check_transition(JobState.RELEASED, JobState.RESERVED)


def test_a_public_key_record_is_strict() -> None:
    key = PublicKey("a", Role.OPERATOR, SuiteName.INTL, b"1" * 32, b"2" * 32)
    assert PublicKey.parse(key.to_record()) == key
    assert len(key.key_id) == 32
    for change in ({"role": "king"}, {"suite": "rot13"}, {"signing": "!"}, {"extra": 1}):
        with pytest.raises(SignatureError):
            PublicKey.parse({**key.to_record(), **change})
    for record in ({"key": "x"}, {"key": 1, "value": "AA=="}, {"key": "x", "value": "AB=="}):
        with pytest.raises(SignatureError):
            Signature.parse(record)
