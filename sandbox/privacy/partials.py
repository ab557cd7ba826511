"""Partials: exact integers per group, summed over partitions; what compute hands to measurement, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sandbox.model.digest import Digest, digest_of_record
from sandbox.privacy.keys import Key, join_key


@dataclass(frozen=True, slots=True)
class Partials:
    """The exact bounded aggregates of a plan.

    Attributes:
        plan: the plan's digest.
        cells: key to one integer for each statistic, in the plan's order; a group without rows is absent.
    """

    plan: Digest
    cells: Mapping[Key, tuple[int, ...]]

    def to_record(self) -> dict[str, Any]:
        """Return the integers as a canonical record, sorted by key, without cells that are all zero."""
        return {
            "v": 1,
            "plan": self.plan,
            "cells": [
                {"key": list(key), "exact": [str(amount) for amount in self.cells[key]]}
                for key in sorted(self.cells, key=join_key)
                if any(self.cells[key])
            ],
        }

    def digest(self) -> Digest:
        """Return the digest of the record: equal for every partitioning and every number of threads."""
        return digest_of_record(self.to_record())


def add_partials(plan: Digest, parts: Iterable[Iterable[tuple[Key, tuple[int, ...]]]]) -> Partials:
    """Return the sum of the partials of disjoint partitions."""
    cells: dict[Key, tuple[int, ...]] = {}
    for part in parts:
        for key, amounts in part:
            before = cells.get(key)
            cells[key] = amounts if before is None else tuple(a + b for a, b in zip(before, amounts, strict=True))
    return Partials(plan, MappingProxyType(cells))
