"""Whether a job may run: a pure function of the request and the policy set, and never of who happens to call.

Denied is the answer to everything that is not plainly allowed: an error of the engine, a request that does not fit the
schema, a decision that did not come, a job that reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cedarpy

from policies.policy_set import ENGINE_ERROR, CompiledPolicies, PolicySet, compile_policies, current_policies
from sandbox.errors import CanonicalError, DeniedError, ExpiredError
from sandbox.model.agreement import Agreement
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, digest_of_record, parse_digest
from sandbox.model.load_agreement import DELTA_STEP, RHO_STEP, latest_end
from sandbox.model.loss import PrivacyLoss

WINDOW = "agreement-window"
NO_DATASET = "dataset-agreed"
UNKNOWN_CLASS = "unknown"

_MOST = 2**63 - 1
_FIELDS = {
    "v", "operator", "agreement", "product", "purpose", "reads", "description_columns", "loss", "raw_rows", "at",
    "isolation",
}  # fmt: skip

Reads = tuple[tuple[str, tuple[str, ...]], ...]
DescribedColumns = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Everything that a decision depends on.

    Attributes:
        operator: the key id that signed the job.
        agreement: the registered agreement that the job names.
        product, purpose: as the job names them.
        reads: `(dataset, columns)`, from the checked plan.
        description_columns: for each dataset its `(column, classification)`, from the registered descriptions.
        loss: what the job asks for in all.
        raw_rows: whether the plan would let rows leave as they are.
        at: the time of the log entry, `YYYY-MM-DDTHH:MM:SSZ`.
        isolation: what stands around the program: `floor`, `standard`, `full`; `no-program` where an SQL job runs none.
    """

    operator: str
    agreement: Agreement
    product: str
    purpose: str
    reads: Reads
    description_columns: DescribedColumns
    loss: PrivacyLoss
    raw_rows: bool
    at: str
    isolation: str

    def to_record(self) -> dict[str, Any]:
        """Return the request as a canonical record."""
        return {
            "v": 1,
            "operator": self.operator,
            "agreement": self.agreement.to_record(),
            "product": self.product,
            "purpose": self.purpose,
            "reads": [[dataset, list(columns)] for dataset, columns in self.reads],
            "description_columns": [
                [dataset, [list(pair) for pair in columns]] for dataset, columns in self.description_columns
            ],
            "loss": self.loss.to_record(),
            "raw_rows": self.raw_rows,
            "at": self.at,
            "isolation": self.isolation,
        }

    def digest(self) -> Digest:
        """Return the digest of the canonical record."""
        return digest_of_record(self.to_record())

    @classmethod
    def parse(cls, record: object) -> DecisionRequest:
        """Return the request that a record writes; strict about its fields.

        Raises:
            CanonicalError: it is not such a record.
        """
        hint = "see docs/reference/agreement.md"
        if not isinstance(record, dict) or set(record) != _FIELDS or not isinstance(record["raw_rows"], bool):
            raise CanonicalError("a decision request is malformed", hint=hint)
        try:
            request = cls(
                operator=record["operator"],
                agreement=Agreement.parse(record["agreement"]),
                product=record["product"],
                purpose=record["purpose"],
                reads=tuple((dataset, tuple(columns)) for dataset, columns in record["reads"]),
                description_columns=tuple(
                    (dataset, tuple((column, level) for column, level in columns))
                    for dataset, columns in record["description_columns"]
                ),
                loss=PrivacyLoss.parse(record["loss"]),
                raw_rows=record["raw_rows"],
                at=record["at"],
                isolation=record["isolation"],
            )
        except (TypeError, ValueError) as error:
            raise CanonicalError("a decision request is malformed", hint=hint) from error
        if request.to_record() != record:
            raise CanonicalError("a decision request is not in its canonical form", hint=hint)
        return request


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and what decided it.

    Attributes:
        allowed: whether the job may run.
        clauses: the clauses that denied, or the one that permitted.
        policy: the digest of the policy set.
        request: the digest of the request.
    """

    allowed: bool
    clauses: tuple[str, ...]
    policy: Digest
    request: Digest

    def to_record(self) -> dict[str, Any]:
        """Return the decision as a canonical record."""
        return {
            "allowed": self.allowed,
            "clauses": list(self.clauses),
            "policy": self.policy,
            "request": self.request,
        }

    @classmethod
    def parse(cls, record: object) -> Decision:
        """Return the decision that a record writes; strict about its fields."""
        good = (
            isinstance(record, dict)
            and set(record) == {"allowed", "clauses", "policy", "request"}
            and isinstance(record["allowed"], bool)
            and isinstance(record["clauses"], list)
            and all(isinstance(clause, str) for clause in record["clauses"])
        )
        if not good or not isinstance(record, dict):
            raise CanonicalError("a decision record is malformed", hint="see docs/reference/agreement.md")
        return cls(
            record["allowed"],
            tuple(record["clauses"]),
            parse_digest(record["policy"]),
            parse_digest(record["request"]),
        )


def described_columns(description: DatasetDescription) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return what a request says about one dataset: its name and the classification of each column."""
    return description.dataset, tuple(sorted((column.name, column.classification) for column in description.columns))


