"""The files of a state directory beside its vault and log: are key files and documents still what was written?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox.crypto.keyfile import read_public
from sandbox.errors import SaggarError
from sandbox.model.digest import digest_of
from sandbox.service.config import Layout
from sandbox.vault.scrub import Fault


def broken_files(layout: Layout, registered: Mapping[str, str]) -> Iterator[Fault]:
    """Yield each key file and document that was changed, or that lies in another's place.

    Args:
        layout: where they lie.
        registered: the id of each key that the log knows, by name.  A key file's checksum needs no passphrase.
    """
    for path in [*sorted(layout.keys.glob("*.key")), *sorted(layout.witness.glob("*.key"))]:
        name = str(path.relative_to(layout.root))
        try:
            public = read_public(_read(path))
            if path.parent == layout.keys and public.name != path.stem:
                yield _misplaced(name, f"holds the key of `{public.name}`")
            elif registered.get(public.name, public.key_id) != public.key_id:
                yield _misplaced(name, f"holds another key than the log has of `{public.name}`")
        except SaggarError as error:
            yield Fault(name, error.code, f"`{name}`: {error.message}")
    for path in sorted((layout.documents / "objects").glob("[0-9a-f]*")):
        if digest_of(_read(path)).partition(":")[2] != path.name:
            name = str(path.relative_to(layout.root))
            yield Fault(name, "vault.seal_broken.digest", f"the document `{name}` is not the one that its name says")


def _misplaced(name: str, what: str) -> Fault:
    return Fault(name, "vault.seal_broken.content", f"the key file `{name}` {what}")


def _read(path: Path) -> bytes:
    """Return the file's bytes; one that cannot be read is as good as an empty one, and named like a changed one."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
