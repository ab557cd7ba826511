"""What the body of each kind of entry must be: exactly these fields, each of this form.

The forms keep secrets out by shape: digests, names, dotted codes, exact losses and small integers have no room for a
row value or an error text.  `docs/reference/entries.md` says the same in prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sandbox.errors import InputError, LedgerError, SignatureError
from sandbox.model.digest import parse_digest
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobKind
from sandbox.model.keys import PublicKey, SuiteName, decode_base64
from sandbox.model.loss import PrivacyLoss

MAX_TEXT = 200
MAX_ITEMS = 1000
SIGNATURE_BYTES = 64

Form = Callable[[Any], Any]
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
_CODE = re.compile(r"[a-z][a-z0-9_\-]{0,49}(\.[a-z0-9_\-]{1,50}){0,5}")
_KEY_ID = re.compile(r"[0-9a-f]{32}")
_ACCOUNT = re.compile(r"(agreement|dataset):[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}/[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _FormError(Exception):
    """A value is not of its form; the argument says what was expected."""


def parse_body(kind: EntryKind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body's values parsed (losses, keys, tuples); the body must have the kind's fields and no others.

    Raises:
        LedgerError: `ledger.entry.malformed`; `details["place"]` names the field.
    """
    fields = FIELDS[kind]
    body = {**_LATER.get(kind, {}), **body}
    if body.keys() != fields.keys():
        odd = sorted(body.keys() ^ fields.keys())
        raise _malformed(kind, odd[0], f"exactly the fields {sorted(fields)}")
    return {name: _parsed(kind, name, form, body[name]) for name, form in fields.items()}


def check_time(text: object) -> None:
    """Raise `LedgerError` unless `text` is a UTC time in whole seconds, `YYYY-MM-DDTHH:MM:SSZ`, that exists."""
    try:
        _time(text)
    except _FormError as error:
        raise LedgerError(
            "the time of an entry is malformed",
            hint="write UTC as YYYY-MM-DDTHH:MM:SSZ",
            code="ledger.entry.malformed",
            place="at",
        ) from error


def refused_entry(code: str, message: str, hint: str) -> LedgerError:
    """Return the error of an entry that is well formed and not allowed: `ledger.entry.<code>`."""
    return LedgerError(message, hint=hint, code=f"ledger.entry.{code}")


def _parsed(kind: EntryKind, name: str, form: Form, value: object) -> Any:
    try:
        return form(value)
    except _FormError as error:
        raise _malformed(kind, name, str(error)) from error
    except (InputError, SignatureError) as error:  # the model's own parsers
        raise _malformed(kind, name, error.message) from error


def _malformed(kind: EntryKind, place: str, expected: str) -> LedgerError:
    return LedgerError(
        f"field `{place}` of a `{kind.value}` entry is malformed: {expected}",
        hint="see docs/reference/entries.md",
        code="ledger.entry.malformed",
        kind=kind.value,
        place=place,
    )


def _matching(pattern: re.Pattern[str], expected: str) -> Form:
    def form(value: object) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _FormError(expected)
        return value

    return form


_name = _matching(_NAME, "expected a name of letters, digits, `_`, `.`, `-`")
_code = _matching(_CODE, "expected a dotted code in lower case")
_key_id = _matching(_KEY_ID, "expected a key id of 32 hex digits")
_account = _matching(_ACCOUNT, "expected `agreement:<name>/<dataset>` or `dataset:<dataset>/<unit kind>`")


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or _NOT_PLAIN.search(value):
        raise _FormError(f"expected one line of text of 1 to {MAX_TEXT} characters")
    return value


def _time(value: object) -> str:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise _FormError("expected a UTC time as YYYY-MM-DDTHH:MM:SSZ")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _FormError("expected true or false")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _FormError("expected an integer of 0 or more")
    return value


def _loss(value: object) -> PrivacyLoss:
    if not isinstance(value, dict) or value.keys() != {"rho", "delta"} or not all(map(_is_text, value.values())):
        raise _FormError("expected a loss as in {'rho': '1/100', 'delta': '0'}")
    return _loss_of(value["rho"], value["delta"])


@lru_cache(maxsize=4096)  # a log says the same few amounts again and again
def _loss_of(rho: str, delta: str) -> PrivacyLoss:
    record = {"rho": rho, "delta": delta}
    loss = PrivacyLoss.parse(record)
    if loss.delta >= 1 or loss.to_record() != record:
        raise _FormError("expected a loss in lowest terms, as in {'rho': '1/100', 'delta': '0'}, with delta below 1")
    return loss


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _signature(value: object) -> bytes:
    raw = decode_base64(value)
    if len(raw) != SIGNATURE_BYTES:
        raise _FormError(f"expected {SIGNATURE_BYTES} bytes in base64")
    return raw


def _public_key(value: object) -> PublicKey:
    key = PublicKey.parse(value)
    if key.to_record() != value:
        raise _FormError("expected a public key record")
    if not key.name.isprintable() or not 0 < len(key.name) <= MAX_TEXT or len(key.name.split()) != 1 or "+" in key.name:
        raise _FormError("expected a key name without spaces or `+`")
    return key


def _one_of(*values: str) -> Form:
    def form(value: object) -> str:
        if not isinstance(value, str) or value not in values:
            raise _FormError(f"expected one of {list(values)}")
        return value

    return form


