"""Tables for people: what does not fit a column goes on in its next line and is never cut off."""

from __future__ import annotations

from typing import Any

from rich.table import Table as PlainTable


class Table(PlainTable):
    """A table whose columns fold: an identifier to compare or a code to look up stands there whole."""

    def add_column(self, *arguments: Any, **options: Any) -> None:
        """Add a column as rich does, folded unless it says otherwise."""
        super().add_column(*arguments, **{"overflow": "fold", **options})
