"""The gate: only what was declared leaves, with a permit that nobody can forge."""

import math
from dataclasses import replace

import pytest

from sandbox.crypto.keys import generate_key
from sandbox.crypto.signing import sign
from sandbox.errors import GateError, SignatureError
from sandbox.jobs.gate import CHECKS, check_permit, gate_outputs
from sandbox.model.canonical import canonical_release_bytes
from sandbox.model.digest import digest_of
from sandbox.model.job import CellKind, JobKind, JobSpec, OutputDeclaration, OutputKind
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import NO_LOSS
from sandbox.model.question import Question
from sandbox.model.release import PERMIT_CONTEXT, Permit
from sandbox.model.transcript import Exchange, Transcript

JOB, CODE = digest_of(b"a job"), digest_of(b"code")
COLUMNS = (("name", CellKind.TEXT), ("n", CellKind.INTEGER), ("rate", CellKind.NUMBER))
TABLE = OutputDeclaration("table", OutputKind.TABLE, COLUMNS, max_rows=3, max_bytes=500)
NUMBER = OutputDeclaration("number", OutputKind.NUMBER, (), max_rows=1, max_bytes=200)
GOOD = {
    "table": {"kind": "table", "columns": ["name", "n", "rate"], "rows": [["a", 1, 0.5], [None, None, 2]]},
    "number": {"kind": "number", "value": 1.5},
}


def spec(*outputs, kind=JobKind.PYTHON):
    return JobSpec("job", kind, CODE, "agreement", "P08", "purpose", (), (), NO_LOSS, None, None, outputs)


def transcript(outputs, exchanges=()):
    return Transcript(JOB, CODE, "00" * 32, tuple(exchanges), (), outputs, {}, {})


def gated(changes, *declared):
    return gate_outputs(spec(*(declared or (TABLE, NUMBER))), transcript({**GOOD, **changes}))


def table(**changes):
    return {"table": {**GOOD["table"], **changes}}


def test_what_was_declared_leaves_as_it_is_with_its_kinds_beside_it():
    assert gated({}) == {
        "number": {"kind": "number", "value": 1.5},
        "table": {
            "kind": "table",
            "columns": [["name", "text"], ["n", "integer"], ["rate", "number"]],
            "rows": GOOD["table"]["rows"],
        },
    }


def test_a_figure_is_a_table_with_another_name():
    assert gated({}, replace(TABLE, kind=OutputKind.FIGURE), NUMBER)["table"]["kind"] == "figure"


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({**GOOD, "extra": GOOD["number"]}, "`extra` was not declared"),
        ({"table": GOOD["table"]}, "`number` is missing"),
        ({}, "`number` is missing, `table` is missing"),
    ],
)
def test_other_names_than_the_declared_ones_do_not_leave(outputs, says):
    with pytest.raises(GateError, match=says) as refused:
        gate_outputs(spec(TABLE, NUMBER), transcript(outputs))
    assert refused.value.code == "job.gate.names"


@pytest.mark.parametrize(
    "value", [None, True, "1", math.nan, math.inf, -math.inf, [1], {"x": 1}], ids=repr
)  # fmt: skip
def test_a_number_is_one_finite_number(value):
    with pytest.raises(GateError, match="output `number` should be one finite number") as refused:
        gated({"number": {"kind": "number", "value": value}})
    assert refused.value.code == "job.gate.type"


@pytest.mark.parametrize(
    "output", [None, 1.5, [], {"value": 1.5}, GOOD["table"]], ids=["none", "bare", "list", "no kind", "table"]
)
def test_a_number_has_the_form_of_one(output):
    with pytest.raises(GateError, match="should be one finite number"):
        gated({"number": output})


@pytest.mark.parametrize(
    "output", [None, [], {"kind": "number", "value": 1}, {"kind": "answer"}], ids=["none", "list", "number", "answer"]
)
def test_a_table_has_the_form_of_one(output):
    with pytest.raises(GateError, match="output `table` should be a table") as refused:
        gated({"table": output})
    assert refused.value.code == "job.gate.type"


@pytest.mark.parametrize(
    "columns",
    [["name", "n"], ["n", "name", "rate"], ["name", "n", "rate", "x"], ["Name", "n", "rate"], None],
    ids=["too few", "another order", "too many", "another name", "none"],
)
def test_a_table_has_the_declared_columns_in_their_order(columns):
    with pytest.raises(GateError, match="declared are") as refused:
        gated(table(columns=columns))
    assert refused.value.code == "job.gate.columns"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([1, 1, 0.5], "text cells as declared"),
        (["a", 1.0, 0.5], "integer cells as declared"),
        (["a", "1", 0.5], "integer cells as declared"),
        (["a", True, 0.5], "integer cells as declared"),
        (["a", 1, "0.5"], "number cells as declared"),
        (["a", 1, False], "number cells as declared"),
        (["a", 1, math.nan], "finite numbers"),
        (["a", 1, math.inf], "finite numbers"),
        (["a" * 1001, 1, 0.5], "texts of at most 1000 characters"),
        (["a", 1], "3 cells"),
        (["a", 1, 0.5, 2], "3 cells"),
        ("abc", "3 cells"),
        ([["a"], 1, 0.5], "text cells as declared"),
    ],
)
def test_a_cell_is_of_its_declared_kind_and_the_row_is_named(row, says):
    with pytest.raises(GateError, match=says) as refused:
        gated(table(rows=[["a", 1, 0.5], row]))
    assert refused.value.code == "job.gate.type"
    assert "row 2" in refused.value.message


