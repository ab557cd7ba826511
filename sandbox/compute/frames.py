"""Frames between the engine and a reader: a length, a number of descriptors, and that many bytes.

A frame is four bytes with the length of the payload and two with the number of file descriptors that come with it, both
big-endian, then the payload.  A frame that announces more than the receiver takes is refused before it is read.
Payloads are canonical JSON; nobody here unpickles anything.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

_HEADER: Final = struct.Struct(">IH")
_DESCRIPTORS_AT_ONCE: Final = 128  # the kernel takes 253
_SLICE_MS: Final = 100


class HungUpError(Exception):
    """The other side ended, or sent what is no frame; the text says nothing of the bytes."""


class Channel:
    """One end of a stream socket.

    Args:
        wire: the socket; the channel owns it.
        check: called ten times a second while the channel waits; what it raises ends the wait.
    """

    def __init__(self, wire: socket.socket, check: Callable[[], None] = lambda: None) -> None:
        wire.setblocking(False)
        self._wire = wire
        self.check = check

    def send(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one frame; the descriptors stay open on this side.

        Raises:
            HungUpError: the other side ended.
        """
        frame = memoryview(_HEADER.pack(len(payload), len(descriptors)) + payload)
        waiting = list(descriptors)
        try:
            while frame:
                self._wait(select.POLLOUT)
                batch, waiting = waiting[:_DESCRIPTORS_AT_ONCE], waiting[_DESCRIPTORS_AT_ONCE:]
                # One byte at a time while descriptors wait: each batch needs a byte of its own to ride on.
                part = frame[:1] if waiting else frame
                sent = socket.send_fds(self._wire, [part], batch) if batch else self._wire.send(part)
                frame = frame[sent:]
        except OSError:
            raise HungUpError("the other side ended") from None

    def receive(self, payload_bytes_max: int, descriptors_max: int = 0) -> tuple[bytes, list[int]]:
        """Return the next frame's payload and descriptors; the caller closes them.

        Raises:
            HungUpError: the other side ended, or announced more than it may.
        """
        found: list[int] = []
        try:
            length, count = _HEADER.unpack(self._read(_HEADER.size, found, descriptors_max))
            if length > payload_bytes_max or count > descriptors_max:
                raise HungUpError("a frame is larger than it may be")
            payload = self._read(length, found, descriptors_max)
            if len(found) != count:
                raise HungUpError("a frame has other descriptors than it says")
        except BaseException:
            for descriptor in found:
                os.close(descriptor)
            raise
        return payload, found

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def _read(self, length: int, found: list[int], descriptors_max: int) -> bytes:
        buffer, filled = bytearray(length), 0
        while filled < length:
            self._wait(select.POLLIN)
            try:
                if len(found) < descriptors_max:
                    piece, arrived, _, _ = socket.recv_fds(self._wire, length - filled, _DESCRIPTORS_AT_ONCE)
                    found.extend(arrived)
                else:
                    piece = self._wire.recv(length - filled)
            except OSError:
                raise HungUpError("the other side ended") from None
            if not piece:
                raise HungUpError("the other side ended")
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return bytes(buffer)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._wire, event)
        self.check()
        while not poll.poll(_SLICE_MS):
            self.check()
