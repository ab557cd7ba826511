"""Settings that ask for another mechanism: each says which questions it is for."""

from __future__ import annotations

from sqlglot import exp

from sandbox.privacy.chosen_quantile import check_chosen_quantile
from sandbox.privacy.laplace import check_laplace
from sandbox.privacy.parse import Text
from sandbox.privacy.query import CheckedQuery
from sandbox.privacy.top import check_top


def check_mechanism(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse a question that a setting's mechanism is not for.

    Raises:
        QueryError: `input.query.noise`, `input.query.top` or `input.query.quantile`.
    """
    if query.settings.laplace or query.settings.pure_loss is not None:
        check_laplace(text, select, query)
    if query.settings.top:
        check_top(text, select, query)
    if query.settings.quantile:
        check_chosen_quantile(text, select, query)
