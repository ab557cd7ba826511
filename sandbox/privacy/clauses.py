"""The clauses of SQL that the language has, and what to write in place of the others."""

from __future__ import annotations

from sqlglot import exp

from sandbox.privacy.hints import STEP
from sandbox.privacy.parse import Text, known_arguments

_KNOWN = ("with_", "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "kind")
_REFUSED: dict[str, tuple[str, str, str]] = {
    "laterals": ("join", "a lateral join is not in the language", "ask about one table"),
    "distinct": ("distinct", "SELECT DISTINCT would release rows", "GROUP BY the column and COUNT(*)"),
    "qualify": ("window", "QUALIFY is not in the language", f"filter groups with HAVING; {STEP}"),
    "windows": ("window", "a window is not in the language", "use GROUP BY"),
    "sample": ("feature", "a sample is not in the language", "leave it out: bounding samples rows by itself"),
    "hint": ("feature", "a hint is not in the language", "leave it out"),
    "into": ("feature", "INTO is not in the language", "leave it out"),
    "locks": ("feature", "a lock is not in the language", "leave it out"),
}


def check_clauses(text: Text, select: exp.Select) -> None:
    """Refuse a SELECT with a clause that is not in the language.

    Raises:
        QueryError: with the place of the clause and what to write instead.
    """
    for name, (code, message, hint) in _REFUSED.items():
        found = select.args.get(name)
        if found:
            node = found[0] if isinstance(found, list) else found
            if isinstance(node, exp.Distinct) and node.args.get("on"):
                raise text.refusal(node, code, "DISTINCT ON would release rows", STEP)
            raise text.refusal(node if isinstance(node, exp.Expr) else select, code, message, hint)
    known_arguments(text, select, *_KNOWN)
    if select.args.get("kind"):
        raise text.refusal(select, "feature", "SELECT AS is not in the language", "name columns with AS")
