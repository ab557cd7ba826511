"""Policies: the clauses of the plan in Cedar, and the one function that decides about a job."""