def test_a_table_has_no_more_rows_than_declared():
    rows = [["a", 1, 0.5]] * 3
    assert gated(table(rows=rows))
    with pytest.raises(GateError, match="more than its declared 3 rows") as refused:
        gated(table(rows=[*rows, rows[0]]))
    assert refused.value.code == "job.gate.size"


def test_an_output_has_no_more_bytes_than_declared():
    largest = len(canonical_release_bytes(gated({})["table"]))
    assert gated({}, replace(TABLE, max_bytes=largest), NUMBER)
    with pytest.raises(GateError, match=f"larger than its declared {largest - 1} bytes") as refused:
        gated({}, replace(TABLE, max_bytes=largest - 1), NUMBER)
    assert refused.value.code == "job.gate.size"


ANSWER = {"columns": [], "rows": [[1]]}
EXCHANGE = Exchange(Question("SELECT 1", NO_LOSS, None, None), digest_of(b"plan"), ANSWER)


def test_an_sql_job_releases_its_one_answer_and_nothing_else():
    right = {"answer": {"kind": "answer", **ANSWER}}
    assert gate_outputs(spec(kind=JobKind.SQL), transcript(right, [EXCHANGE])) == right
    for outputs, exchanges in (
        ({"answer": {"kind": "answer", "columns": [], "rows": [[2]]}}, [EXCHANGE]),
        ({**right, "more": GOOD["number"]}, [EXCHANGE]),
        ({}, [EXCHANGE]),
        (right, []),
        (right, [EXCHANGE, EXCHANGE]),
    ):
        with pytest.raises(GateError) as refused:
            gate_outputs(spec(kind=JobKind.SQL), transcript(outputs, exchanges))
        assert refused.value.code == "job.gate.sql"


@pytest.fixture(scope="module", params=list(SuiteName))
def key(request):
    return generate_key("sandbox", Role.SANDBOX, request.param)


def permit_by(key, outputs, *, job=JOB, transcript=CODE, checks=CHECKS):
    output = digest_of(canonical_release_bytes(outputs))
    return Permit(
        job, output, transcript, checks, sign(key, PERMIT_CONTEXT, Permit.signed_bytes(job, output, transcript, checks))
    )


def check(permit, key, **changes):
    given = {"job": JOB, "outputs": GOOD, "transcript": CODE, "key": key.public, **changes}
    check_permit(permit, **given)


def test_a_signed_permit_lets_exactly_its_outputs_leave(key):
    check(permit_by(key, GOOD), key)
    changed = {**GOOD, "number": {"kind": "number", "value": 1.5000001}}
    for changes in ({"outputs": changed}, {"job": digest_of(b"another job")}, {"transcript": digest_of(b"another")}):
        with pytest.raises(GateError) as refused:
            check(permit_by(key, GOOD), key, **changes)
        assert refused.value.code == "job.gate.permit"


def test_a_permit_that_left_out_a_check_is_refused_even_if_it_is_signed(key):
    for checks in ((), CHECKS[:-1], (*CHECKS, "more"), tuple(reversed(CHECKS))):
        with pytest.raises(GateError) as refused:
            check(permit_by(key, GOOD, checks=checks), key)
        assert refused.value.code == "job.gate.permit"


def test_a_forged_permit_is_refused(key):
    permit = permit_by(key, GOOD)
    value = permit.signature.value
    bent = replace(permit, signature=replace(permit.signature, value=value[:-1] + bytes([value[-1] ^ 1])))
    with pytest.raises(SignatureError):
        check(bent, key)
    other = generate_key("sandbox", Role.SANDBOX, key.public.suite)
    with pytest.raises(SignatureError):
        check(permit_by(other, GOOD), key)
    lent = permit_by(other, GOOD)
    with pytest.raises(SignatureError):
        check(replace(lent, signature=replace(lent.signature, key_id=key.public.key_id)), key)


def test_a_signature_of_another_context_is_no_permit(key):
    permit = permit_by(key, GOOD)
    message = Permit.signed_bytes(permit.job, permit.output, permit.transcript, permit.checks)
    with pytest.raises(SignatureError):
        check(replace(permit, signature=sign(key, "saggar/job/1", message)), key)
