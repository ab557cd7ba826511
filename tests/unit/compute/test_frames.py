"""Frames: what is sent arrives, and what is no frame ends the conversation."""

import os
import socket
import struct

import pytest

from sandbox.compute.frames import Channel, HungUpError


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        yield Channel(ours), Channel(theirs), theirs


@pytest.mark.parametrize("payload", [b"", b"x", b"y" * 20_000])
def test_a_payload_arrives_whole_and_apart_from_the_next(ends, payload):
    ours, theirs, _ = ends
    ours.send(payload)
    ours.send(b"next")
    assert theirs.receive(100_000) == (payload, [])
    assert theirs.receive(100_000) == (b"next", [])


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_descriptors_arrive_with_their_own_frame_in_order(ends, count):
    ours, theirs, _ = ends
    sent = []
    for number in range(count):
        descriptor = os.memfd_create(f"n{number}")
        os.write(descriptor, str(number).encode())
        sent.append(descriptor)
    ours.send(b"with", sent)
    ours.send(b"without")
    payload, found = theirs.receive(100, 1000)
    assert payload == b"with"
    assert [os.pread(descriptor, 10, 0).decode() for descriptor in found] == [str(number) for number in range(count)]
    assert theirs.receive(100, 1000) == (b"without", [])
    for descriptor in (*sent, *found):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (struct.pack(">IH", 101, 0), 100),
        (struct.pack(">IH", 2**32 - 1, 0), 100),
        (struct.pack(">IH", 1, 1) + b"x", 100),
        (struct.pack(">IH", 5, 0) + b"four", 100),
        (b"\0\0", 100),
        (b"", 100),
    ],
    ids=["too long", "far too long", "a descriptor", "cut", "cut in the header", "nothing"],
)
def test_what_is_no_frame_ends_the_conversation(ends, raw, limit):
    ours, _, theirs = ends
    theirs.sendall(raw)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(HungUpError):
        ours.receive(limit)


def test_a_descriptor_that_nobody_announced_is_refused_and_closed(ends):
    ours, _, theirs = ends
    descriptor = os.memfd_create("stray")
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(theirs, [struct.pack(">IH", 1, 0) + b"x"], [descriptor])
    with pytest.raises(HungUpError, match="other descriptors"):
        ours.receive(100, 10)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(descriptor)


def test_sending_to_one_who_hung_up_says_so(ends):
    ours, theirs, _ = ends
    theirs.close()
    with pytest.raises(HungUpError):
        ours.send(b"x" * 1_000_000)


def test_a_wait_ends_when_the_check_says_so():
    ours, theirs = socket.socketpair()

    def stop():
        raise KeyboardInterrupt

    with ours, theirs:
        channel = Channel(ours, stop)
        with pytest.raises(KeyboardInterrupt):
            channel.receive(10)
        with pytest.raises(KeyboardInterrupt):
            channel.send(b"x")
