"""From the field `model` of a job file to a `ModelDocument`; its form is in docs/reference/job.md."""

from __future__ import annotations

import itertools
from fractions import Fraction

from sandbox.model.document import Node, Scalar
from sandbox.model.load_description import COLUMN_NAME, COLUMN_RULE
from sandbox.model.model_document import ModelDocument, ModelInput, ModelKind

DEFAULT_SYNTHETIC_ROWS = 10_000
MAX_SYNTHETIC_ROWS = 1_000_000
MAX_SQL = 2_000
MAX_CUTS = 100
_MAX_NAME = 60
_CONDITIONS = (ModelKind.LOGISTIC, ModelKind.SCORECARD)
_FIELDS = {
    ModelKind.LINEAR: ("target", "features"),
    ModelKind.LOGISTIC: ("target", "features"),
    ModelKind.SCORECARD: ("target", "features"),
    ModelKind.SYNTHETIC: ("columns", "max_rows"),
}


def load_model(node: Node) -> ModelDocument:
    """Return the document that the field `model` writes.

    Raises:
        DescriptionError: with the line, what is wrong there and what to write.
    """
    kind = ModelKind(node.field("kind").choice(*(kind.value for kind in ModelKind)))
    node.only("kind", "table", "filter", *_FIELDS[kind])
    chosen, most = node.optional("filter"), node.optional("max_rows")
    places = node.field("columns" if kind is ModelKind.SYNTHETIC else "features").items()
    inputs = tuple(_input(kind, place) for place in places)
    for place, found in zip(places, inputs, strict=True):
        if sum(found.name == other.name for other in inputs) > 1:
            place.refuse(f"`{found.name}` is named twice", hint="give each a name of its own", kind="duplicate")
    return ModelDocument(
        kind=kind,
        table=node.field("table").matching(COLUMN_NAME, COLUMN_RULE),
        filter="" if chosen is None else _sql(chosen),
        target=None if kind is ModelKind.SYNTHETIC else _target(kind, node.field("target")),
        inputs=inputs,
        max_rows=DEFAULT_SYNTHETIC_ROWS if most is None else most.integer(1, MAX_SYNTHETIC_ROWS),
    )


def _target(kind: ModelKind, node: Node) -> ModelInput:
    """Return the target: a condition, or for a linear regression a column or a group of fields."""
    if kind is ModelKind.LINEAR:
        return _input(kind, node)
    condition = _sql(node)
    return ModelInput(condition[:_MAX_NAME], condition)


def _input(kind: ModelKind, node: Node) -> ModelInput:
    if isinstance(node.content, Scalar):
        name = node.matching(COLUMN_NAME, f"write a column, or a group `{{name: …, sql: …}}`; {COLUMN_RULE}")
        return ModelInput(name, name)
    if kind is ModelKind.SYNTHETIC:
        node.refuse("a synthetic table takes columns as they are", hint="write the column's name", kind="type")
    node.only(*(("name", "sql", "cuts") if kind is ModelKind.SCORECARD else ("name", "sql", "lower", "upper")))
    name = node.field("name").text()
    if len(name) > _MAX_NAME or not name.isprintable():
        node.field("name").refuse("`name` is too long", hint=f"at most {_MAX_NAME} printable characters", kind="range")
    lower, upper = _bounds(node)
    return ModelInput(name, _sql(node.field("sql")), lower, upper, _cuts(node.optional("cuts")))


def _bounds(node: Node) -> tuple[Fraction | None, Fraction | None]:
    lower, upper = node.optional("lower"), node.optional("upper")
    if lower is None and upper is None:
        return None, None
    ends = node.field("lower").exact(), node.field("upper").exact()
    if ends[0] >= ends[1]:
        node.field("lower").refuse("`lower` is not below `upper`", hint="give public bounds of the value", kind="range")
    return ends


def _cuts(node: Node | None) -> tuple[Fraction, ...]:
    if node is None:
        return ()
    cuts = tuple(place.exact() for place in node.items())
    if not 1 <= len(cuts) <= MAX_CUTS or any(one >= other for one, other in itertools.pairwise(cuts)):
        node.refuse("`cuts` do not rise", hint=f"write 1 to {MAX_CUTS} rising numbers, as in [1, 2, 4]", kind="range")
    return cuts


def _sql(node: Node) -> str:
    text = node.text()
    if len(text) > MAX_SQL:
        node.refuse(f"`{node.path}` is too long", hint=f"at most {MAX_SQL} characters", kind="range")
    return text
