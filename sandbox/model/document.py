"""Strict reading of the small YAML files that people write: descriptions, agreements, job files.

YAML as a language is far larger than what a form needs, and its corners are traps: `NO` becomes false, `1:30` a number
in base sixty, `0.05` a binary float, an alias can blow a page up to gigabytes.  So only mappings, lists and scalars are
read; every scalar stays the text that stands in the file; and each refusal names the file and the line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import yaml
from yaml import events

from sandbox.errors import DescriptionError, ExactError
from sandbox.model.exact import parse_exact
from sandbox.model.loss import PrivacyLoss

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18}|[1-9][0-9]{0,2}(?:_[0-9]{3}){1,6})")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_DATA_ERRORS = (yaml.MarkedYAMLError, yaml.reader.ReaderError)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it stands in the file; `plain` where it has no quotes."""

    value: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a document: what stands there, and where that is.

    Attributes:
        content: a scalar, the nodes of a list, or the fields of a mapping.
        file: the file's name, for people.
        line: the line, from 1.
        path: the way to it (`columns[3].lower`); empty at the top.
    """

    content: Scalar | tuple[Node, ...] | dict[str, Node]
    file: str
    line: int
    path: str

    def refuse(self, what: str, *, hint: str, kind: str = "value") -> NoReturn:
        """Raise `DescriptionError` about this place."""
        raise description_error(self.file, self.line, self.path, what, hint=hint, kind=kind)

    def _fields(self) -> dict[str, Node]:
        if not isinstance(self.content, dict):
            self.refuse(f"{self._name()} should be a group of fields", hint="write `field: value` lines", kind="type")
        return self.content

    def _name(self) -> str:
        return f"`{self.path}`" if self.path else "the document"

    def only(self, *names: str) -> None:
        """Refuse fields other than `names`, with the nearest known name."""
        for name, node in self._fields().items():
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean `{near[0]}`" if near else f"known fields here: {', '.join(names)}"
                node.refuse(f"unknown field `{name}`", hint=hint, kind="unknown_field")

    def field(self, name: str) -> Node:
        """Return the node of a field that must be there."""
        node = self._fields().get(name)
        if node is None:
            where = f" in `{self.path}`" if self.path else ""
            self.refuse(f"field `{name}` is missing{where}", hint=f"add a line `{name}: …`", kind="missing_field")
        return node

    def optional(self, name: str) -> Node | None:
        """Return the node of a field, or None where there is none."""
        return self._fields().get(name)

    def items(self) -> tuple[Node, ...]:
        """Return the nodes of a list."""
        if not isinstance(self.content, tuple):
            self.refuse(f"{self._name()} should be a list", hint="write `- item` lines or `[a, b]`", kind="type")
        return self.content

    def entries(self) -> tuple[tuple[str, Node], ...]:
        """Return the fields of a mapping whose names are the writer's own, in order."""
        return tuple(self._fields().items())

    def scalar(self, expected: str = "one value") -> Scalar:
        """Return the scalar as it stands in the file, which may be null."""
        if not isinstance(self.content, Scalar):
            self.refuse(f"{self._name()} should be {expected}", hint="write one value on the line", kind="type")
        return self.content

    def _scalar(self, expected: str) -> Scalar:
        scalar = self.scalar(expected)
        if scalar.plain and scalar.value in _NULLS:
            self.refuse(
                f"{self._name()} has no value", hint="write a value, or leave the whole line out", kind="missing_value"
            )
        return scalar

    def text(self) -> str:
        """Return the text as it stands in the file, without quotes; never empty."""
        value = self._scalar("text").value
        if not value.strip():
            self.refuse(f"{self._name()} is empty", hint="write a value, or leave the line out", kind="missing_value")
        return value

    def matching(self, pattern: re.Pattern[str], rule: str) -> str:
        """Return text of one form; `rule` says the form in words."""
        value = self.text()
        if not pattern.fullmatch(value):
            self.refuse(f"`{value}` is not allowed as {self._name()}", hint=rule, kind="name")
        return value

    def choice(self, *values: str) -> str:
        """Return text that is one of `values`."""
        value = self.text()
        if value not in values:
            near = difflib.get_close_matches(value, values, n=1)
            hint = f"did you mean `{near[0]}`" if near else f"choose one of {', '.join(values)}"
            self.refuse(f"`{value}` is not a known {self._name()}", hint=hint, kind="choice")
        return value

    def integer(self, lower: int, upper: int) -> int:
        """Return an integer between `lower` and `upper`, both included; `10_000` is read, `1.0` is not."""
        value = self._scalar("an integer").value
        if not _INTEGER.fullmatch(value):
            self.refuse(f"expected an integer, got `{value}`", hint="write digits only, as in 12", kind="type")
        number = int(value)
        if not lower <= number <= upper:
            self.refuse(
                f"{self._name()} is out of range, got `{value}`",
                hint=f"it lies between {lower} and {upper}",
                kind="range",
            )
        return number

    def exact(self) -> Fraction:
        """Return an exact amount: `3`, `0.05`, `1e-7` or `1/60`, with or without quotes, read from its own digits."""
        value = self._scalar("an exact amount").value
        try:
            return parse_exact(value.replace("_", "") if _INTEGER.fullmatch(value) else value)
        except ExactError as error:
            raise description_error(
                self.file, self.line, self.path, error.message, hint=error.hint, kind="exact"
            ) from error

    def boolean(self) -> bool:
        """Return a plain `true` or `false`; no other spelling."""
        scalar = self._scalar("true or false")
        if not scalar.plain or scalar.value not in {"true", "false"}:
            self.refuse(
                f"expected true or false, got `{scalar.value}`", hint="write true or false, without quotes", kind="type"
            )
        return scalar.value == "true"

    def loss(self) -> PrivacyLoss:
        """Return the exact loss of a field `{rho: …, delta: …}`; `delta` may be left out and is then 0."""
        self.only("rho", "delta")
        rho, delta = self.field("rho").exact(), self.optional("delta")
        try:
            return PrivacyLoss(rho, Fraction(0) if delta is None else delta.exact())
        except ExactError as error:
            raise description_error(
                self.file, self.line, self.path, error.message, hint=error.hint, kind="range"
            ) from error

    def labels(self) -> tuple[str, str]:
        """Return the English and the Chinese text of a field `{en: …, zh: …}`."""
        self.only("en", "zh")
        return self.field("en").text(), self.field("zh").text()


