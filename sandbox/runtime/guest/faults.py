"""What goes wrong inside a program, as the program's author shall read it."""

from __future__ import annotations

from typing import Any, Final

PROGRAM_NAME: Final = "<program>"


class ProgramFault(Exception):  # noqa: N818 - a fault of the program, not of this code
    """A program is not in the language.

    Args:
        message: one lower-case sentence without full stop.
        hint: what to write instead, one sentence.
        line: from 1, or None for the program as a whole.
        column: from 1, or None.
    """

    def __init__(self, message: str, hint: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column

    def to_record(self) -> dict[str, Any]:
        """Return the fault as JSON-able data."""
        return {"message": self.message, "hint": self.hint, "line": self.line, "column": self.column}

    def sentence(self) -> str:
        """Return the fault in one sentence, with its place."""
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.message}; {self.hint}"


class QuestionRefused(Exception):  # noqa: N818 - the name that programs catch
    """The engine did not answer a question; a program may catch it and go on.

    Attributes:
        code: stable dotted text.
        message: why, one sentence.
        hint: what to do, one sentence.
    """

    def __init__(self, code: str = "", message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Forbidden(AttributeError):  # noqa: N818 - programs see it as an error of their own
    """A program reached for something that is not offered; carries no object."""