def _optional(inner: Form) -> Form:
    def form(value: object) -> Any:
        return None if value is None else inner(value)

    return form


def _several(inner: Form, *, least: int = 0) -> Form:
    def form(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= MAX_ITEMS:
            raise _FormError(f"expected a list of {least} to {MAX_ITEMS} items")
        return tuple(inner(item) for item in value)

    return form


def _sorted_set(inner: Form, *, least: int = 0) -> Form:
    def form(value: object) -> tuple[str, ...]:
        items: tuple[str, ...] = _several(inner, least=least)(value)
        if list(items) != sorted(set(items)):
            raise _FormError("expected a sorted list without repeats")
        return items

    return form


def _record(**fields: Form) -> Form:
    def form(value: object) -> dict[str, Any]:
        if not isinstance(value, dict) or value.keys() != fields.keys():
            raise _FormError(f"expected a record with exactly {sorted(fields)}")
        return {name: inner(value[name]) for name, inner in fields.items()}

    return form


def _read(value: object) -> tuple[str, str, tuple[str, ...]]:
    if not isinstance(value, list) or len(value) != 3:
        raise _FormError("expected [dataset, snapshot, [columns]]")
    return _name(value[0]), parse_digest(value[1]), _sorted_set(_name)(value[2])


def _versions(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _FormError("expected a record of names and versions")
    return {_name(name): _text(version) for name, version in value.items()}


def _isolation(value: object) -> dict[str, str | int | bool]:
    if not isinstance(value, dict) or "level" not in value:
        raise _FormError("expected a record with `level`")
    _name(value["level"])
    for name, fact in value.items():
        _name(name)
        if not isinstance(fact, int):
            _text(fact)
    return dict(value)


_suite = _one_of(*(suite.value for suite in SuiteName))
_grant = _record(dataset=_name, columns=_sorted_set(_name, least=1), budget=_loss, job_limit=_loss)

_LATER: dict[EntryKind, dict[str, Any]] = {EntryKind.DATASET_SEALED: {"also_protects": []}}
"""Fields that entries of the first logs do not have, and what they mean there."""

FIELDS: dict[EntryKind, dict[str, Form]] = {
    EntryKind.LOG_OPENED: {"origin": _text, "suite": _suite, "key": _public_key, "versions": _versions},
    EntryKind.KEY_REGISTERED: {"key": _public_key},
    EntryKind.POLICY_ADOPTED: {"policy": parse_digest},
    EntryKind.DATASET_SEALED: {
        "dataset": _name,
        "table": _name,
        "unit_kind": _name,
        "also_protects": _sorted_set(_name),
        "description": parse_digest,
        "snapshot": parse_digest,
        "parent": _optional(parse_digest),
        "suite": _suite,
        "budget": _loss,
    },
    EntryKind.DATASET_PROFILED: {"dataset": _name, "snapshot": parse_digest, "loss": _loss, "profile": parse_digest},
    EntryKind.DATASET_DESTROYED: {
        "dataset": _name,
        "snapshots": _sorted_set(parse_digest, least=1),
        "certificate": parse_digest,
    },
    EntryKind.BATCH_RECEIVED: {
        "dataset": _name,
        "batch": parse_digest,
        "department": _key_id,
        "snapshot": parse_digest,
    },
    EntryKind.EPOCH_CLOSED: {
        "epoch": _count,
        "certificates": _sorted_set(parse_digest),
        "record": parse_digest,
    },
    EntryKind.AGREEMENT_REGISTERED: {
        "agreement": parse_digest,
        "name": _name,
        "operator": _key_id,
        "agency": _key_id,
        "not_before": _time,
        "not_after": _time,
        "grants": _several(_grant, least=1),
    },
    EntryKind.JOB_SUBMITTED: {
        "job": parse_digest,
        "kind": _one_of(*(kind.value for kind in JobKind)),
        "name": _text,
        "agreement": _name,
        "product": _name,
        "purpose": _name,
        "code": parse_digest,
        "submitter": _key_id,
        "signature": _signature,
    },
    EntryKind.JOB_DECIDED: {
        "job": parse_digest,
        "allowed": _flag,
        "policy": parse_digest,
        "clauses": _sorted_set(_name),
        "request": parse_digest,
        "loss": _loss,
    },
    EntryKind.JOB_REFUSED: {"job": parse_digest, "stage": _code, "code": _code, "clauses": _sorted_set(_name)},
    EntryKind.BUDGET_RESERVED: {
        "job": parse_digest,
        "reservations": _several(_record(account=_account, loss=_loss), least=1),
    },
    EntryKind.VAULT_OPENED: {"job": parse_digest, "reads": _several(_read)},
    EntryKind.QUESTION_ANSWERED: {"job": parse_digest, "index": _count, "question": parse_digest, "loss": _loss},
    EntryKind.JOB_GATED: {"job": parse_digest, "permit": parse_digest, "output": parse_digest},
    EntryKind.JOB_SETTLED: {
        "job": parse_digest,
        "outcome": _one_of("released", "failed"),
        "code": _optional(_code),
        "posted": _loss,
        "release": _optional(parse_digest),
        "transcript": parse_digest,
        "duration_bucket_s": _count,
        "isolation": _isolation,
    },
    EntryKind.JOB_RECOVERED: {"job": parse_digest, "reason": _code, "posted": _loss},
    EntryKind.EXPORT_MADE: {"bundle": parse_digest, "by": _key_id},
}
