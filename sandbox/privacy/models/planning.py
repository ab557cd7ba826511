"""Plan a model job: every question that it will ask, what it reads and what it lets out, from public facts only.

A model's questions do not depend on each other's answers, so they all stand before the first is asked: they are
checked, admitted and quoted like those of any job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sandbox.errors import BoundError, QueryError
from sandbox.model.description import DatasetDescription
from sandbox.model.job import CellKind, OutputDeclaration
from sandbox.model.loss import PrivacyLoss
from sandbox.model.model_document import ModelDocument, ModelInput, ModelKind
from sandbox.model.question import Question
from sandbox.privacy.algebra import NumberType
from sandbox.privacy.check import check_question
from sandbox.privacy.keys import key_cell_kind
from sandbox.privacy.models.asking import COUNT_SHARE, Feature, Source, count_question
from sandbox.privacy.models.outputs import model_outputs
from sandbox.privacy.models.regression import MAX_FEATURES, moment_questions, response_of
from sandbox.privacy.models.scorecard import MAX_CHARACTERISTICS, Characteristic, characteristic_questions
from sandbox.privacy.models.synthetic import check_columns, pair_questions
from sandbox.privacy.plan import Plan, plan_query

Tables = Mapping[str, DatasetDescription]

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_SETTING = re.compile(r"\bSETTINGS\s+\w+\s*=", re.IGNORECASE)
_LEAVES = ("--", "/*", "*/", ";")


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model job before its first question.

    Attributes:
        document: what was asked for.
        source: which rows.
        target, features: of a linear or logistic regression, with their bounds; empty otherwise.
        characteristics: of a scorecard.
        cells: of a synthetic table, what each column holds.
        questions: every question, in the order of asking, with its plan.
        reads: the dataset and the columns that the questions read, sorted.
        outputs: what leaves.
    """

    document: ModelDocument
    source: Source
    target: Feature | None
    features: tuple[Feature, ...]
    characteristics: tuple[Characteristic, ...]
    cells: tuple[CellKind, ...]
    questions: tuple[tuple[Question, Plan], ...]
    reads: tuple[str, tuple[str, ...]]
    outputs: tuple[OutputDeclaration, ...]


def plan_model(
    document: ModelDocument, loss: PrivacyLoss, tables: Tables, *, rows: int | None, groups: int | None
) -> ModelPlan:
    """Return the plan of a model.

    Args:
        document: what is asked for.
        loss: of the whole model; the questions cost at most that together.
        tables: the descriptions, by the table's name in SQL.
        rows: of one unit that may count, or None for the dataset's own bound.
        groups: that one unit may touch, likewise.

    Raises:
        QueryError: a part of the document is not in the language, or is of the wrong kind.
        BoundError: too many features, or a loss that cannot pay for a question.
    """
    source = Source(document.table, document.filter, rows, groups)
    _check_parts(document)
    _check_width(document)
    target, features = None, tuple[Feature, ...]()
    characteristics, cells = tuple[Characteristic, ...](), tuple[CellKind, ...]()
    match document.kind:
        case ModelKind.LINEAR:
            target = _feature(_target(document), source, tables)
            features = tuple(_feature(found, source, tables) for found in document.inputs)
        case ModelKind.LOGISTIC:
            target = response_of(_target(document).sql)
            features = tuple(_feature(found, source, tables) for found in document.inputs)
        case ModelKind.SCORECARD:
            characteristics = tuple(_characteristic(found, source, tables) for found in document.inputs)
        case ModelKind.SYNTHETIC:
            cells = tuple(_cell_kind(found, source, tables) for found in document.inputs)
    asked = _questions(document, source, target, features, characteristics, loss)
    checked = [check_question(question, tables) for question in asked]
    plans = [plan_query(query, question.loss) for query, question in zip(checked, asked, strict=True)]
    columns = frozenset().union(*(query.columns for query in checked))
    return ModelPlan(
        document=document,
        source=source,
        target=target,
        features=features,
        characteristics=characteristics,
        cells=cells,
        questions=tuple(zip(asked, plans, strict=True)),
        reads=(checked[0].dataset, tuple(sorted(columns))),
        outputs=model_outputs(document, cells),
    )


