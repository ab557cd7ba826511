"""Read `SETTINGS name = value, …` at the end of a question: how it is bounded, weighed and shown.

Settings are a part of the text, so they are signed, logged and replayed with it.  None of them can raise what a
question costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sqlglot.tokenizer_core import Token, TokenType

from sandbox.errors import ExactError, QueryError
from sandbox.model.exact import parse_exact
from sandbox.privacy.query import Bounding, Settings

MAX_WEIGHTS = 64
_EXAMPLE = (
    "write SETTINGS bounding = 'rescale', weights = (2, 1), suppress = 0.5, nonnegative = TRUE, round = TRUE, "
    "top = 'noisy_max', quantile = 'noisy_max', noise = 'laplace', pure_loss = 0.5"
)
Given = bool | str | tuple[Fraction, ...]


def split_settings(sql: str, tokens: Sequence[Token]) -> tuple[str, Settings]:
    """Return the question without its settings, and the settings.

    Raises:
        QueryError: a setting is not known, or its value is not of its kind.
    """
    for index in range(len(tokens) - 1, -1, -1):
        if _begins(tokens, index):
            return sql[: tokens[index].start], _read(sql, tokens[index + 1 :])
    return sql, Settings()


def _begins(tokens: Sequence[Token], index: int) -> bool:
    if tokens[index].text.upper() != "SETTINGS" or tokens[index].token_type is TokenType.STRING:
        return False
    return index + 2 < len(tokens) and tokens[index + 2].token_type is TokenType.EQ


def _read(sql: str, tokens: Sequence[Token]) -> Settings:
    found: dict[str, Given] = {}
    rest = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    while rest:
        name, rest = rest[0], rest[1:]
        if not rest or rest[0].token_type is not TokenType.EQ or name.text.lower() in found:
            raise _refusal(sql, name, f"`{name.text[:40]}` is no setting, or stands twice")
        value, rest = _value(sql, name, rest[1:])
        found[name.text.lower()] = value
        if rest and (rest[0].token_type is not TokenType.COMMA or len(rest) == 1):
            raise _refusal(sql, rest[0], "settings are parted by commas")
        rest = rest[1:]
        _check(sql, name, value)
    weights, suppress, pure = (found.get(name, ()) for name in ("weights", "suppress", "pure_loss"))
    assert isinstance(weights, tuple)
    assert isinstance(suppress, tuple)
    assert isinstance(pure, tuple)
    return Settings(
        bounding=Bounding(str(found.get("bounding", "sample")).lower()),
        weights=weights,
        suppress=suppress[0] if suppress else None,
        nonnegative=found.get("nonnegative", False) is True,
        rounded=found.get("round", False) is True,
        top="top" in found,
        quantile="quantile" in found,
        consistent=found.get("consistent", False) is True,
        laplace=str(found.get("noise", "gaussian")).lower() == "laplace",
        pure_loss=pure[0] if pure else None,
    )


def _value(sql: str, name: Token, rest: Sequence[Token]) -> tuple[Given, list[Token]]:
    if not rest:
        raise _refusal(sql, name, "a setting has no value")
    first = rest[0]
    if first.text.upper() in {"TRUE", "FALSE"} and first.token_type is not TokenType.STRING:
        return first.text.upper() == "TRUE", list(rest[1:])
    if first.token_type is TokenType.STRING:
        return first.text, list(rest[1:])
    if first.token_type is TokenType.NUMBER:
        return (_amount(sql, first),), list(rest[1:])
    close = next((i for i, token in enumerate(rest) if token.token_type is TokenType.R_PAREN), None)
    if first.token_type is not TokenType.L_PAREN or close is None:
        raise _refusal(sql, first, "a setting takes TRUE, FALSE, a number, a text or a list of numbers")
    inner = rest[1:close]
    if any(token.token_type is not TokenType.COMMA for token in inner[1::2]):
        raise _refusal(sql, first, "the numbers of a list are parted by commas")
    return tuple(_amount(sql, token) for token in inner[::2]), list(rest[close + 1 :])


def _amount(sql: str, token: Token) -> Fraction:
    try:
        return parse_exact(token.text)
    except ExactError:
        raise _refusal(sql, token, "this number cannot be read exactly") from None


def _check(sql: str, name: Token, value: Given) -> None:
    key = name.text.lower()
    if key == "bounding":
        fits = isinstance(value, str) and value.lower() in {form.value for form in Bounding}
    elif key == "weights":
        fits = isinstance(value, tuple) and 1 <= len(value) <= MAX_WEIGHTS
        fits = fits and isinstance(value, tuple) and all(Fraction(1, 1000) <= weight <= 1000 for weight in value)
    elif key in {"top", "quantile"}:
        fits = isinstance(value, str) and value.lower() == "noisy_max"
    elif key == "noise":
        fits = isinstance(value, str) and value.lower() in {"gaussian", "laplace"}
    elif key in {"suppress", "pure_loss"}:
        fits = isinstance(value, tuple) and len(value) == 1 and 0 < value[0] <= 1000
    else:
        fits = key in {"nonnegative", "round", "consistent"} and isinstance(value, bool)
    if not fits:
        raise _refusal(sql, name, f"the setting `{name.text[:40]}` is not known, or its value is not of its kind")


def _refusal(sql: str, token: Token, message: str) -> QueryError:
    line = sql.count("\n", 0, token.start) + 1
    column = token.start - (sql.rfind("\n", 0, token.start) + 1) + 1
    found = sql[token.start : token.end + 1][:80]
    return QueryError(message, hint=_EXAMPLE, code="input.query.setting", line=line, column=column, found=found)
