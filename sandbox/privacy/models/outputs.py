"""What a model job lets out: its tables, declared before it runs, and the card."""

from __future__ import annotations

from typing import Any

from sandbox.model.exact import format_exact
from sandbox.model.job import CellKind, OutputDeclaration, OutputKind
from sandbox.model.model_document import ModelDocument, ModelKind
from sandbox.privacy.models.asking import ModelCard
from sandbox.privacy.models.regression import Regression
from sandbox.privacy.models.scorecard import FACTOR, Scorecard
from sandbox.privacy.models.synthetic import SyntheticTable
from sandbox.privacy.scales import Z

INTERCEPT = "(intercept)"
MAX_CARD_ROWS = 200
MAX_POINTS_ROWS = 10_000
MAX_BYTES = 4 * 1024 * 1024
MAX_SYNTHETIC_BYTES = 64 * 1024 * 1024
_MAX_TEXT = 1_000

_CARD = (("fact", CellKind.TEXT), ("value", CellKind.TEXT))
_COEFFICIENTS = (
    ("feature", CellKind.TEXT),
    ("coefficient", CellKind.NUMBER),
    ("lower", CellKind.NUMBER),
    ("upper", CellKind.NUMBER),
    ("standard_error", CellKind.NUMBER),
)
_POINTS = (
    ("characteristic", CellKind.TEXT),
    ("bin", CellKind.TEXT),
    ("points", CellKind.INTEGER),
    ("lower", CellKind.NUMBER),
    ("upper", CellKind.NUMBER),
    ("evidence", CellKind.NUMBER),
    ("standard_error", CellKind.NUMBER),
    ("rows", CellKind.INTEGER),
    ("positives", CellKind.INTEGER),
)
_TREE = (("known", CellKind.TEXT), ("next", CellKind.TEXT))


def model_outputs(document: ModelDocument, cells: tuple[CellKind, ...]) -> tuple[OutputDeclaration, ...]:
    """Return what a model of this document lets out; `cells` is what each column of a synthetic table holds."""
    card = OutputDeclaration("card", OutputKind.TABLE, _CARD, MAX_CARD_ROWS, MAX_BYTES)
    if document.kind is ModelKind.SCORECARD:
        points = OutputDeclaration("points", OutputKind.FIGURE, _POINTS, MAX_POINTS_ROWS, MAX_BYTES)
        return card, OutputDeclaration("base", OutputKind.NUMBER, (), 1, MAX_BYTES), points
    if document.kind is ModelKind.SYNTHETIC:
        columns = tuple((found.name, kind) for found, kind in zip(document.inputs, cells, strict=True))
        drawn = OutputDeclaration("rows", OutputKind.TABLE, columns, document.max_rows, MAX_SYNTHETIC_BYTES)
        return card, drawn, OutputDeclaration("tree", OutputKind.TABLE, _TREE, len(columns), MAX_BYTES)
    most = len(document.inputs) + 1
    return card, OutputDeclaration("coefficients", OutputKind.FIGURE, _COEFFICIENTS, most, MAX_BYTES)


def regression_outputs(fitted: Regression) -> dict[str, Any]:
    """Return a regression as outputs: one row for the intercept, one for each feature, with 95 % intervals."""
    named = [
        (INTERCEPT, fitted.intercept, fitted.intercept_error),
        *zip(fitted.card.features, fitted.coefficients, fitted.standard_errors, strict=True),
    ]
    half = float(Z)
    rows = [[name, value, value - half * error, value + half * error, error] for name, value, error in named]
    return {"card": card_output(fitted.card), "coefficients": _table(_COEFFICIENTS, rows)}


def scorecard_outputs(fitted: Scorecard) -> dict[str, Any]:
    """Return a scorecard as outputs: the base, and points by bin with 95 % intervals."""
    half = float(Z) * FACTOR
    rows = [
        [
            name,
            found.text[:_MAX_TEXT],
            found.points,
            found.points - half * found.standard_error,
            found.points + half * found.standard_error,
            found.evidence,
            found.standard_error,
            found.rows,
            found.positives,
        ]
        for name, bins in fitted.characteristics
        for found in bins
    ]
    return {
        "card": card_output(fitted.card),
        "base": {"kind": "number", "value": fitted.base},
        "points": _table(_POINTS, rows),
    }


def synthetic_outputs(made: SyntheticTable) -> dict[str, Any]:
    """Return a synthetic table as outputs: its rows, and the pairs of columns that they keep."""
    return {
        "card": card_output(made.card),
        "rows": {"kind": "table", "columns": list(made.columns), "rows": [list(row) for row in made.rows]},
        "tree": _table(_TREE, [list(pair) for pair in made.tree]),
    }


def card_output(card: ModelCard) -> dict[str, Any]:
    """Return a card as a table of facts."""
    facts = [("kind", card.kind), ("table", card.table), ("filter", card.where), ("target", card.target)]
    facts += [("feature", name) for name in card.features]
    facts += [("rho", format_exact(card.loss.rho)), ("epsilon", card.epsilon), ("rows", str(card.rows))]
    facts += [] if card.positives is None else [("positives", str(card.positives))]
    facts += [] if card.rule is None else [("positives x epsilon / features", str(card.rule))]
    facts += [("quality", card.quality), *(("note", note) for note in card.notes)]
    rows = [[name, value[:_MAX_TEXT]] for name, value in facts if value]
    return _table(_CARD, rows[:MAX_CARD_ROWS])


def _table(columns: tuple[tuple[str, CellKind], ...], rows: list[list[Any]]) -> dict[str, Any]:
    return {"kind": "table", "columns": [name for name, _ in columns], "rows": rows}
