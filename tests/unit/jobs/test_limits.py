"""How many jobs may be under way: of one operator, and in all."""

from types import SimpleNamespace

import pytest

from sandbox.errors import LimitExceededError
from sandbox.jobs.blocks import block_seed, padded_s
from sandbox.jobs.limits import JOBS_IN_ALL, JOBS_OF_ONE_OPERATOR, check_room
from sandbox.model.job import JobState


def records(*jobs):
    facts = {str(number): SimpleNamespace(submitter=who, state=state) for number, (who, state) in enumerate(jobs)}
    return SimpleNamespace(state=lambda: SimpleNamespace(jobs=facts))


def test_an_operator_may_have_so_many_jobs_under_way_and_no_more():
    full = [("a", JobState.OPENED)] * JOBS_OF_ONE_OPERATOR
    check_room(records(*full[1:]), "a")
    check_room(records(*full), "b")
    with pytest.raises(LimitExceededError, match="4 jobs of this operator") as refused:
        check_room(records(*full), "a")
    assert refused.value.code == "isolation.limit.jobs"


def test_all_operators_together_may_have_so_many():
    crowd = [(str(number), JobState.RESERVED) for number in range(JOBS_IN_ALL)]
    check_room(records(*crowd[1:]), "new")
    with pytest.raises(LimitExceededError, match="16 in all"):
        check_room(records(*crowd), "new")


def test_jobs_that_ended_take_no_room():
    ended = (JobState.RELEASED, JobState.REFUSED, JobState.FAILED, JobState.RECOVERED)
    check_room(records(*[("a", state) for state in ended for _ in range(30)]), "a")


def test_the_time_of_an_answer_has_few_values_for_a_given_question():
    due = {padded_s(split / 100, 10.0) for split in range(1, 101)}
    assert due == {10.5 + 0.1 + bucket for bucket in (0.25, 0.5, 1.0)}


def test_the_entropy_of_blocks_is_a_function_of_the_job_and_of_the_questions_number():
    seeds = {block_seed(bytes([job]) * 32, index) for job in (1, 2) for index in (0, 1)}
    assert len(seeds) == 4
    assert block_seed(bytes(32), 3) == block_seed(bytes(32), 3)
