"""Find the questions to blocks that a program spells out, so that a quote can say how good they would be.

Only what stands in the text is found: literals, and names that the module binds once to a literal.  A quote is help,
not a check; what a program asks when it runs is checked then.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from sandbox.runtime.guest.block_request import blocks_request

_CALLS_MAX: Final = 16
_POSITIONS: Final = ("table", "program", "k", "output")
_DEFAULTS: Final[dict[str, Any]] = {
    "columns": None, "parameters": None, "statistic": "mean", "milliseconds": 250, "mode": "strict", "failures": False,
    "share": None,
}  # fmt: skip


def block_calls(source: str) -> list[dict[str, Any]]:
    """Return the requests of those calls of `.blocks` whose arguments can be read off the text."""
    tree = ast.parse(source)
    known = _literals(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "blocks":
            request = _request(node, known)
            if request is not None:
                found.append(request)
    return found[:_CALLS_MAX]


def _literals(tree: ast.Module) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                known[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                known.pop(node.targets[0].id, None)
    return known


def _request(call: ast.Call, known: dict[str, Any]) -> dict[str, Any] | None:
    given: dict[str, Any] = dict(zip(_POSITIONS, call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg is not None}
    try:
        values = {name: _value(node, known) for name, node in given.items() if name != "parameters"}
        if not values.keys() <= {*_POSITIONS, *_DEFAULTS}:
            return None
        share = values.pop("share", None)
        plain = {**_DEFAULTS, **values}
        del plain["share"]
        failures = plain.pop("failures")
        return {
            **blocks_request(**plain, failures=failures),
            "share": None if share is None else str(share),
            "index": 0,
        }
    except (TypeError, ValueError, RecursionError):
        return None


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise ValueError(node.id)
        return known[node.id]
    return ast.literal_eval(node)
