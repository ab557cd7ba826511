"""What to write instead of SQL that the language does not have: node type to code, message and hint."""

from __future__ import annotations

from sqlglot import exp

HINTS: dict[type[exp.Expr], tuple[str, str, str]] = {
    exp.Subquery: ("subquery", "a subquery is not in the language", "ask two questions, one after the other"),
    exp.Select: ("subquery", "a subquery is not in the language", "ask two questions, one after the other"),
    exp.Exists: ("subquery", "EXISTS is not in the language", "ask two questions, one after the other"),
    exp.Window: ("window", "a window function is not in the language", "use GROUP BY"),
    exp.Star: ("raw_rows", "`*` would release rows", "write COUNT(*), or name what you want to know"),
    exp.IntDiv: ("division", "`//` is not in the language", "write FLOOR(x / 10)"),
    exp.Mod: ("division", "`%` is not in the language", "write x - 10 * FLOOR(x / 10)"),
    exp.Round: ("unknown_function", "ROUND is not in the language", "write FLOOR(x + 0.5), or round the answer"),
    exp.Cast: ("unknown_function", "a cast is not in the language", "leave it out: numbers are exact here"),
    exp.TryCast: ("unknown_function", "a cast is not in the language", "leave it out: numbers are exact here"),
    exp.ILike: ("like", "ILIKE is not in the language", "write LIKE with a prefix, or IN with every spelling"),
    exp.Placeholder: ("literal", "a parameter is not in the language", "write the value itself"),
    exp.Parameter: ("literal", "a parameter is not in the language", "write the value itself"),
}
