"""Choose the first groups by report-noisy-max: only which groups they are is released, and then fresh counts of those.

A unit counts once in every group that it has, however many they are, so nothing of it is left out; adding it moves each
score by at most 1, and all of them up.  So the choice costs the same for ten groups as for ten thousand, and for units
in one group as for units in all (`docs/proofs/top.md`).

Source: Durfee, Rogers 2019 (arXiv 1905.04273) for the first k at once; Cesar, Rogers 2021 (arXiv 2004.07223) for its
loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlglot import exp

from sandbox.model.exact import format_exact
from sandbox.privacy.influence import influence_of, plain_influence
from sandbox.privacy.mechanism import top_scale
from sandbox.privacy.parse import Text
from sandbox.privacy.query import AggregateKind, Bounding, CheckedQuery, KeyMode

MAX_CHOSEN = 1000
SHARE = Fraction(1, 2)
"""The part of a question's loss that pays for the choice; the rest pays for the counts of what was chosen."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How the first groups are chosen.

    Attributes:
        count: how many.
        candidates: among how many public groups.
        rho: what the choice costs.
        scale: of its noise, a Gumbel variable for each candidate.
    """

    count: int
    candidates: int
    rho: Fraction
    scale: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the choice as a canonical record."""
        return {
            "count": self.count,
            "candidates": self.candidates,
            "rho": format_exact(self.rho),
            "scale": format_exact(self.scale),
        }


def check_top(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse a question whose first groups cannot be chosen by report-noisy-max.

    The choice rests on scores that one change moves by at most 1, and all of them the same way.  Where a change can
    exchange rows (a LEFT JOIN of two datasets, a table that protects two kinds of units), neither holds.

    Raises:
        QueryError: it is not a count of units by public keys, ordered by that count, with a LIMIT (`input.query.top`).
    """
    finish, settings = query.finish, query.settings
    counts = [output.slot for output in query.outputs if not output.slot.is_key]
    shaped = (
        query.key_mode is KeyMode.PUBLIC
        and not query.rolled
        and [aggregate.kind for aggregate in query.aggregates] == [AggregateKind.UNITS]
        and len(counts) == 1
        and query.formulas[counts[0].index].index is not None
        and [(term.slot, term.descending) for term in finish.order] == [(counts[0], True)]
        and finish.having is None
        and finish.offset == 0
        and finish.limit is not None
        and 1 <= finish.limit <= MAX_CHOSEN
        and settings.bounding is Bounding.SAMPLE
        and not settings.weights
    )
    if not shaped:
        raise text.refusal(
            select,
            "top",
            "`top = 'noisy_max'` chooses the first groups of one count of units over public keys",
            "write it as in SELECT district, COUNT(DISTINCT patient) AS n … GROUP BY district ORDER BY n DESC "
            f"LIMIT 5, with at most {MAX_CHOSEN} groups, without HAVING, OFFSET, weights or rescaling",
        )
    if query.others or influence_of(query) != plain_influence(query.bound, query.key_mode):
        raise text.refusal(
            select,
            "top",
            "`top = 'noisy_max'` is not for a LEFT JOIN of two datasets nor for a table that protects two kinds",
            "leave it out: every group is then counted with noise, and LIMIT picks among those counts",
        )


def choice_of(query: CheckedQuery, candidates: int, rho: Fraction) -> Choice:
    """Return how the first groups are chosen for a loss; `check_top` has said that they can be.

    Raises:
        BoundError: as `top_scale`.
    """
    assert query.finish.limit is not None
    count = min(query.finish.limit, candidates)
    return Choice(count, candidates, rho, top_scale(count, rho))
