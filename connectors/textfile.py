"""Opening a text file that a department exported: its encoding, its line lengths, a member of a zip archive."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from sandbox.errors import FileFormatError

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030")
MAX_LINE = 1 << 20
"""The most characters of a line; a file without line ends must not fill the memory."""

_SNIFFED = 1 << 16
_UTF8_MARK = b"\xef\xbb\xbf"
_GB18030_MARK = b"\x84\x31\x95\x33"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def open_lines(path: Path, member: str | None, encoding: str) -> Iterator[tuple[Iterator[str], str]]:
    """Open a text file, or one member of a `.zip`, and give its lines and the encoding they are read in.

    A byte-order mark decides the encoding; otherwise the declared one does.

    Args:
        path: the file.
        member: the member of an archive; None for its only one.
        encoding: one of `ENCODINGS`, as declared.

    Raises:
        FileFormatError: there is no such file or member, or it is not text in this encoding.  Also raised while lines
            are read.
    """
    if encoding not in ENCODINGS:
        raise FileFormatError(
            f"encoding `{encoding}` is not read here", hint=f"use {', '.join(ENCODINGS)}", code="input.file.encoding"
        )
    with ExitStack() as stack:
        binary = _open_binary(stack, path, member)
        head, stream = _peek(binary)
        actual = _encoding_of(head, encoding, path.name)
        # The codec with a mark skips it; gb18030 knows none, so its mark is skipped in `_lines`.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig" if actual == "utf-8" else actual, newline="")
        stack.callback(text.detach)
        yield _lines(text, actual, path.name), actual


def _open_binary(stack: ExitStack, path: Path, member: str | None) -> IO[bytes]:
    try:
        if path.suffix.lower() != ".zip":
            if member is not None:
                raise FileFormatError(
                    f"`{path.name}` is no zip archive and has no members",
                    hint="leave the member out",
                    code="input.file.member",
                )
            return stack.enter_context(path.open("rb"))
        archive = stack.enter_context(zipfile.ZipFile(path))
        return stack.enter_context(archive.open(_member(archive, member, path.name)))
    except FileNotFoundError as error:
        raise FileFormatError(
            f"file `{path.name}` does not exist", hint="check the path", code="input.file.missing"
        ) from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(
            f"file `{path.name}` cannot be opened",
            hint="check that it may be read, and that an archive is whole and without a password",
            code="input.file.unreadable",
        ) from error


def _member(archive: zipfile.ZipFile, member: str | None, file: str) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir()]
    if member is None:
        if len(files) == 1:
            return files[0]
        raise FileFormatError(
            f"archive `{file}` holds {len(files)} files", hint="name the one to read", code="input.file.member"
        )
    for info in files:
        if info.filename == member:
            return info
    raise FileFormatError(
        f"archive `{file}` has no member `{member}`",
        hint="write its name with its folders, as the archive lists it",
        code="input.file.member",
    )


class _Joined(io.RawIOBase):
    """A stream that gives back what was looked at, and then goes on."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._head:
            piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            piece = self._rest.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _peek(binary: IO[bytes]) -> tuple[bytes, io.BufferedReader]:
    try:
        head = binary.read(_SNIFFED)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FileFormatError(
            "the file cannot be read", hint="it is damaged; ask for it again", code="input.file.unreadable"
        ) from error
    return head, io.BufferedReader(_Joined(head, binary), 1 << 18)


def _encoding_of(head: bytes, declared: str, file: str) -> str:
    if head.startswith(_UTF8_MARK):
        return "utf-8"
    if head.startswith(_GB18030_MARK):
        return "gb18030"
    if head.startswith(_UTF16_MARKS):
        raise FileFormatError(
            f"file `{file}` is UTF-16 text", hint="save it as CSV in UTF-8", code="input.file.encoding"
        )
    if declared == "gb18030" and not head.isascii() and _is_utf8(head):
        # Almost any UTF-8 text decodes as gb18030 into other characters without an error: say so instead.
        raise FileFormatError(
            f"file `{file}` is declared gb18030 and is UTF-8", hint="declare utf-8", code="input.file.encoding"
        )
    return "gb18030" if declared == "gb18030" else "utf-8"


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return True


def _lines(text: io.TextIOWrapper, encoding: str, file: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = text.readline(MAX_LINE)
        except UnicodeDecodeError:
            # Not chained: the decoder's error carries bytes of the file.
            raise FileFormatError(
                f"file `{file}` is not {encoding} text, near line {number}",
                hint=f"declare its encoding, perhaps {'gb18030' if encoding == 'utf-8' else 'utf-8'}",
                code="input.file.encoding",
                line=number,
            ) from None
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise FileFormatError(
                f"file `{file}` breaks off near line {number}",
                hint="it is damaged; ask for it again",
                code="input.file.unreadable",
                line=number,
            ) from error
        if not line:
            return
        if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
            raise FileFormatError(
                f"line {number} of file `{file}` is too long",
                hint=f"a line has at most {MAX_LINE} characters; check the line ends",
                code="input.file.line_too_long",
                line=number,
            )
        yield line.removeprefix("\ufeff") if number == 1 else line
