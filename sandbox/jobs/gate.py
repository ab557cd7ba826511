"""The gate: only what the job declared leaves, with a signed permit, or nothing does.

Every check raises.  There is no boolean to overlook: the only way past is a `Permit`, and `release` verifies it again.
"""

from __future__ import annotations

import math
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import GateError
from sandbox.jobs.stages import Gated, Measured, declared_outputs
from sandbox.model.canonical import canonical_release_bytes
from sandbox.model.digest import Digest, digest_of
from sandbox.model.job import CellKind, JobKind, JobSpec, OutputDeclaration, OutputKind
from sandbox.model.keys import PublicKey
from sandbox.model.release import PERMIT_CONTEXT, Permit
from sandbox.model.transcript import Transcript

CHECKS = ("declared-names", "declared-types", "declared-sizes", "finite", "provenance")
SQL_OUTPUT = "answer"
_CELL_TYPES: dict[CellKind, tuple[type, ...]] = {
    CellKind.INTEGER: (int,),
    CellKind.NUMBER: (int, float),
    CellKind.TEXT: (str,),
}
_MAX_TEXT = 1_000


def gate(measured: Measured, key: PrivateKey) -> Gated:
    """Return the outputs with a permit.

    Raises:
        GateError: a name, type, size or number is not what was declared; nothing leaves.
    """
    transcript = measured.transcript
    outputs = gate_outputs(measured.reserved.admitted.submitted.spec, transcript)
    output, source = digest_of(canonical_release_bytes(outputs)), transcript.digest()
    message = Permit.signed_bytes(transcript.job, output, source, CHECKS)
    permit = Permit(transcript.job, output, source, CHECKS, sign(key, PERMIT_CONTEXT, message))
    return Gated(measured, outputs, permit)


def gate_outputs(spec: JobSpec, transcript: Transcript) -> dict[str, Any]:
    """Return what may leave of a transcript's outputs; pure, so that an auditor can do it again.

    Raises:
        GateError: a name, type, size or number is not what was declared.
    """
    if spec.kind is JobKind.SQL:
        return _check_sql_outputs(transcript.outputs, [exchange.answer for exchange in transcript.exchanges])
    return _check_program_outputs(transcript.outputs, declared_outputs(spec))


def check_permit(permit: Permit, *, job: Digest, outputs: dict[str, Any], transcript: Digest, key: PublicKey) -> None:
    """Raise unless `permit` lets exactly these outputs of this job leave."""
    if permit.job != job or permit.output != digest_of(canonical_release_bytes(outputs)):
        raise GateError(
            "the permit is for other outputs", hint="nothing left; report this, it is a fault", code="job.gate.permit"
        )
    if permit.transcript != transcript or permit.checks != CHECKS:
        raise GateError(
            "the permit rests on another transcript or on other checks",
            hint="nothing left; report this, it is a fault",
            code="job.gate.permit",
        )
    message = Permit.signed_bytes(permit.job, permit.output, permit.transcript, permit.checks)
    verify_signature(key, PERMIT_CONTEXT, message, permit.signature)


def _check_sql_outputs(outputs: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    if set(outputs) != {SQL_OUTPUT} or len(answers) != 1 or outputs[SQL_OUTPUT] != {"kind": "answer", **answers[0]}:
        raise GateError(
            "the output of an SQL job is not its one answer", hint="report this, it is a fault", code="job.gate.sql"
        )
    return outputs


def _check_program_outputs(outputs: dict[str, Any], declared: dict[str, OutputDeclaration]) -> dict[str, Any]:
    undeclared, missing = sorted(set(outputs) - set(declared)), sorted(set(declared) - set(outputs))
    if undeclared or missing:
        words = [f"`{name}` was not declared" for name in undeclared] + [f"`{name}` is missing" for name in missing]
        raise GateError(
            f"the program's outputs are not the declared ones: {', '.join(words)}",
            hint="make `outputs` in the job file and the returned dict agree",
            code="job.gate.names",
        )
    return {name: _check_output(outputs[name], declared[name]) for name in sorted(declared)}


def _check_output(output: Any, declared: OutputDeclaration) -> dict[str, Any]:
    if declared.kind is OutputKind.NUMBER:
        checked: dict[str, Any] = {"kind": "number", "value": _check_number(output, declared.name)}
    else:
        checked = _check_table(output, declared)
    size = len(canonical_release_bytes(checked))
    if size > declared.max_bytes:
        raise GateError(
            f"output `{declared.name}` is larger than its declared {declared.max_bytes} bytes",
            hint="declare a larger `max_bytes` or return less",
            code="job.gate.size",
        )
    return checked


def _check_number(output: Any, name: str) -> int | float:
    value = output.get("value") if isinstance(output, dict) and output.get("kind") == "number" else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _type_error(name, "one finite number")
    return value


def _check_table(output: Any, declared: OutputDeclaration) -> dict[str, Any]:
    if not isinstance(output, dict) or output.get("kind") != "table":
        raise _type_error(declared.name, "a table")
    names, rows = output.get("columns"), output.get("rows")
    expected = [name for name, _ in declared.columns]
    if names != expected:
        raise GateError(
            f"output `{declared.name}` has columns `{names}`, declared are `{expected}`",
            hint="return the declared columns in the declared order",
            code="job.gate.columns",
        )
    if not isinstance(rows, list) or len(rows) > declared.max_rows:
        raise GateError(
            f"output `{declared.name}` has more than its declared {declared.max_rows} rows",
            hint="declare a larger `max_rows` or return less",
            code="job.gate.size",
        )
    kinds = [kind for _, kind in declared.columns]
    checked = [_check_row(row, kinds, declared.name, index) for index, row in enumerate(rows)]
    return {"kind": declared.kind.value, "columns": [[n, k.value] for n, k in declared.columns], "rows": checked}


def _check_row(row: Any, kinds: list[CellKind], name: str, index: int) -> list[Any]:
    if not isinstance(row, list) or len(row) != len(kinds):
        raise _type_error(name, f"{len(kinds)} cells in row {index + 1}")
    for cell, kind in zip(row, kinds, strict=True):
        if cell is None:
            continue
        if isinstance(cell, bool) or not isinstance(cell, _CELL_TYPES[kind]):
            raise _type_error(name, f"{kind.value} cells as declared (row {index + 1})")
        if isinstance(cell, float) and not math.isfinite(cell):
            raise _type_error(name, f"finite numbers (row {index + 1})")
        if isinstance(cell, str) and len(cell) > _MAX_TEXT:
            raise _type_error(name, f"texts of at most {_MAX_TEXT} characters (row {index + 1})")
    return row


def _type_error(name: str, expected: str) -> GateError:
    return GateError(
        f"output `{name}` should be {expected}",
        hint="make the program return what the job file declares",
        code="job.gate.type",
    )
