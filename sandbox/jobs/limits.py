"""Limits: how many jobs may be under way, in all and of one operator.

A job under way holds its reservation; an operator who could start any number of them would hold every budget and every
processor.  What is under way is what the log says, so the limit is the same after a restart.
"""

from __future__ import annotations

from typing import Final

from sandbox.errors import LimitExceededError
from sandbox.jobs.engine import Records
from sandbox.model.job import JobState

JOBS_OF_ONE_OPERATOR: Final = 4
JOBS_IN_ALL: Final = 16
_UNDER_WAY: Final = frozenset(
    {JobState.SUBMITTED, JobState.ADMITTED, JobState.RESERVED, JobState.OPENED, JobState.GATED}
)


def check_room(records: Records, submitter: str) -> None:
    """Raise unless one more job of this operator may be under way.

    Raises:
        LimitExceededError: as many are under way as may be.
    """
    under_way = [facts for facts in records.state().jobs.values() if facts.state in _UNDER_WAY]
    own = sum(facts.submitter == submitter for facts in under_way)
    if own >= JOBS_OF_ONE_OPERATOR or len(under_way) >= JOBS_IN_ALL:
        raise LimitExceededError(
            f"{own} jobs of this operator and {len(under_way)} in all are under way",
            hint=f"wait for one to end; one operator may have {JOBS_OF_ONE_OPERATOR}, all together {JOBS_IN_ALL}",
            code="isolation.limit.jobs",
        )
