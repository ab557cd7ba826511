"""A dictionary that is never changed: `with_item` gives a new one that shares what did not change.

A large base and a small overlay; when the overlay outgrows the square root of the base they are merged into a new
base.  So a fold over n entries costs O(n * sqrt(n)) quick dictionary copies at worst, a refused entry costs nothing,
and a state that someone holds never moves under their hands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K", bound=str)
V = TypeVar("V")


class Table(Mapping[K, V]):
    """An immutable mapping from text to facts."""

    __slots__ = ("_base", "_overlay", "_size")

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._base: dict[K, V] = dict(items or {})
        self._overlay: dict[K, V] = {}
        self._size = len(self._base)

    def with_item(self, key: K, value: V) -> Table[K, V]:
        """Return the table with `key` set to `value`."""
        made: Table[K, V] = Table.__new__(Table)
        made._size = self._size + (key not in self)
        overlay = self._overlay.copy()
        overlay[key] = value
        if len(overlay) ** 2 > max(self._size, 64):
            made._base, made._overlay = {**self._base, **overlay}, {}
        else:
            made._base, made._overlay = self._base, overlay
        return made

    def __getitem__(self, key: K) -> V:
        return self._overlay[key] if key in self._overlay else self._base[key]

    def __contains__(self, key: object) -> bool:
        return key in self._overlay or key in self._base

    def __iter__(self) -> Iterator[K]:
        yield from self._base
        for key in self._overlay:
            if key not in self._base:
                yield key

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"Table({dict(self)!r})"
