"""From the file that an operator writes to a `JobFile`; its form is in docs/reference/job.md.

A job file is what a person asks for.  What is signed and run is the `JobSpec` that is made of it with the digest of the
code, the snapshots of the day, and the loss in the terms of the account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.model.document import Node, read_document
from sandbox.model.job import CellKind, JobKind, OutputDeclaration, OutputKind
from sandbox.model.load_description import COLUMN_NAME, COLUMN_RULE, DATASET_NAME, DATASET_RULE, MAX_BOUND
from sandbox.model.load_model import load_model
from sandbox.model.loss import PrivacyLoss
from sandbox.model.model_document import ModelDocument

MAX_OUTPUT_ROWS = 1_000_000
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
DEFAULT_OUTPUT_ROWS = 10_000
DEFAULT_OUTPUT_BYTES = 1024 * 1024

_CODE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}\.(?:sql|py)")
_CODE_RULE = "a file beside this one that ends in .sql or .py, without `..` and without a leading `/`"
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TERM_RULE = "use letters, digits, `.`, `_` and `-`, at most 63 in all"
_OUTPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_OUTPUT_RULE = "use letters, digits and `_`, at most 63 in all"
_PARAMETER_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_PARAMETER_FLOAT = re.compile(r"-?[0-9][0-9]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_NONCE_MAX = 200


@dataclass(frozen=True, slots=True)
class EpsilonDelta:
    """A loss as people give it, not converted yet.

    Attributes:
        epsilon: exact text, above 0.
        delta: exact text, between 0 and 1.
    """

    epsilon: str
    delta: str


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job file asks for.

    Attributes:
        name: for people.
        kind: SQL or Python, by the ending of `code`; or a model, which needs no code.
        code: the file with the code, relative to the job file; empty for a model.
        agreement, product, purpose: under what and for what.
        loss: exact, or as epsilon and delta, to be converted by the one who makes the `JobSpec`.
        reads: `(dataset, columns)` sorted, for Python; empty where a question or a model says it.
        outputs: what may leave, for Python; empty for SQL and for a model, which say it themselves.
        rows, groups: the contribution bound asked for, or None for the dataset's own.
        parameters: JSON scalars handed to the program, sorted by name.
        nonce: text that asks the same question again.
        model: what a model job learns, else None.
    """

    name: str
    kind: JobKind
    code: str
    agreement: str
    product: str
    purpose: str
    loss: PrivacyLoss | EpsilonDelta
    reads: tuple[tuple[str, tuple[str, ...]], ...]
    outputs: tuple[OutputDeclaration, ...]
    rows: int | None
    groups: int | None
    parameters: tuple[tuple[str, str | int | bool | None], ...]
    nonce: str
    model: ModelDocument | None = None


def load_job(text: str, file_name: str) -> JobFile:
    """Return what a job file asks for.

    Args:
        text: the file's content.
        file_name: what messages call it.

    Raises:
        DescriptionError: with the line, what is wrong there and what to write.
    """
    top = read_document(text, file_name)
    top.only(
        "name", "code", "agreement", "product", "purpose", "loss", "reads", "outputs", "rows", "groups", "parameters",
        "nonce", "model",
    )  # fmt: skip
    kind, code, model = _what(top)
    rows, groups, nonce = top.optional("rows"), top.optional("groups"), top.optional("nonce")
    row_count = None if rows is None else rows.integer(1, MAX_BOUND)
    group_count = None if groups is None else groups.integer(1, MAX_BOUND)
    if groups is not None and row_count is not None and group_count is not None and group_count > row_count:
        groups.refuse("`groups` is above `rows`", hint="a unit touches at most as many groups as rows", kind="range")
    if nonce is not None and len(nonce.text()) > _NONCE_MAX:
        nonce.refuse("`nonce` is too long", hint=f"at most {_NONCE_MAX} characters", kind="range")
    return JobFile(
        name=top.field("name").text(),
        kind=kind,
        code=code,
        agreement=top.field("agreement").matching(DATASET_NAME, DATASET_RULE),
        product=top.field("product").matching(_TERM, _TERM_RULE),
        purpose=top.field("purpose").matching(_TERM, _TERM_RULE),
        loss=_loss(top.field("loss")),
        reads=_reads(top, kind),
        outputs=_outputs(top, kind),
        rows=row_count,
        groups=group_count,
        parameters=_parameters(top, kind),
        nonce="" if nonce is None else nonce.text(),
        model=model,
    )


def _what(top: Node) -> tuple[JobKind, str, ModelDocument | None]:
    """Return what a job does: its kind, and the file with its code or the model that it learns."""
    model = top.optional("model")
    if model is None:
        code = top.field("code").matching(_CODE, _CODE_RULE)
        return (JobKind.SQL if code.endswith(".sql") else JobKind.PYTHON), code, None
    if top.optional("code") is not None:
        model.refuse("`model` and `code` are both given", hint="a model needs no code; keep one of them", kind="job")
    return JobKind.MODEL, "", load_model(model)


