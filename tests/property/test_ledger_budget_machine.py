"""A machine that tries every step on every job in any order, beside a model that counts by hand.

Whatever order comes, no account ever goes over its limit, nothing posted ever falls, nothing pending is lost or given
back early, and the state is the fold of exactly the entries that were accepted.
"""

from __future__ import annotations

import json
from fractions import Fraction

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandbox.errors import BudgetExhaustedError, LedgerError, TransitionError
from sandbox.ledger.account import EMPTY, apply, state_digest
from sandbox.model.canonical import canonical_bytes
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.exact import format_exact
from sandbox.model.job import JobState
from tests.support import ledger_world as city

K = EntryKind
# Small, so that two or three jobs at once already compete for what is left.
LIMIT = {city.ACCOUNTS[0]: Fraction(3, 2), city.ACCOUNTS[1]: Fraction(2)}
AMOUNTS = st.builds(Fraction, st.integers(0, 12), st.sampled_from([1, 3, 4, 7]))


def amount(rho):
    return city.loss(format_exact(rho))


class BudgetMachine(RuleBasedStateMachine):
    """Jobs over one agreement and one dataset."""

    jobs = Bundle("jobs")

    def __init__(self):
        super().__init__()
        self.entries = []
        self.reserved = {}  # what each running job holds, by hand
        self.answered = {}
        self.posted = Fraction(0)
        self.profiled = Fraction(0)

    @initialize()
    def found(self):
        self.state = EMPTY
        limits = {
            K.DATASET_SEALED: city.sealing(budget=amount(LIMIT[city.ACCOUNTS[1]])),
            K.AGREEMENT_REGISTERED: city.agreeing(grants=[city.granting(budget=amount(LIMIT[city.ACCOUNTS[0]]))]),
        }
        for kind, body in city.founding():
            assert self.step(kind, limits.get(kind, body))

    def step(self, kind, body):
        """Apply one entry; return whether it was allowed. A refusal must leave no trace."""
        entry = Entry(self.state.size, city.START, kind, city.SANDBOX.key_id, json.loads(json.dumps(body)))
        before = self.state
        try:
            self.state = apply(before, entry)
        except (LedgerError, TransitionError, BudgetExhaustedError):
            assert self.state is before
            return False
        self.entries.append(entry)
        return True

    def standing(self, job):
        return self.state.jobs[job].state

    @precondition(lambda self: len(self.state.jobs) < 6)
    @rule(target=jobs)
    def submit(self):
        job = city.digest(f"job {len(self.state.jobs)}")
        assert self.step(K.JOB_SUBMITTED, city.submitting(job))
        return job

    @rule(job=jobs, allowed=st.booleans(), rho=AMOUNTS)
    def decide(self, job, allowed, rho):
        fresh = self.standing(job) is JobState.SUBMITTED and self.state.jobs[job].allowed is None
        assert self.step(K.JOB_DECIDED, city.deciding(job, allowed=allowed, loss=amount(rho))) == fresh

    @rule(job=jobs, rho=AMOUNTS)
    def reserve(self, job, rho):
        facts = self.state.jobs[job]
        held = sum(self.reserved.values(), Fraction(0)) + self.posted
        room = held + rho <= LIMIT[city.ACCOUNTS[0]] and held + self.profiled + rho <= LIMIT[city.ACCOUNTS[1]]
        may = facts.state is JobState.ADMITTED and rho <= facts.admitted.rho and rho <= 2 and room
        assert self.step(K.BUDGET_RESERVED, city.reserving(job, amount(rho))) == may
        if may:
            self.reserved[job], self.answered[job] = rho, Fraction(0)

    @rule(job=jobs)
    def open(self, job):
        may = self.standing(job) is JobState.RESERVED
        assert self.step(K.VAULT_OPENED, city.opening_vault(job)) == may

    @rule(job=jobs, rho=AMOUNTS)
    def answer(self, job, rho):
        may = self.standing(job) is JobState.OPENED and self.answered[job] + rho <= self.reserved[job]
        assert self.step(K.QUESTION_ANSWERED, city.answering(job, self.state.jobs[job].questions, amount(rho))) == may
        if may:
            self.answered[job] += rho

    @rule(job=jobs)
    def gate(self, job):
        may = self.standing(job) is JobState.OPENED
        assert self.step(K.JOB_GATED, city.gating(job)) == may

    @rule(job=jobs, rho=AMOUNTS, exact=st.booleans(), released=st.booleans())
    def settle(self, job, rho, exact, released):
        if exact and job in self.answered:
            rho = self.answered[job]
        ready = {JobState.GATED} if released else {JobState.GATED, JobState.OPENED}
        may = self.standing(job) in ready and self.answered[job] <= rho <= self.reserved[job]
        end = {} if released else {"outcome": "failed", "code": "isolation.limit", "release": None}
        assert self.step(K.JOB_SETTLED, city.settling(job, posted=amount(rho), **end)) == may
        if may:
            self.posted += rho
            del self.reserved[job]

    @rule(job=jobs, rho=AMOUNTS, whole=st.booleans())
    def recover(self, job, rho, whole):
        if whole and job in self.reserved:
            rho = self.reserved[job]
        alive = self.standing(job) in {JobState.RESERVED, JobState.OPENED, JobState.GATED}
        may = alive and rho == self.reserved[job]
        assert self.step(K.JOB_RECOVERED, city.recovering(job, amount(rho))) == may
        if may:
            self.posted += rho
            del self.reserved[job]

    @rule(job=jobs, reserved_first=st.booleans())
    def refuse(self, job, reserved_first):
        if reserved_first:
            self.advance(job, share=Fraction(1, 2), steps=2)
        may = self.standing(job) in {JobState.SUBMITTED, JobState.ADMITTED, JobState.RESERVED}
        assert self.step(K.JOB_REFUSED, city.refusing(job)) == may
        if may:
            self.reserved.pop(job, None)

    @rule(job=jobs, share=st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1)]), steps=st.integers(1, 6))
    def advance(self, job, share, steps):
        """Take the steps that come next: without this, chance alone rarely brings a job to its end."""
        for _ in range(steps):
            match self.standing(job):
                case JobState.SUBMITTED:
                    self.decide(job, allowed=True, rho=share)
                case JobState.ADMITTED:
                    self.reserve(job, rho=self.state.jobs[job].admitted.rho)
                case JobState.RESERVED:
                    self.open(job)
                case JobState.OPENED if not self.answered[job]:
                    self.answer(job, rho=self.reserved[job] * share)
                case JobState.OPENED:
                    self.gate(job)
                case JobState.GATED:
                    self.settle(job, rho=self.reserved[job] * share, exact=False, released=True)
                case _:
                    return

    @rule(rho=AMOUNTS)
    def profile(self, rho):
        held = sum(self.reserved.values(), Fraction(0)) + self.posted + self.profiled
        body = {"dataset": city.DATASET, "snapshot": city.SNAPSHOT, "loss": amount(rho), "profile": city.digest("p")}
        may = held + rho <= LIMIT[city.ACCOUNTS[1]]
        assert self.step(K.DATASET_PROFILED, body) == may
        if may:
            self.profiled += rho

    @invariant()
    def the_accounts_are_what_was_counted_by_hand_and_never_over_the_limit(self):
        pending = sum(self.reserved.values(), Fraction(0))
        for account, extra in ((city.ACCOUNTS[0], 0), (city.ACCOUNTS[1], self.profiled)):
            facts = self.state.accounts[account]
            assert facts.pending.rho == pending
            assert facts.posted.rho == self.posted + extra
            assert facts.pending.rho + facts.posted.rho <= LIMIT[account] == facts.limit.rho

    def teardown(self):
        replayed = EMPTY
        for entry in self.entries:
            replayed = apply(replayed, Entry.parse(entry.to_bytes()))
        assert state_digest(replayed) == state_digest(self.state)
        canonical_bytes(self.state.to_record())


BudgetMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBudgetMachine = BudgetMachine.TestCase
