"""From the file that two parties write to the `Agreement` they sign; its form is in docs/reference/agreement.md.

Times are read without a clock and without a time-zone table: a date means midnight in the city, and China keeps +08:00
all year.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction

from sandbox.errors import CanonicalError
from sandbox.model.agreement import Agreement, DatasetGrant
from sandbox.model.digest import Digest, parse_digest
from sandbox.model.document import Node, description_error, read_document
from sandbox.model.load_description import COLUMN_NAME, COLUMN_RULE, DATASET_NAME, DATASET_RULE
from sandbox.model.loss import PrivacyLoss

MAX_YEARS = 5
RHO_STEP = Fraction(1, 10**6)
DELTA_STEP = Fraction(1, 10**18)
"""The steps in which a policy compares the loss of a job with its limit; a limit is a whole number of them."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CITY = timedelta(hours=8)
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TERM_RULE = "use letters, digits, `.`, `_` and `-`, at most 63 in all"


def latest_end(not_before: str) -> str:
    """Return the latest end of a term that starts at `not_before`: five calendar years later, as the city counts them.

    A start on 29 February ends on 28 February, the earlier of the two readings.

    Args:
        not_before: UTC, `YYYY-MM-DDTHH:MM:SSZ`.

    Raises:
        ValueError: it is no such time.
    """
    start = datetime.strptime(not_before, "%Y-%m-%dT%H:%M:%SZ") + _CITY  # noqa: DTZ007  (UTC by its `Z`)
    year = start.year + MAX_YEARS
    try:
        end = start.replace(year=year)
    except ValueError:
        end = start.replace(year=year, day=28)
    return format_utc(end - _CITY)


def format_utc(moment: datetime) -> str:
    """Return a naive UTC moment as `YYYY-MM-DDTHH:MM:SSZ`, with four digits of year on every platform."""
    return moment.isoformat(timespec="seconds") + "Z"


def load_agreement(text: str, file_name: str, parties: Mapping[str, str]) -> Agreement:
    """Return the agreement that a file writes.

    Args:
        text: the file's content.
        file_name: what messages call it.
        parties: key names to key ids, of which `operator` and `agency` name two.

    Raises:
        DescriptionError: with the line, what is wrong there and what to write.
    """
    top = read_document(text, file_name)
    top.only(
        "agreement", "title", "operator", "agency", "not_before", "not_after", "purposes", "products", "grants",
        "follows",
    )  # fmt: skip
    title_en, title_zh = top.field("title").labels()
    not_before, not_after = _term(top.field("not_before"), top.field("not_after"))
    operator, agency = _party(top.field("operator"), parties), _party(top.field("agency"), parties)
    if operator == agency:
        top.field("agency").refuse("the two parties are the same", hint="an agreement has two sides", kind="party")
    follows = top.optional("follows")
    return Agreement(
        agreement=top.field("agreement").matching(DATASET_NAME, DATASET_RULE),
        title_en=title_en,
        title_zh=title_zh,
        operator=operator,
        agency=agency,
        not_before=not_before,
        not_after=not_after,
        purposes=_names(top.field("purposes"), _TERM, _TERM_RULE),
        products=_names(top.field("products"), _TERM, _TERM_RULE),
        grants=_grants(top.field("grants")),
        follows=None if follows is None else _digest(follows),
    )


def _party(node: Node, parties: Mapping[str, str]) -> str:
    name = node.text()
    key = parties.get(name)
    if key is None:
        node.refuse(
            f"no key is known under the name `{name}`", hint="register the party's public key first", kind="party"
        )
    return key


def _term(start: Node, end: Node) -> tuple[str, str]:
    not_before, not_after = _moment(start), _moment(end)
    if not_before >= not_after:
        end.refuse("the term ends before it starts", hint="`not_after` is later than `not_before`", kind="term")
    if not_before > "9000":
        start.refuse("the term starts too late", hint="write the year with four digits, as in 2026", kind="term")
    if not_after > latest_end(not_before):
        end.refuse(
            f"the term is longer than {MAX_YEARS} years",
            hint=f"the latest end for this start is {latest_end(not_before)}",
            kind="term",
        )
    return not_before, not_after


def _moment(node: Node) -> str:
    text = node.text()
    try:
        if _TIME.fullmatch(text):
            return format_utc(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))  # noqa: DTZ007  (UTC by its `Z`)
        if _DATE.fullmatch(text):
            return format_utc(datetime.strptime(text, "%Y-%m-%d") - _CITY)  # noqa: DTZ007  (the city's midnight)
        raise ValueError(text)
    except (ValueError, OverflowError) as error:
        raise description_error(
            node.file,
            node.line,
            node.path,
            f"expected a time, got `{text}`",
            hint="write a date as 2026-01-31 (midnight in the city, +08:00) or a UTC time as 2026-01-30T16:00:00Z",
            kind="type",
        ) from error


def _names(node: Node, pattern: re.Pattern[str], rule: str) -> tuple[str, ...]:
    """Return the names of a list, sorted, so that one meaning has one digest."""
    names: list[str] = []
    for item in node.items():
        name = item.matching(pattern, rule)
        if name in names:
            item.refuse(f"`{name}` is listed twice", hint="keep one of them", kind="duplicate")
        names.append(name)
    if not names:
        node.refuse(
            f"`{node.path}` is empty", hint="an empty list allows nothing; name at least one", kind="missing_value"
        )
    return tuple(sorted(names))


def _grants(node: Node) -> tuple[DatasetGrant, ...]:
    grants: list[DatasetGrant] = []
    for place in node.items():
        place.only("dataset", "columns", "budget", "job_limit")
        dataset = place.field("dataset").matching(DATASET_NAME, DATASET_RULE)
        if any(dataset == grant.dataset for grant in grants):
            place.refuse(f"dataset `{dataset}` is granted twice", hint="put its columns together", kind="duplicate")
        budget, limit = _loss(place.field("budget")), _loss(place.field("job_limit"))
        if not limit.fits(budget):
            place.field("job_limit").refuse(
                "`job_limit` is above `budget`", hint="one job cannot spend more than the whole term", kind="range"
            )
        columns = _names(place.field("columns"), COLUMN_NAME, COLUMN_RULE)
        grants.append(DatasetGrant(dataset, columns, budget, limit))
    if not grants:
        node.refuse("`grants` is empty", hint="grant at least one dataset", kind="missing_value")
    return tuple(sorted(grants, key=lambda grant: grant.dataset))


def _loss(node: Node) -> PrivacyLoss:
    loss = node.loss()
    if loss.rho == 0 or loss.delta >= 1:
        node.refuse(f"`{node.path}` is out of range", hint="rho is above 0 and delta below 1", kind="range")
    if (loss.rho / RHO_STEP).denominator != 1 or (loss.delta / DELTA_STEP).denominator != 1:
        node.refuse(
            f"`{node.path}` is finer than a policy can compare",
            hint="write rho with at most 6 decimals and delta with at most 18",
            kind="range",
        )
    return loss


def _digest(node: Node) -> Digest:
    text = node.text()
    try:
        return parse_digest(text)
    except CanonicalError as error:
        raise description_error(node.file, node.line, node.path, error.message, hint=error.hint, kind="type") from error
