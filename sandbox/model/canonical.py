"""Canonical bytes: one value, one byte string (RFC 8785).

Two profiles.  *Records* (log entries, agreements, job specs, manifests) hold no floats: amounts are text.  *Releases*
hold finite floats, since they are what people compute with.  Parsing is strict in both: bytes that are not the
canonical form of what they say are refused, so a digest names a meaning and not a spelling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, cast

import rfc8785

from sandbox.errors import CanonicalError

_HINT = "write it with the project's own `canonical_bytes`"


def canonical_bytes(record: object) -> bytes:
    """Return the RFC 8785 bytes of a record, which may hold no floats.

    Raises:
        CanonicalError: a float, a key that is not text, or an integer beyond 2**53 - 1 is inside.
    """
    return _checked_bytes(record, floats=False)


def canonical_release_bytes(release: object) -> bytes:
    """Return the RFC 8785 bytes of a release, which may hold finite floats."""
    return _checked_bytes(release, floats=True)


def parse_canonical(raw: bytes) -> Any:
    """Return the record that `raw` is the canonical form of; refuse every other spelling."""
    return _parse(raw, floats=False)


def parse_canonical_release(raw: bytes) -> Any:
    """Return the release that `raw` is the canonical form of; refuse every other spelling."""
    return _parse(raw, floats=True)


def _parse(raw: bytes, *, floats: bool) -> Any:
    try:
        value = json.loads(raw.decode("utf-8", "strict"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CanonicalError("bytes are not JSON in UTF-8", hint=_HINT) from error
    if _checked_bytes(value, floats=floats) != raw:
        raise CanonicalError("bytes are JSON but not in canonical form", hint=_HINT)
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _checked_bytes(value: object, *, floats: bool) -> bytes:
    try:
        if _is_simple(value):
            # Of simple values Python's own encoder, which is written in C, makes the same bytes.
            return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        _check_plain(value, path="$", floats=floats)
        return rfc8785.dumps(cast("Any", value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise CanonicalError("value has no canonical form", hint=_HINT) from error


def _is_simple(value: object) -> bool:
    """Return whether a value has only what RFC 8785 and plain JSON write alike.

    That is text, truth values, null, integers below 2**53, lists, and objects whose keys are ASCII (other keys are
    sorted by UTF-16 units there and by code points here).
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -(2**53) < cast("int", value) < 2**53
    inner: Iterable[object]
    if kind is dict:
        record = cast("dict[object, object]", value)
        for key in record:
            if type(key) is not str or not key.isascii():
                return False
        inner = record.values()
    elif kind is list or kind is tuple:
        inner = cast("list[object]", value)
    else:
        return False
    for each in inner:  # noqa: SIM110 - a loop: `all` is slower, and this runs for every entry of the log
        if type(each) is not str and not _is_simple(each):
            return False
    return True


def _check_plain(value: object, *, path: str, floats: bool) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) >= 2**53:
            raise CanonicalError(f"integer at `{path}` is beyond 2**53 - 1", hint="write large amounts as text")
        return
    if isinstance(value, float):
        if not floats:
            raise CanonicalError(f"float at `{path}` in a record", hint="write amounts as integers or exact text")
        if not math.isfinite(value):
            raise CanonicalError(f"number at `{path}` is not finite", hint="use null for a value that does not exist")
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise CanonicalError(f"key at `{path}` is not text", hint="use text keys")
            _check_plain(inner, path=f"{path}.{key}", floats=floats)
        return
    if isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _check_plain(inner, path=f"{path}[{index}]", floats=floats)
        return
    raise CanonicalError(f"value at `{path}` is not JSON", hint="use objects, lists, text, integers, booleans and null")
