"""Run a planned model on answers: the same answers give the same bytes, on every machine."""

from __future__ import annotations

from typing import Any

from sandbox.model.loss import PrivacyLoss
from sandbox.model.model_document import ModelKind
from sandbox.privacy.models.asking import Ask
from sandbox.privacy.models.outputs import regression_outputs, scorecard_outputs, synthetic_outputs
from sandbox.privacy.models.planning import ModelPlan
from sandbox.privacy.models.regression import fit_linear, fit_logistic
from sandbox.privacy.models.scorecard import fit_scorecard
from sandbox.privacy.models.synthetic import draw_synthetic


def run_model(plan: ModelPlan, ask: Ask, loss: PrivacyLoss, *, seed: bytes) -> dict[str, Any]:
    """Return the outputs of a model.

    Args:
        plan: what is learned.
        ask: answers the plan's questions, in their order; whoever gives it has charged each one.
        loss: of the whole model.
        seed: of the rows of a synthetic table; it may be public.

    Raises:
        BoundError: too little to learn from, by the released answers (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together, and so is a refusal.
    """
    document = plan.document
    target = "" if document.target is None else document.target.sql
    match document.kind:
        case ModelKind.LINEAR:
            assert plan.target is not None
            return regression_outputs(fit_linear(ask, plan.source, plan.target, plan.features, loss))
        case ModelKind.LOGISTIC:
            return regression_outputs(fit_logistic(ask, plan.source, target, plan.features, loss))
        case ModelKind.SCORECARD:
            return scorecard_outputs(fit_scorecard(ask, plan.source, target, plan.characteristics, loss))
        case ModelKind.SYNTHETIC:
            names = [found.sql for found in document.inputs]
            number = int.from_bytes(seed, "big")
            return synthetic_outputs(draw_synthetic(ask, plan.source, names, loss, seed=number, most=document.max_rows))
