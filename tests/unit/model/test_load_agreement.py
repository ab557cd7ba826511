from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import DescriptionError
from sandbox.model.agreement import Agreement
from sandbox.model.load_agreement import latest_end, load_agreement

GOOD = """\
agreement: clinic-2026
title: {en: Supervision, zh: 监管}
operator: firm
agency: centre
not_before: 2026-07-01
not_after: 2027-06-30T16:00:00Z
purposes: [public-governance, welfare]
products: [P08, P07]
grants:
  - dataset: zeta
    columns: [a]
    budget: {rho: 0.4, delta: 9e-7}
    job_limit: {rho: 0.04, delta: 1e-7}
  - dataset: clinic
    columns: [fee, days]
    budget: {rho: 1}
    job_limit: {rho: 1}
"""
PARTIES = {"firm": "0" * 32, "centre": "1" * 32, "twin": "0" * 32}


def load(text=GOOD):
    return load_agreement(text, "terms.yaml", PARTIES)


def test_an_agreement_reads_as_it_was_written_and_sorted():
    agreement = load()
    assert (agreement.operator, agreement.agency) == ("0" * 32, "1" * 32)
    assert (agreement.not_before, agreement.not_after) == ("2026-06-30T16:00:00Z", "2027-06-30T16:00:00Z")
    assert (agreement.purposes, agreement.products) == (("public-governance", "welfare"), ("P07", "P08"))
    assert [grant.dataset for grant in agreement.grants] == ["clinic", "zeta"]
    assert agreement.grant("clinic").columns == ("days", "fee")
    assert agreement.grant("zeta").job_limit.rho == Fraction(1, 25)
    assert agreement.follows is None


def test_an_agreement_survives_its_record():
    assert Agreement.parse(load().to_record()) == load()
    assert load(GOOD.replace("[fee, days]", "[days, fee]")).digest() == load().digest()


def test_a_successor_names_the_digest_it_follows():
    digest = load().digest()
    assert load(GOOD + f"follows: {digest}\n").follows == digest


@pytest.mark.parametrize(
    ("old", "new", "line", "kind", "message"),
    [
        ("operator: firm", "operator: nobody", 3, "party", "no key is known under the name `nobody`"),
        ("agency: centre", "agency: twin", 4, "party", "the two parties are the same"),
        ("not_before: 2026-07-01", "not_before: 2026-7-1", 5, "type", "expected a time, got `2026-7-1`"),
        ("not_before: 2026-07-01", "not_before: 2026-02-30", 5, "type", "expected a time, got `2026-02-30`"),
        ("not_before: 2026-07-01", "not_before: 2026-07-01T00:00:00+08:00", 5, "type", "expected a time"),
        ("not_before: 2026-07-01", "not_before: 0001-01-01", 5, "type", "expected a time"),
        ("not_before: 2026-07-01", "not_before: 2027-07-01", 6, "term", "the term ends before it starts"),
        ("not_before: 2026-07-01", "not_before: 2022-06-30", 6, "term", "the term is longer than 5 years"),
        ("not_after: 2027-06-30T16:00:00Z", "not_after: 2031-06-30T16:00:01Z", 6, "term", "is longer than 5 years"),
        ("purposes: [public-governance, welfare]", "purposes: []", 7, "missing_value", "`purposes` is empty"),
        ("products: [P08, P07]", "products: [P08, P08]", 8, "duplicate", "`P08` is listed twice"),
        ("dataset: zeta", "dataset: clinic", 14, "duplicate", "dataset `clinic` is granted twice"),
        ("columns: [a]", "columns: []", 11, "missing_value", "`grants[0].columns` is empty"),
        ("columns: [a]", "columns: [a, a]", 11, "duplicate", "`a` is listed twice"),
        ("columns: [a]", "columns: ['*']", 11, "name", "`*` is not allowed as"),
        ("job_limit: {rho: 0.04, delta: 1e-7}", "job_limit: {rho: 0.5}", 13, "range", "`job_limit` is above `budget`"),
        ("job_limit: {rho: 0.04, delta: 1e-7}", "job_limit: {rho: 1/30}", 13, "range", "finer than a policy"),
        ("job_limit: {rho: 0.04, delta: 1e-7}", "job_limit: {rho: 0}", 13, "range", "is out of range"),
        ("job_limit: {rho: 0.04, delta: 1e-7}", "job_limit: {rho: 0.01, delta: 1e-19}", 13, "range", "finer than"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old, new, line, kind, message):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(DescriptionError) as caught:
        load(text)
    assert caught.value.code == f"input.description.{kind}"
    assert caught.value.message.startswith(f"terms.yaml line {line}: ")
    assert message in caught.value.message


def test_grants_are_needed_and_a_follows_is_a_digest():
    head, _, _ = GOOD.partition("grants:\n")
    with pytest.raises(DescriptionError, match="`grants` is empty"):
        load(head + "grants: []\n")
    with pytest.raises(DescriptionError, match="expected a digest, got `abc`"):
        load(GOOD + "follows: abc\n")


def test_exactly_five_years_are_allowed_and_a_second_more_is_not():
    five = GOOD.replace("not_after: 2027-06-30T16:00:00Z", "not_after: 2031-07-01")
    assert load(five).not_after == "2031-06-30T16:00:00Z"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-12-31T16:00:00Z", "2030-12-31T16:00:00Z"),
        ("2028-02-27T16:00:00Z", "2033-02-27T16:00:00Z"),  # 28 February in the city
        ("2028-02-28T16:00:00Z", "2033-02-27T16:00:00Z"),  # 29 February in the city: the earlier reading
        ("2028-02-29T16:00:00Z", "2033-02-28T16:00:00Z"),  # 1 March in the city, 29 February in UTC
        ("2097-06-01T00:00:00Z", "2102-06-01T00:00:00Z"),  # a span with a single leap day
    ],
)
def test_five_years_are_calendar_years_of_the_city(start, end):
    assert latest_end(start) == end


@given(st.datetimes(datetime(1970, 1, 1), datetime(8000, 1, 1)))
def test_five_years_are_never_longer_than_five_years_and_two_leap_days(moment):
    start = moment.replace(microsecond=0)
    end = datetime.fromisoformat(latest_end(start.isoformat() + "Z").removesuffix("Z"))
    assert timedelta(days=1824) <= end - start <= timedelta(days=1827)


def test_what_is_no_time_has_no_end():
    with pytest.raises(ValueError, match="does not match format"):
        latest_end("2026-01-01")
