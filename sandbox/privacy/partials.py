"""Partials: exact integers per group, summed over partitions; what compute hands to measurement, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from types import MappingProxyType
from typing import Any

from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import Digest, digest_of
from sandbox.privacy.keys import Key, join_key, join_keys


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

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the record.

        Below the surrogates they are written here as they are, since a tree has thousands of cells; a test holds the
        two ways together.
        """
        cells = sorted(zip(join_keys(self.cells), self.cells.values(), strict=True))
        if all(len(amounts) == 1 for _, amounts in cells):
            rows = [f'{{"exact":["{amount}"],"key":{joined}}}' for joined, (amount,) in cells if amount]
        else:
            rows = [f'{{"exact":["{_listed(amounts)}"],"key":{joined}}}' for joined, amounts in cells if any(amounts)]
        parts = ",".join(rows)
        text = f'{{"cells":[{parts}],"plan":{encode_basestring(self.plan)},"v":1}}'
        return text.encode() if text.isascii() or max(text) < "\ud800" else canonical_bytes(self.to_record())

    def digest(self) -> Digest:
        """Return the digest of the record: equal for every partitioning and every number of threads."""
        return digest_of(self.to_bytes())


def _listed(amounts: tuple[int, ...]) -> str:
    """Return integers as the inside of a list of texts."""
    return '","'.join(map(str, amounts))


def add_partials(plan: Digest, parts: Iterable[Iterable[tuple[Key, tuple[int, ...]]]]) -> Partials:
    """Return the sum of the partials of disjoint partitions."""
    cells: dict[Key, tuple[int, ...]] = {}
    for part in parts:
        for key, amounts in part:
            before = cells.get(key)
            cells[key] = amounts if before is None else _added(before, amounts)
    return Partials(plan, MappingProxyType(cells))


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if len(one) == len(other) == 1:
        return (one[0] + other[0],)
    return tuple(a + b for a, b in zip(one, other, strict=True))
