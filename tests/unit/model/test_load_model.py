"""The field `model` of a job file: what it says, and where it is wrong."""

from fractions import Fraction

import pytest

from sandbox.errors import CanonicalError, DescriptionError
from sandbox.model.job import JobKind
from sandbox.model.load_job import load_job
from sandbox.model.model_document import ModelDocument, ModelInput, ModelKind

HEAD = """
name: a model
agreement: clinic-2026
product: P08
purpose: public-governance
loss: {rho: 0.02}
"""
LOGISTIC = f"""{HEAD}
model:
  kind: logistic
  table: visits
  target: days >= 7
  filter: age > 18
  features:
    - age
    - {{name: dear, sql: "LEAST(cost, 10)", lower: 0, upper: 10}}
"""
CARD = f"""{HEAD}
model:
  kind: scorecard
  table: visits
  target: days >= 7
  features:
    - {{name: age, sql: age, cuts: [18, 65.5]}}
    - district
"""
DRAWN = f"""{HEAD}
model: {{kind: synthetic, table: visits, columns: [age, district], max_rows: 50}}
"""


def test_a_logistic_regression_has_a_condition_and_features():
    job = load_job(LOGISTIC, "job.yaml")
    assert (job.kind, job.code, job.reads, job.outputs) == (JobKind.MODEL, "", (), ())
    assert job.model == ModelDocument(
        ModelKind.LOGISTIC,
        "visits",
        "age > 18",
        ModelInput("days >= 7", "days >= 7"),
        (ModelInput("age", "age"), ModelInput("dear", "LEAST(cost, 10)", Fraction(0), Fraction(10))),
        10_000,
    )


def test_a_model_has_no_field_for_the_noise():
    with pytest.raises(DescriptionError, match="unknown field `noise`") as refused:
        load_job(LOGISTIC.replace("  filter: age > 18", "  noise: laplace"), "job.yaml")
    assert refused.value.code == "input.description.unknown_field"
    assert refused.value.hint == "known fields here: kind, table, filter, target, features"


def test_a_scorecard_has_cuts_and_a_synthetic_table_columns():
    card, drawn = load_job(CARD, "job.yaml").model, load_job(DRAWN, "job.yaml").model
    assert [found.cuts for found in card.inputs] == [(Fraction(18), Fraction(131, 2)), ()]
    assert (drawn.target, drawn.max_rows, [found.sql for found in drawn.inputs]) == (None, 50, ["age", "district"])


@pytest.mark.parametrize("text", [LOGISTIC, CARD, DRAWN])
def test_its_text_is_read_back_and_no_other_spelling_is(text):
    document = load_job(text, "job.yaml").model
    assert ModelDocument.parse(document.to_text()) == document
    for other in (document.to_text() + " ", document.to_text().replace('"v":1', '"v":2'), "[]", "{}", "x"):
        with pytest.raises(CanonicalError):
            ModelDocument.parse(other)


@pytest.mark.parametrize(
    ("text", "change", "kind", "message"),
    [
        (LOGISTIC, ("kind: logistic", "kind: forest"), "choice", "`forest` is not a known"),
        (LOGISTIC, ("  target: days >= 7\n", ""), "missing_field", "field `target` is missing"),
        (LOGISTIC, ("    - age\n", "    - age + 1\n"), "name", "`age + 1` is not allowed"),
        (LOGISTIC, ("name: dear", "name: age"), "duplicate", "`age` is named twice"),
        (LOGISTIC, ("name: dear", f"name: {'n' * 61}"), "range", "`name` is too long"),
        (LOGISTIC, ("lower: 0", "lower: 11"), "range", "`lower` is not below `upper`"),
        (LOGISTIC, (", upper: 10", ""), "missing_field", "field `upper` is missing"),
        (LOGISTIC, ("lower: 0", "cuts: [1]"), "unknown_field", "unknown field `cuts`"),
        (LOGISTIC, ("filter: age > 18", f"filter: {'x' * 2001}"), "range", "is too long"),
        (LOGISTIC, ("  table:", "  columns: [age]\n  table:"), "unknown_field", "unknown field `columns`"),
        (CARD, ("[18, 65.5]", "[18, 18]"), "range", "`cuts` do not rise"),
        (CARD, ("[18, 65.5]", "[]"), "range", "`cuts` do not rise"),
        (CARD, ("cuts: [18, 65.5]", "lower: 1, upper: 2"), "unknown_field", "unknown field `lower`"),
        (DRAWN, ("[age, district]", "[age, {name: d, sql: d}]"), "type", "takes columns as they are"),
        (DRAWN, ("max_rows: 50", "max_rows: 0"), "range", "out of range"),
        (DRAWN, ("model:", "code: a.sql\nmodel:"), "job", "`model` and `code` are both given"),
        (DRAWN, ("model:", "reads: {clinic: [age]}\nmodel:"), "job", "`reads` is only for Python jobs"),
        (DRAWN, ("model:", "parameters: {a: 1}\nmodel:"), "job", "`parameters` is only for Python jobs"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, change, kind, message):
    with pytest.raises(DescriptionError) as refused:
        load_job(text.replace(*change), "job.yaml")
    assert refused.value.code == f"input.description.{kind}"
    assert message in refused.value.message
    assert refused.value.details["line"] > 1
    assert refused.value.hint
