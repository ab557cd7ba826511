"""Canonical bytes: one value, one byte string (RFC 8785).

Two profiles.  *Records* (log entries, agreements, job specs, manifests) hold no floats: amounts are text.  *Releases*
hold finite floats, since they are what people compute with.  Parsing is strict in both: bytes that are not the
canonical form of what they say are refused, so a digest names a meaning and not a spelling.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, cast

import rfc8785

from sandbox.errors import CanonicalError

_HINT = "write it with the project's own `canonical_bytes`"
_TEXT = frozenset({str})
# A character from the surrogates on, in a string of JSON that a colon follows, which is a key.
_KEY_ABOVE = re.compile(r'[\ud800-\U0010ffff](?:[^"\\]|\\.)*":')


def canonical_bytes(record: object) -> bytes:
    """Return the RFC 8785 bytes of a record, which may hold no floats.

    Raises:
        CanonicalError: a float, a key that is not text, or an integer beyond 2**53 - 1 is inside.
    """
    _check(record, floats=False)
    return _dump_record(record)


def canonical_release_bytes(release: object) -> bytes:
    """Return the RFC 8785 bytes of a release, which may hold finite floats."""
    _check(release, floats=True)
    return _dump_release(release)


def parse_canonical(raw: bytes) -> Any:
    """Return the record that `raw` is the canonical form of; refuse every other spelling."""
    return _parse(raw, floats=False)


def parse_canonical_release(raw: bytes) -> Any:
    """Return the release that `raw` is the canonical form of; refuse every other spelling."""
    return _parse(raw, floats=True)


def _parse(raw: bytes, *, floats: bool) -> Any:
    try:
        read_integer = _integer_or_float if floats else int
        value = json.loads(raw.decode("utf-8", "strict"), parse_int=read_integer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CanonicalError("bytes are not JSON in UTF-8", hint=_HINT) from error
    _check(value, floats=floats)
    if (_dump_release(value) if floats else _dump_record(value)) != raw:
        raise CanonicalError("bytes are JSON but not in canonical form", hint=_HINT)
    return value


def _integer_or_float(text: str) -> int | float:
    """Return a number without a point: beyond 2**53 only a float can have been meant."""
    return int(text) if abs(int(text)) < 2**53 else float(text)


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _dump_record(value: object) -> bytes:
    """Return the canonical bytes of a value without floats.

    The standard encoder writes the very bytes of RFC 8785 (the escapes are the same), four times as fast, but sorts
    keys by code points: those sort as UTF-16 does below the surrogates.  A test holds the two together.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise CanonicalError("value has no canonical form", hint=_HINT) from error
    if text.isascii() or not _KEY_ABOVE.search(text):
        with suppress(UnicodeEncodeError):  # a lone surrogate, which is refused below
            return text.encode()
    return _dump(value)


def _dump_release(value: object) -> bytes:
    """Return the canonical bytes of a value with floats: as a record, unless a number in it is written otherwise."""
    try:
        return _dump_record(_alike(value))
    except _OtherwiseWrittenError:
        return _dump(value)


class _OtherwiseWrittenError(Exception):
    """A number that RFC 8785 and Python write differently."""


def _alike(value: object) -> object:
    """Return the value with whole floats as integers, which is how both write them.

    Raises:
        _OtherwiseWrittenError: a float so large or so small that the two put its exponent elsewhere.
    """
    kind = type(value)
    if kind is float:
        if value.is_integer() and -(2**53) < value < 2**53:  # type: ignore[attr-defined, operator]  # a float
            return int(value)  # type: ignore[call-overload]  # a float
        if 1e-4 <= abs(value) < 2**53:  # type: ignore[arg-type]  # a float
            return value
        raise _OtherwiseWrittenError
    if kind is dict:
        return {key: inner if type(inner) is str else _alike(inner) for key, inner in value.items()}  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return [inner if type(inner) is str else _alike(inner) for inner in value]  # type: ignore[attr-defined]
    if value is None or kind in (str, int, bool):
        return value
    raise _OtherwiseWrittenError


def _dump(value: object) -> bytes:
    try:
        return rfc8785.dumps(cast("Any", value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise CanonicalError("value has no canonical form", hint=_HINT) from error


def _check(value: object, *, floats: bool) -> None:
    if not _is_plain(value, floats=floats):
        _check_plain(value, path="$", floats=floats)


def _is_plain(value: object, *, floats: bool) -> bool:
    """Return quickly whether a value may be written; `_check_plain` says where one may not."""
    left = [value]
    while left:
        item = left.pop()
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not -(2**53) < item < 2**53:  # type: ignore[operator]  # an int
                return False
        elif kind is dict:
            if not _TEXT.issuperset(map(type, item)):  # type: ignore[call-overload]  # a dict
                return False
            left += item.values()  # type: ignore[attr-defined]  # a dict
        elif kind is list or kind is tuple:
            left += item  # type: ignore[arg-type]  # a list
        elif kind is not float or not floats or not math.isfinite(item):  # type: ignore[arg-type]  # a float
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
