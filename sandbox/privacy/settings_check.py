"""Settings that ask for another mechanism: each says which questions it is for."""

from __future__ import annotations

from sqlglot import exp

from sandbox.errors import BoundError
from sandbox.privacy.chosen_quantile import check_chosen_quantile
from sandbox.privacy.influence import influence_of
from sandbox.privacy.laplace import check_laplace
from sandbox.privacy.parse import Text
from sandbox.privacy.query import Bounding, CheckedQuery
from sandbox.privacy.rescaling import rescaled
from sandbox.privacy.statistics import choose_statistics
from sandbox.privacy.top import check_top


def check_mechanism(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse a question that a setting's mechanism is not for.

    Raises:
        QueryError: `input.query.noise`, `input.query.top` or `input.query.quantile`.
        BoundError: it cannot be rescaled (`privacy.bound.rescale`, `privacy.bound.overflow`).
    """
    if query.settings.laplace or query.settings.pure_loss is not None:
        check_laplace(text, select, query)
    if query.settings.top:
        check_top(text, select, query)
    if query.settings.quantile:
        check_chosen_quantile(text, select, query)
    if query.settings.bounding is Bounding.RESCALE:
        _check_rescaling(text, select, query)


def _check_rescaling(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse here, with a place, what the plan would refuse."""
    try:
        chosen = choose_statistics(query.aggregates, query.bound, query.key_mode, 1, influence_of(query))
        rescaled(chosen.statistics, query.max_rows)
    except BoundError as error:
        raise text.placed(error, select) from None