def _loss(node: Node) -> PrivacyLoss | EpsilonDelta:
    node.only("rho", "epsilon", "delta")
    epsilon = node.optional("epsilon")
    if epsilon is None:
        loss = node.loss()
        if loss.rho == 0 or loss.delta >= 1:
            node.refuse("`loss` is out of range", hint="rho is above 0 and delta below 1", kind="range")
        return loss
    if node.optional("rho") is not None:
        epsilon.refuse("`loss` is given twice", hint="write rho and delta, or epsilon and delta", kind="loss")
    delta = node.field("delta")
    if epsilon.exact() <= 0:
        epsilon.refuse("`epsilon` is out of range", hint="it is above 0", kind="range")
    if not 0 < delta.exact() < 1:
        delta.refuse("`delta` is out of range", hint="it lies between 0 and 1, as in 1e-7", kind="range")
    return EpsilonDelta(epsilon.text(), delta.text())


def _python_only(top: Node, field: str, kind: JobKind) -> Node | None:
    node = top.optional(field)
    if node is not None and kind is not JobKind.PYTHON:
        said = "question" if kind is JobKind.SQL else "model"
        node.refuse(f"`{field}` is only for Python jobs", hint=f"remove it; the {said} says it", kind="job")
    return node


def _reads(top: Node, kind: JobKind) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if _python_only(top, "reads", kind) is None and kind is not JobKind.PYTHON:
        return ()
    reads: list[tuple[str, tuple[str, ...]]] = []
    for dataset, columns in top.field("reads").entries():
        if not DATASET_NAME.fullmatch(dataset):
            columns.refuse(f"`{dataset}` is not a dataset's name", hint=DATASET_RULE, kind="name")
        names = [item.matching(COLUMN_NAME, COLUMN_RULE) for item in columns.items()]
        if len(set(names)) != len(names):
            columns.refuse(f"a column of `{dataset}` is listed twice", hint="keep one of them", kind="duplicate")
        reads.append((dataset, tuple(sorted(names))))
    if not reads:
        top.field("reads").refuse("`reads` is empty", hint="name a dataset and its columns", kind="missing_value")
    return tuple(sorted(reads))


def _outputs(top: Node, kind: JobKind) -> tuple[OutputDeclaration, ...]:
    if _python_only(top, "outputs", kind) is None and kind is not JobKind.PYTHON:
        return ()
    outputs: list[OutputDeclaration] = []
    for place in top.field("outputs").items():
        place.only("name", "kind", "columns", "max_rows", "max_bytes")
        name = place.field("name").matching(_OUTPUT_NAME, _OUTPUT_RULE)
        if any(name == other.name for other in outputs):
            place.refuse(f"output `{name}` is declared twice", hint="keep one of them", kind="duplicate")
        output = OutputKind(place.field("kind").choice(*(kind.value for kind in OutputKind)))
        rows, size = place.optional("max_rows"), place.optional("max_bytes")
        if output is OutputKind.NUMBER:
            for extra in (rows, place.optional("columns")):
                if extra is not None:
                    extra.refuse(f"output `{name}` is one number", hint="remove this line", kind="job")
        outputs.append(
            OutputDeclaration(
                name=name,
                kind=output,
                columns=() if output is OutputKind.NUMBER else _cells(place.field("columns")),
                max_rows=1
                if output is OutputKind.NUMBER
                else (DEFAULT_OUTPUT_ROWS if rows is None else rows.integer(1, MAX_OUTPUT_ROWS)),
                max_bytes=DEFAULT_OUTPUT_BYTES if size is None else size.integer(1, MAX_OUTPUT_BYTES),
            )
        )
    if not outputs:
        top.field("outputs").refuse("`outputs` is empty", hint="declare what may leave", kind="missing_value")
    return tuple(outputs)


def _cells(node: Node) -> tuple[tuple[str, CellKind], ...]:
    cells = tuple((name, CellKind(place.choice(*(kind.value for kind in CellKind)))) for name, place in node.entries())
    if not cells:
        node.refuse(f"`{node.path}` is empty", hint="write `column: integer` lines", kind="missing_value")
    for name, place in node.entries():
        if not _OUTPUT_NAME.fullmatch(name):
            place.refuse(f"`{name}` is not allowed as a column's name", hint=_OUTPUT_RULE, kind="name")
    return cells


def _parameters(top: Node, kind: JobKind) -> tuple[tuple[str, str | int | bool | None], ...]:
    node = _python_only(top, "parameters", kind)
    if node is None:
        return ()
    found: list[tuple[str, str | int | bool | None]] = []
    for name, place in node.entries():
        if not _OUTPUT_NAME.fullmatch(name):
            place.refuse(f"`{name}` is not allowed as a parameter's name", hint=_OUTPUT_RULE, kind="name")
        found.append((name, _parameter(place)))
    return tuple(sorted(found, key=lambda pair: pair[0]))


def _parameter(node: Node) -> str | int | bool | None:
    """Return a scalar: quoted is text, plain digits an integer, true, false and null themselves, the rest text."""
    scalar = node.scalar()
    if not scalar.plain:
        return scalar.value
    if scalar.value in {"null", "~"}:
        return None
    if scalar.value in {"true", "false"}:
        return scalar.value == "true"
    if _PARAMETER_INTEGER.fullmatch(scalar.value):
        return int(scalar.value)
    if _PARAMETER_FLOAT.fullmatch(scalar.value):
        node.refuse(
            f"`{scalar.value}` is not an exact parameter",
            hint=f'quote it, as in "{scalar.value}", and convert it in the program',
            kind="parameter",
        )
    return node.text()