def decide(request: DecisionRequest, policies: PolicySet | None = None) -> Decision:
    """Return the decision of a policy set about a request.

    Args:
        request: what is asked, all of it; no clock and no state beside it.
        policies: the set of the day, for a replay; this version's own where left out.

    Returns:
        A denial unless, for each dataset read, the engine allowed it and reported no error.
    """
    chosen = current_policies() if policies is None else policies
    digests = (chosen.digest, request.digest())
    try:
        denied, permits = _evaluate(request, compile_policies(chosen))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  (a panic of the engine is no Exception, and no grant either)
        return Decision(False, (ENGINE_ERROR,), *digests)
    if denied:
        return Decision(False, denied, *digests)
    return Decision(True, permits, *digests)


def check_decision(decision: Decision) -> None:
    """Raise unless the decision allows.

    Raises:
        ExpiredError: the request lies outside the agreement's term.
        DeniedError: another clause denied; `details["clauses"]` names all that did.
    """
    if decision.allowed is True and decision.clauses:
        return
    clauses = decision.clauses or (ENGINE_ERROR,)
    first = WINDOW if WINDOW in clauses else clauses[0]
    known = compile_policies(current_policies()).clauses
    sentence = known[first].en if first in known else "a clause of an earlier policy set"
    hint = known[first].hint if first in known else "look the clause up in the policy set that decided"
    others = [f"`{clause}`" for clause in clauses if clause != first]
    more = f" (and by {', '.join(others)})" if others else ""
    family = ExpiredError if first == WINDOW else DeniedError
    raise family(
        f"denied by clause `{first}`: {sentence}{more}",
        hint=hint,
        clauses=list(clauses),
        policy=decision.policy,
        request=decision.request,
    )


def _evaluate(request: DecisionRequest, compiled: CompiledPolicies) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the clauses that denied, in their order, and those that permitted; raise on anything unforeseen."""
    if not request.reads:
        return (NO_DATASET,), ()
    denied: set[str] = set()
    permits: set[str] = set()
    for dataset, columns in request.reads:
        result = cedarpy.is_authorized(
            _cedar_request(request, dataset, columns), compiled.handle, [], schema=compiled.schema
        )
        reasons = set(result.diagnostics.id_annotations_by_reason.values())
        if result.diagnostics.errors or not reasons or not reasons <= set(compiled.clauses):
            raise AssertionError("the policy engine reported an error, or a reason that nobody knows")
        if result.decision is cedarpy.Decision.Allow:
            permits |= reasons
        elif result.decision is cedarpy.Decision.Deny:
            denied |= reasons
        else:
            raise AssertionError("the policy engine did not decide")
    order = list(compiled.clauses)
    return tuple(sorted(denied, key=order.index)), tuple(sorted(permits, key=order.index))


def _cedar_request(request: DecisionRequest, dataset: str, columns: tuple[str, ...]) -> dict[str, Any]:
    terms, grant = request.agreement, request.agreement.grant(dataset)
    levels = dict(dict(request.description_columns).get(dataset, ()))
    return {
        "principal": {"type": "Operator", "id": request.operator},
        "action": {"type": "Action", "id": "run"},
        "resource": {"type": "Dataset", "id": dataset},
        "context": {
            "agreement": {
                "operator": _entity("Operator", terms.operator),
                "not_before": _moment(terms.not_before),
                "not_after": _moment(terms.not_after),
                "latest_end": _moment(latest_end(terms.not_before)),
                "purposes": list(terms.purposes),
                "products": list(terms.products),
                "datasets": [_entity("Dataset", granted.dataset) for granted in terms.grants],
                "columns": [] if grant is None else list(grant.columns),
                "rho_limit": -1 if grant is None else _down(grant.job_limit.rho, RHO_STEP),
                "delta_limit": -1 if grant is None else _down(grant.job_limit.delta, DELTA_STEP),
            },
            "product": request.product,
            "purpose": request.purpose,
            "at": _moment(request.at),
            "columns": list(columns),
            "classes": sorted({levels.get(column, UNKNOWN_CLASS) for column in columns}),
            "rho": _up(request.loss.rho, RHO_STEP),
            "delta": _up(request.loss.delta, DELTA_STEP),
            "raw_rows": request.raw_rows,
            "isolation": request.isolation,
        },
    }


def _entity(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": name}}


def _moment(text: str) -> dict[str, Any]:
    latest_end(text)  # Refuses every form but the one of the log, which is narrower than Cedar's.
    return {"__extn": {"fn": "datetime", "arg": text}}


def _up(amount: Fraction, step: Fraction) -> int:
    """Return the steps in an amount asked for, rounded up; one too large to count stays larger than any limit."""
    return min(-((-amount) // step), _MOST)


def _down(amount: Fraction, step: Fraction) -> int:
    """Return the steps in a limit, rounded down; one too large to count stays smaller than any such amount."""
    return min(amount // step, _MOST - 1)
