"""Read SQL text into one SELECT of sqlglot's tree, within limits, and name places in it.

Nothing of the tree is ever turned back into text: `check.py` and `expression.py` walk it by exact node types and build
our own algebra.  A node or an argument of a node that they do not know is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from sandbox.errors import BoundError, QueryError
from sandbox.privacy.hints import HINTS, wide_hint
from sandbox.privacy.query import Settings
from sandbox.privacy.settings import split_settings

MAX_BYTES = 65_536
MAX_TOKENS = 6_000
MAX_NESTING = 40
"""Brackets and CASEs within each other, and signs or NOTs in a row."""

_CALL = re.compile(r"([A-Za-z_]+)\s*\([\s(]*$")
"""The name of a function, right before its first argument; the parser keeps no place for some."""

_OPERATORS = {"POW", "POWER", "REGEXP_MATCHES", "REGEXP_LIKE"}
"""Functions that the parser also makes of operators, before which another function's name may stand."""

_STARTS = {TokenType.SELECT, TokenType.WITH}
_OPEN = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE}
_CLOSE = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END}
_SIGNS = {TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE}


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a question; it makes refusals that name a place in it."""

    sql: str

    def refusal(self, node: exp.Expr | None, code: str, message: str, hint: str) -> QueryError:
        """Return a `QueryError` with the line and column of `node` and what stands there."""
        line, column, found = self.place(node)
        return QueryError(message, hint=hint, code=f"input.query.{code}", line=line, column=column, found=found)

    def placed(self, error: QueryError | BoundError, node: exp.Expr) -> QueryError | BoundError:
        """Return the same refusal with the place of `node`, unless it has a place."""
        if "line" not in error.details:
            line, column, found = self.place(node)
            error.details.update(line=line, column=column, found=found)
        return error

    def place(self, node: exp.Expr | None) -> tuple[int, int, str]:
        """Return line and column (from 1) and the text of the first token that belongs to `node`."""
        offsets = [] if node is None else [_span(inner) for inner in node.walk()]
        spans = [span for span in offsets if span is not None]
        if not spans and node is not None and node.parent is not None:
            return self._of_a_word(node) or self.place(node.parent)
        if not spans:
            return 1, 1, self.sql[:40]
        return self.at(*(self._name(node) or min(spans)))

    def _of_a_word(self, node: exp.Expr) -> tuple[int, int, str] | None:
        """Return the place of a word that the parser keeps none for, as in `NULL` and `CURRENT_USER`."""
        word = "NULL" if isinstance(node, exp.Null) else node.sql_name() if isinstance(node, exp.Func) else None
        found = None if word is None else re.search(rf"\b{word}\b", self.sql, re.IGNORECASE)
        return None if found is None else self.at(found.start(), found.end() - 1)

    def _name(self, node: exp.Expr | None) -> tuple[int, int] | None:
        """Return where the name of a function stands whose place the parser does not keep."""
        if not isinstance(node, exp.Func) or isinstance(node, exp.Cast) or _span(node) is not None:
            return None
        spans = [span for inner in node.walk() if (span := _span(inner)) is not None]
        found = _CALL.search(self.sql, 0, min(spans)[0]) if spans else None
        if found is None or (isinstance(node, exp.Binary) and found[1].upper() not in _OPERATORS):
            return None
        return found.start(1), found.end(1) - 1

    def called(self, node: exp.Expr) -> str:
        """Return the name of a function as the question writes it; the parser renames some."""
        span = self._name(node) or _span(node)
        if span is not None and (found := self.at(*span)[2]).isidentifier():
            return found
        return str(node.this) if not isinstance(node, exp.Func) or isinstance(node, exp.Anonymous) else node.sql_name()

    def at(self, start: int, end: int) -> tuple[int, int, str]:
        """Return line, column and text of a span of characters."""
        line = self.sql.count("\n", 0, start) + 1
        return line, start - (self.sql.rfind("\n", 0, start) + 1) + 1, self.sql[start : end + 1][:80]


def _span(node: exp.Expr) -> tuple[int, int] | None:
    start, end = node.meta.get("start"), node.meta.get("end")
    return (start, end) if isinstance(start, int) and isinstance(end, int) else None


def parse_select(sql: str) -> tuple[Text, exp.Select, Settings]:
    """Return the one SELECT that `sql` holds, and the settings at its end.

    Raises:
        QueryError: the text is too long, too deep, not SQL, more than one statement, or no plain SELECT.
    """
    text = Text(sql)
    if len(sql.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise text.refusal(None, "too_long", "the question is longer than 64 kB", "ask a shorter question, or several")
    if any("\ud800" <= character <= "\udfff" or character == "\0" for character in sql):
        raise text.refusal(None, "syntax", "the question is not valid Unicode text", "write it in UTF-8, without NUL")
    try:
        tokens = DuckDB().tokenize(sql)
    except (SqlglotError, ValueError, RecursionError):
        raise text.refusal(
            None, "syntax", "the question cannot be read as SQL", "look for a quote that is not closed"
        ) from None
    _check_tokens(text, tokens)
    plain, settings = split_settings(sql, tokens)
    try:
        statements = sqlglot.parse(plain, read="duckdb", error_level=ErrorLevel.IMMEDIATE)
    except RecursionError:
        raise text.refusal(
            None, "too_deep", "the question is nested too deep", "split it into simpler questions"
        ) from None
    except SqlglotError as error:
        raise _syntax_error(text, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise text.refusal(
            None, "syntax", "the question cannot be read as SQL", "see docs/reference/sql.md for examples"
        ) from None
    statements = [statement for statement in statements if statement is not None]
    if len(statements) != 1:
        raise text.refusal(None, "several_statements", "expected exactly one statement", "ask one question at a time")
    statement = statements[0]
    if type(statement) is not exp.Select:
        raise text.refusal(
            None, "not_select", "expected a single SELECT", "write SELECT … FROM one table, and the others apart"
        )
    return text, statement, settings


def with_weights(sql: str, weights: str) -> str:
    """Return a question with weights among its settings; whether they are any is seen when it is read."""
    written = sql.rstrip().rstrip(";").rstrip()
    try:
        plain, _ = split_settings(written, DuckDB().tokenize(written))
    except (SqlglotError, ValueError, RecursionError, QueryError):
        # It is refused where it is read, with its place.
        return written
    return f"{written}{' SETTINGS' if plain == written else ','} weights = ({weights})"


def _check_tokens(text: Text, tokens: list[Token]) -> None:
    if not tokens:
        raise text.refusal(None, "syntax", "the question is empty", "write SELECT COUNT(*) FROM a table")
    if len(tokens) > MAX_TOKENS:
        raise text.refusal(None, "too_long", f"the question has more than {MAX_TOKENS} words", "ask a shorter question")
    if tokens[0].token_type not in _STARTS:
        hint = "write SELECT … FROM a table; only a question can be asked"
        if tokens[0].token_type is TokenType.L_PAREN:
            hint = f"{hint}, without brackets around it"
        raise text.refusal(None, "not_select", "expected a SELECT", hint)
    depth = run = 0
    for token in tokens:
        run = run + 1 if token.token_type in _SIGNS else 0
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        if depth > MAX_NESTING or run > MAX_NESTING:
            line, column, found = text.at(token.start, token.end)
            raise QueryError(
                f"the question is nested deeper than {MAX_NESTING}",
                hint="split it into simpler questions",
                code="input.query.too_deep",
                line=line,
                column=column,
                found=found,
            )


def _syntax_error(text: Text, error: SqlglotError) -> QueryError:
    first: dict[str, Any] = next(iter(getattr(error, "errors", [])), {})
    line, column = first.get("line"), first.get("col")
    return QueryError(
        "the question cannot be read as SQL",
        hint=wide_hint(_outside_texts(text.sql), "see docs/reference/sql.md for examples"),
        code="input.query.syntax",
        line=line if isinstance(line, int) else 1,
        column=column if isinstance(column, int) else 1,
        found=str(first.get("highlight") or text.sql[:40])[:80],
    )


def _outside_texts(sql: str) -> str:
    """Return a question without what stands in quotes."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "", sql)


def known_arguments(text: Text, node: exp.Expr, *names: str) -> None:
    """Refuse a node that carries an argument besides `names` and sqlglot's own flags."""
    flags = {"big_int", "typed", "safe", "ignore_nulls", "is_division", "comments"}
    for name, value in node.args.items():
        if name not in names and name not in flags and value not in (None, False, []):
            one = value[0] if isinstance(value, list) else value
            if type(one) in HINTS:
                raise text.refusal(one, *HINTS[type(one)])
            raise text.refusal(
                value if isinstance(value, exp.Expr) else node,
                "feature",
                f"`{name.rstrip('_').replace('_', ' ')}` is not in the language here",
                "leave it out; docs/reference/sql.md says what is",
            )
