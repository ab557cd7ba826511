"""Model jobs on the line: the document is the code, the engine's own recipes are the program, the line is any job's."""

from __future__ import annotations

from typing import Any, Protocol

from sandbox.errors import CanonicalError, QueryError
from sandbox.model.canonical import canonical_release_bytes, parse_canonical_release
from sandbox.model.job import JobSpec
from sandbox.model.model_document import ModelDocument
from sandbox.model.question import Answer, Question
from sandbox.privacy.models.planning import ModelPlan, Tables, plan_model
from sandbox.privacy.models.running import run_model


def model_plan(spec: JobSpec, code: str, tables: Tables) -> ModelPlan:
    """Return the plan of a model job.

    Raises:
        QueryError, BoundError: the document asks for what is not to be had.
        CanonicalError: the code is not a document in canonical form.
    """
    return plan_model(ModelDocument.parse(code), spec.loss, tables, rows=spec.rows, groups=spec.groups)


def check_model(spec: JobSpec, code: str, tables: Tables) -> ModelPlan:
    """Return the plan of a model job whose spec says just what the document reads and lets out.

    Raises:
        QueryError: it says something else (`input.query.model`), or the document is refused.
        BoundError, CanonicalError: the document is refused.
    """
    plan = model_plan(spec, code, tables)
    if spec.reads != (plan.reads,) or spec.outputs != plan.outputs or spec.parameters:
        raise QueryError(
            "the job declares other columns or outputs than its model reads and lets out",
            hint="submit the job file again; the client declares them",
            code="input.query.model",
        )
    return plan


class Asked(Protocol):
    """Whoever answers the questions of a model: a job's questioner, or a rehearsal."""

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the released answer's record."""
        ...


def learn(spec: JobSpec, code: str, tables: Tables, questioner: Asked, *, seed: bytes) -> dict[str, Any]:
    """Return the outputs of a model job, each question charged in filter and log like any other.

    The model sees each answer as the transcript writes it, so that an auditor's run sees the same numbers.

    Raises:
        BoundError: too little to learn from, by the released answers.
        SaggarError: a question is refused.
    """

    def ask(question: Question) -> Answer:
        return as_recorded(questioner.answer(question))

    return run_model(model_plan(spec, code, tables), ask, spec.loss, seed=seed)


def learn_again(
    spec: JobSpec, code: str, tables: Tables, answered: list[tuple[Any, dict[str, Any]]], *, seed: bytes
) -> dict[str, Any]:
    """Return the outputs that a model makes of recorded answers.

    Args:
        spec: the job.
        code: its document.
        tables: the descriptions of its day.
        answered: the recorded questions with their answers, in order; all of them are used up.
        seed: as recorded.

    Raises:
        BoundError: the model ends by refusing, as its record should say.
        CanonicalError: it asks another question than the recorded one, or not all of them.
    """
    rest = list(answered)

    def ask(question: Question) -> Answer:
        if not rest or rest[0][0] != question:
            raise CanonicalError(
                "the model asks another question than the recorded one", hint="compare the two records"
            )
        return as_recorded(rest.pop(0)[1])

    outputs = run_model(model_plan(spec, code, tables), ask, spec.loss, seed=seed)
    if rest:
        raise CanonicalError("the model asks fewer questions than the recorded ones", hint="compare the two records")
    return outputs


def as_recorded(answer: dict[str, Any]) -> Answer:
    """Return an answer as it is read from its canonical bytes, where 3.0 and 3 are one number."""
    return Answer.parse(parse_canonical_release(canonical_release_bytes(answer)))
