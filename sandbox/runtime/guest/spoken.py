"""What the zygote and its workers ask of a language: the shape that `language.RestrictedLanguage` fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Language(Protocol):
    """How a worker turns a source text into a function."""

    def compile(self, source: str, entry: str = "analyze") -> Any:
        """Return the code of a program without running it."""
        ...

    def load(self, source: str, names: dict[str, Any], entry: str = "analyze") -> Callable[..., Any]:
        """Return the program's function."""
        ...
