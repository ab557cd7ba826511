"""Memory that is kept: it grows, and what was written stays."""

from sandbox.vault.room import Room


def test_a_room_grows_to_what_is_asked_for_and_keeps_what_was_written() -> None:
    room = Room()
    assert bytes(room.reach(0)) == b""
    room.reach(5)[:] = b"begun"
    for size in (6, 7, 100, 10_000):
        view = room.reach(size)
        assert (len(view), view.readonly) == (size, False)
        assert bytes(view[:5]) == b"begun"
        view[-1:] = b"x"
    assert bytes(room.reach(3)) == b"beg", "a shorter view is not the same memory"
