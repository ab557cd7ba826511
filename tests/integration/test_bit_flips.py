"""`saggar vault check` over a state in which one bit of each sealed file is another: each is found, and named."""

import json
import secrets

import pytest

from sandbox.model.keys import Role
from tests.conftest import World
from tests.support.line_world import ROOT, saggar

pytestmark = pytest.mark.slow

POSITIONS = 6


@pytest.fixture
def draw():
    """A generator of another seed each time; a failure prints the seed."""
    import random

    seed = secrets.randbits(64)
    print(f"seed {seed}")
    return random.Random(seed)


def flip(path, draw):
    """Flip one bit of a file, and return how to put it back."""
    whole = path.read_bytes()
    place, bit = draw.randrange(len(whole)), draw.randrange(8)
    changed = bytearray(whole)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    return lambda: path.write_bytes(whole), f"{path.name} byte {place} bit {bit}"


def sealed_files(world: World, room):
    return sorted((world.state / "vault" / "blobs" / room).iterdir())


def test_a_flipped_bit_of_every_object_at_once_is_found_by_the_command(world: World, draw):
    objects = sealed_files(world, "objects")
    assert len(objects) > 10
    for _ in range(3):
        put_back = [flip(path, draw) for path in objects]
        told = saggar("--state", world.state, "vault", "check", "--json", cwd=ROOT)
        assert told.code == 6
        assert {fault["object"] for fault in told.json["faults"]} == {f"objects/{path.name}" for path in objects}, (
            put_back
        )
        assert all(fault["code"].startswith("vault.seal_broken.") for fault in told.json["faults"])
        for restore, _ in put_back:
            restore()
    told = saggar("--state", world.state, "vault", "check", cwd=ROOT)
    assert (told.code, "whole" in told.out) == (0, True)


def test_a_flipped_bit_of_any_one_object_is_found_alone(world: World, draw):
    objects = sealed_files(world, "objects")
    with world.engine() as engine:
        for path in objects:
            for _ in range(POSITIONS):
                restore, where = flip(path, draw)
                faults = engine.vault.check(engine.trusted(Role.SANDBOX)).faults
                assert [fault.object for fault in faults] == [f"objects/{path.name}"], where
                restore()
        assert not engine.vault.check(engine.trusted(Role.SANDBOX)).faults


def test_a_flipped_bit_of_a_manifest_is_found_by_the_command_and_in_any_place(world: World, draw):
    (manifest,) = sealed_files(world, "manifests")
    restore, where = flip(manifest, draw)
    told = saggar("--state", world.state, "vault", "check", "--json", cwd=ROOT)
    assert told.code == 6, where
    assert [fault["object"] for fault in json.loads(told.out)["faults"]] == [f"manifests/{manifest.name}"], where
    restore()
    with world.engine() as engine:
        for _ in range(40):
            restore, where = flip(manifest, draw)
            faults = engine.vault.check(engine.trusted(Role.SANDBOX)).faults
            assert [fault.object for fault in faults] == [f"manifests/{manifest.name}"], where
            restore()
