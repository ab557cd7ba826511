from fractions import Fraction

import pytest

from sandbox.errors import DescriptionError
from sandbox.model.job import CellKind, JobKind, OutputKind
from sandbox.model.load_job import DEFAULT_OUTPUT_BYTES, DEFAULT_OUTPUT_ROWS, EpsilonDelta, load_job
from sandbox.model.loss import PrivacyLoss

SQL = """\
name: how long
code: sql/stay.sql
agreement: clinic-2026
product: P08
purpose: public-governance
loss: {epsilon: 1, delta: 1e-7}
rows: 3
groups: 2
nonce: again
"""
PYTHON = """\
name: who returns
code: analyze.py
agreement: clinic-2026
product: P08
purpose: public-governance
loss: {rho: 0.02}
reads:
  clinic: [fee, days]
  aid: []
outputs:
  - name: by_age
    kind: table
    columns: {age: text, encounters: integer, rate: number}
    max_rows: 10
    max_bytes: 4096
  - name: lines
    kind: figure
    columns: {x: number}
  - name: total
    kind: number
parameters:
  within: "<30"
  days: 30
  code: "30"
  strict: true
  band: null
  word: NO
"""


def load(text):
    return load_job(text, "job.yaml")


def test_an_sql_job_reads_as_it_was_written():
    job = load(SQL)
    assert (job.kind, job.code, job.agreement, job.nonce) == (JobKind.SQL, "sql/stay.sql", "clinic-2026", "again")
    assert job.loss == EpsilonDelta("1", "1e-7")
    assert (job.rows, job.groups, job.reads, job.outputs, job.parameters) == (3, 2, (), (), ())


def test_a_python_job_reads_as_it_was_written():
    job = load(PYTHON)
    assert job.kind is JobKind.PYTHON
    assert job.loss == PrivacyLoss(Fraction(1, 50))
    assert job.reads == (("aid", ()), ("clinic", ("days", "fee")))
    table, figure, number = job.outputs
    assert table.columns == (("age", CellKind.TEXT), ("encounters", CellKind.INTEGER), ("rate", CellKind.NUMBER))
    assert (table.max_rows, table.max_bytes) == (10, 4096)
    assert (figure.kind, figure.max_rows, figure.max_bytes) == (
        OutputKind.FIGURE,
        DEFAULT_OUTPUT_ROWS,
        DEFAULT_OUTPUT_BYTES,
    )
    assert (number.columns, number.max_rows) == ((), 1)
    assert (job.rows, job.groups, job.nonce) == (None, None, "")


def test_parameters_are_scalars_sorted_by_name():
    assert load(PYTHON).parameters == (
        ("band", None),
        ("code", "30"),
        ("days", 30),
        ("strict", True),
        ("within", "<30"),
        ("word", "NO"),
    )


@pytest.mark.parametrize(
    ("base", "old", "new", "line", "kind", "message"),
    [
        (SQL, "code: sql/stay.sql", "code: stay.txt", 2, "name", "`stay.txt` is not allowed as `code`"),
        (SQL, "code: sql/stay.sql", "code: ../stay.sql", 2, "name", "`../stay.sql` is not allowed as `code`"),
        (SQL, "code: sql/stay.sql", "code: /etc/stay.sql", 2, "name", "is not allowed as `code`"),
        (SQL, "loss: {epsilon: 1, delta: 1e-7}", "loss: {epsilon: 1, rho: 1, delta: 0}", 6, "loss", "given twice"),
        (SQL, "epsilon: 1,", "epsilon: 0,", 6, "range", "`epsilon` is out of range"),
        (SQL, "delta: 1e-7", "delta: 0", 6, "range", "`delta` is out of range"),
        (SQL, ", delta: 1e-7", "", 6, "missing_field", "field `delta` is missing in `loss`"),
        (SQL, "loss: {epsilon: 1, delta: 1e-7}", "loss: {rho: 0}", 6, "range", "`loss` is out of range"),
        (SQL, "loss: {epsilon: 1, delta: 1e-7}", "loss: {delta: 0}", 6, "missing_field", "field `rho` is missing"),
        (SQL, "groups: 2", "groups: 4", 8, "range", "`groups` is above `rows`"),
        (SQL, "rows: 3", "rows: 0", 7, "range", "`rows` is out of range"),
        (SQL, "rows: 3", "reads: {clinic: [a]}", 7, "job", "`reads` is only for Python jobs"),
        (SQL, "rows: 3", "outputs: []", 7, "job", "`outputs` is only for Python jobs"),
        (SQL, "rows: 3", "parameters: {a: 1}", 7, "job", "`parameters` is only for Python jobs"),
        (SQL, "nonce: again", "nonce: " + "x" * 201, 9, "range", "`nonce` is too long"),
        (SQL, "purpose:", "pupose:", 5, "unknown_field", "unknown field `pupose`"),
        (PYTHON, "  clinic: [fee, days]", "  Clinic: [fee]", 8, "name", "`Clinic` is not a dataset's name"),
        (PYTHON, "[fee, days]", "[fee, fee]", 8, "duplicate", "a column of `clinic` is listed twice"),
        (PYTHON, "kind: table", "kind: pickle", 12, "choice", "`pickle` is not a known `outputs[0].kind`"),
        (PYTHON, "rate: number", "rate: float", 13, "choice", "`float` is not a known"),
        (PYTHON, "{x: number}", "{}", 18, "missing_value", "`outputs[1].columns` is empty"),
        (PYTHON, "{x: number}", "{a b: number}", 18, "name", "`a b` is not allowed as a column's name"),
        (PYTHON, "name: lines", "name: by_age", 16, "duplicate", "output `by_age` is declared twice"),
        (PYTHON, "kind: number\n", "kind: number\n    max_rows: 2\n", 21, "job", "output `total` is one number"),
        (PYTHON, "max_rows: 10", "max_rows: 10_000_000", 14, "range", "is out of range"),
        (PYTHON, "days: 30", "days: 0.5", 23, "parameter", "`0.5` is not an exact parameter"),
        (PYTHON, "days: 30", "days: [30]", 23, "type", "should be one value"),
        (PYTHON, "days: 30", "9days: 30", 23, "name", "`9days` is not allowed as a parameter's name"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(base, old, new, line, kind, message):
    assert old in base
    with pytest.raises(DescriptionError) as caught:
        load(base.replace(old, new, 1))
    assert caught.value.code == f"input.description.{kind}"
    assert caught.value.message.startswith(f"job.yaml line {line}: ")
    assert message in caught.value.message


def test_a_python_job_says_what_it_reads_and_what_leaves():
    without_reads = PYTHON.replace("reads:\n  clinic: [fee, days]\n  aid: []\n", "")
    with pytest.raises(DescriptionError, match="field `reads` is missing"):
        load(without_reads)
    with pytest.raises(DescriptionError, match="`reads` is empty"):
        load(without_reads + "reads: {}\n")
    head, _, _ = PYTHON.partition("outputs:\n")
    with pytest.raises(DescriptionError, match="field `outputs` is missing"):
        load(head)
    with pytest.raises(DescriptionError, match="`outputs` is empty"):
        load(head + "outputs: []\n")