def _target(document: ModelDocument) -> ModelInput:
    if document.target is None:
        raise QueryError("the model has no target", hint="say what it predicts", code="input.query.model")
    return document.target


def _check_width(document: ModelDocument) -> None:
    if document.kind is ModelKind.SYNTHETIC:
        check_columns([found.sql for found in document.inputs])
        return
    most = MAX_CHARACTERISTICS if document.kind is ModelKind.SCORECARD else MAX_FEATURES
    if not 1 <= len(document.inputs) <= most:
        raise BoundError(
            f"a model takes 1 to {most} features",
            hint="each feature adds noise to all of them: choose the few that matter",
            code="privacy.bound.features",
        )


def _check_parts(document: ModelDocument) -> None:
    """Refuse a part that would not stay within its place in a question: the whole would mean something else."""
    parts = [document.filter, *(found.sql for found in document.inputs)]
    parts += [] if document.target is None else [document.target.sql]
    for part in parts:
        plain = _QUOTED.sub("''", part)
        if _SETTING.search(plain):
            raise QueryError(
                "the questions of a model take no SETTINGS: their noise is Gaussian",
                hint="leave SETTINGS out; a question of its own may choose Laplace noise",
                code="input.query.model",
            )
        depth = least = 0
        for character in plain:
            depth += (character == "(") - (character == ")")
            least = min(least, depth)
        if depth or least < 0 or "'" in plain.replace("''", "") or any(mark in plain for mark in _LEAVES):
            raise QueryError(
                f"`{part[:60]}` is not one expression",
                hint="close its brackets and quotes, and write no comment and no semicolon",
                code="input.query.model",
            )


def _questions(
    document: ModelDocument,
    source: Source,
    target: Feature | None,
    features: tuple[Feature, ...],
    characteristics: tuple[Characteristic, ...],
    loss: PrivacyLoss,
) -> list[Question]:
    rest = loss.scaled(1 - COUNT_SHARE)
    if document.kind is ModelKind.SYNTHETIC:
        return list(pair_questions(source, [found.sql for found in document.inputs], loss).values())
    if document.kind is ModelKind.SCORECARD:
        condition = _target(document).sql
        counted = count_question(source, condition, loss)
        return [counted, *characteristic_questions(source, condition, characteristics, loss)]
    assert target is not None
    counted = count_question(source, target.name if document.kind is ModelKind.LOGISTIC else "", loss)
    return [counted, *(question for question, _ in moment_questions(source, target, features, rest))]


def _probe(source: Source, select: str, *, group: str = "") -> Question:
    return source.question(select, PrivacyLoss(Fraction(1)), group=group)


def _number(found: ModelInput, source: Source, tables: Tables) -> NumberType:
    """Return the type of a number, which may not be NULL: sums of products would each leave out other rows."""
    query = check_question(_probe(source, f"SUM(({found.sql})) AS total"), tables)
    argument = query.aggregates[0].argument
    assert argument is not None
    if argument.nullable:
        raise QueryError(
            f"`{found.name}` may be NULL, so that each sum would leave out other rows",
            hint=f"write COALESCE({found.sql[:60]}, 0), or a filter `… IS NOT NULL`",
            code="input.query.model",
        )
    assert isinstance(argument.type, NumberType)
    return argument.type


def _feature(found: ModelInput, source: Source, tables: Tables) -> Feature:
    of = _number(found, source, tables)
    lower = of.lower * of.resolution if found.lower is None else found.lower
    upper = of.upper * of.resolution if found.upper is None else found.upper
    return Feature(found.name, found.sql, lower, upper)


def _characteristic(found: ModelInput, source: Source, tables: Tables) -> Characteristic:
    if found.cuts:
        _number(found, source, tables)
    return Characteristic(found.name, found.sql, found.cuts)


def _cell_kind(found: ModelInput, source: Source, tables: Tables) -> CellKind:
    query = check_question(_probe(source, "COUNT(*) AS noisy_rows", group=found.sql), tables)
    return key_cell_kind(query.keys[0].expr.type)