def description_error(  # noqa: D417  (the other arguments are what they are called)
    file: str, line: int, path: str, what: str, *, hint: str, kind: str
) -> DescriptionError:
    """Return the error for one place.

    Args:
        kind: the last part of the code `input.description.<kind>`.
    """
    return DescriptionError(
        f"{file} line {line}: {what}", hint=hint, code=f"input.description.{kind}", file=file, line=line, path=path
    )


def read_document(text: str, file_name: str) -> Node:
    """Return the top node of a document, which is a mapping.

    Args:
        text: the file's content.
        file_name: what messages call it.

    Raises:
        DescriptionError: too large, too deep, not YAML, not a mapping, or with what is not read here: anchors, aliases,
            tags, directives, several documents, a field given twice.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise description_error(
            file_name, 1, "", "the file is too large", hint=f"the most is {MAX_BYTES // 1024} kB", kind="too_large"
        )
    try:
        return _Builder(file_name, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except _DATA_ERRORS as error:
        raise _syntax_error(text, file_name, error) from error


def _syntax_error(text: str, file: str, error: yaml.YAMLError) -> DescriptionError:
    hint = "check the indentation, colons and quotes on this line and the one before"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        return description_error(file, line, "", "this is not readable as YAML", hint=hint, kind="yaml")
    position = error.position if isinstance(error, yaml.reader.ReaderError) else 0
    return description_error(
        file,
        text.count("\n", 0, position) + 1,
        "",
        "a character is not allowed in a text file",
        hint="remove control characters from this line",
        kind="yaml",
    )


class _Builder:
    """Builds nodes from the parser's events, and refuses what a form does not need."""

    def __init__(self, file: str, stream: Iterator[Any]) -> None:
        self._file = file
        self._stream = stream

    def _refuse(self, event: Any, path: str, what: str, hint: str, kind: str = "yaml") -> NoReturn:
        raise description_error(self._file, event.start_mark.line + 1, path, what, hint=hint, kind=kind)

    def document(self) -> Node:
        top: Node | None = None
        for event in self._stream:
            if isinstance(event, events.DocumentStartEvent):
                if top is not None:
                    self._refuse(event, "", "a second document starts here", "write one document, without `---` inside")
                if event.version or event.tags:
                    self._refuse(event, "", "directives are not read here", "remove the line that starts with `%`")
                first = next(self._stream)
                top = self._node(first, "", 1)
                if not isinstance(top.content, dict):
                    self._refuse(first, "", "the document should be fields", "write `field: value` lines", "type")
        if top is None:
            raise description_error(
                self._file, 1, "", "the file is empty", hint="start from the example in docs/reference", kind="yaml"
            )
        return top

    def _node(self, event: Any, path: str, depth: int) -> Node:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            self._refuse(event, path, "the document is nested too deeply", f"the most is {MAX_DEPTH} levels")
        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            self._refuse(event, path, "anchors and aliases are not read here", "write the value out, or quote the text")
        if event.tag is not None:
            self._refuse(event, path, "tags are not read here", "remove the `!`, or quote the text")
        if isinstance(event, events.ScalarEvent):
            return Node(Scalar(event.value, event.style is None), self._file, line, path)
        if isinstance(event, events.SequenceStartEvent):
            return Node(self._items(path, depth), self._file, line, path)
        return Node(self._mapping(path, depth), self._file, line, path)

    def _items(self, path: str, depth: int) -> tuple[Node, ...]:
        items: list[Node] = []
        while not isinstance(event := next(self._stream), events.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return tuple(items)

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        while not isinstance(event := next(self._stream), events.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            if not isinstance(key.content, Scalar) or not key.content.value:
                self._refuse(event, path, "a field needs a plain name", "write `name: value`")
            name = key.content.value
            inner = f"{path}.{name}" if path else name
            if name in fields:
                first = fields[name].line
                self._refuse(
                    event, inner, f"field `{name}` is given twice", f"line {first} has it already", "duplicate_field"
                )
            node = self._node(next(self._stream), inner, depth + 1)
            # A misspelt field is found on the line of its name, also where its value starts a line below.
            fields[name] = Node(node.content, self._file, key.line, inner)
        return fields
