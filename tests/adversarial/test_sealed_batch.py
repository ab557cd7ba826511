"""Batches sealed at the source: whatever is done to one on its way, it is refused by name."""

import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from connectors.csv_source import CsvSource
from connectors.sealed_batch import MAGIC, SIGNING_CONTEXT, open_batch, seal_batch
from connectors.token_key import issue_token_key, open_token_key, token_check
from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.signing import sign
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import FileFormatError, InputError, KeyUnavailableError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.description import Column, ColumnKind, DatasetDescription, ExclusionRule
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit

AT = "2027-01-31T08:00:00Z"
TOKENS = b"t" * 32
MARKER = "SECRETMARK"


def column(name: str, kind: ColumnKind, **bounds: int) -> Column:
    lower, upper = bounds.get("lower"), bounds.get("upper")
    return Column(
        name, name, kind, name, name, "L3", False, (),
        None if lower is None else Fraction(lower), None if upper is None else Fraction(upper),
        Fraction(1) if kind is ColumnKind.INTEGER else None, None,
    )  # fmt: skip


DESCRIPTION = DatasetDescription(
    dataset="clinic",
    table="visits",
    label_en="Visits",
    label_zh="就诊",
    department_zh="卫健委",
    catalogue_id="C-1",
    unit=PrivacyUnit("patient", "patient", "患者"),
    bound=ContributionBound(4, 4),
    columns=(column("days", ColumnKind.INTEGER, lower=0, upper=14), column("note", ColumnKind.TEXT)),
    exclusions=(ExclusionRule("secret", ("1",), "secret", "涉密"),),
    max_broken_share=Fraction(0),
    budget=PrivacyLoss(Fraction(1)),
    max_rows=10_000,
)


@pytest.fixture(scope="module", params=list(SuiteName), ids=str)
def keys(request: pytest.FixtureRequest) -> SimpleNamespace:
    return SimpleNamespace(
        vault=generate_key("sandbox", Role.SANDBOX, request.param),
        other_vault=generate_key("sandbox", Role.SANDBOX, request.param),
        health=generate_key("health", Role.DEPARTMENT, request.param),
        transport=generate_key("transport", Role.DEPARTMENT, request.param),
        agency=generate_key("agency", Role.AGENCY, request.param),
    )


def source(path: Path, rows: int = 300, *, broken: bool = False) -> CsvSource:
    lines = ["patient,days,note,secret"]
    lines += [f"P{n % 70}-{MARKER},{n % 15},{MARKER}-{n},{int(n % 50 == 0)}" for n in range(rows)]
    lines += ["P1,many,x,0"] if broken else []
    path.write_text("\n".join(lines) + "\n")
    return CsvSource(path, DESCRIPTION, Tokeniser(TOKENS), batch_rows=64)


def seal(tmp_path: Path, keys: SimpleNamespace, **changes: object) -> Path:
    out = tmp_path / "batch.sealed"
    chosen = {"recipient": keys.vault.public, "department": keys.health, "token_key": token_check(TOKENS), "at": AT}
    seal_batch(source(tmp_path / "rows.csv"), DESCRIPTION, out, **{**chosen, **changes})
    return out


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, keys: SimpleNamespace) -> bytes:
    return seal(tmp_path_factory.mktemp("batch"), keys).read_bytes()


def read(path: Path, keys: SimpleNamespace, vault: PrivateKey | None = None) -> list:
    vault = vault or keys.vault
    opened = open_batch(path, vault=vault.public, departments=[keys.health.public, keys.transport.public])
    return list(opened.rows(vault))


def refused(path: Path, keys: SimpleNamespace, vault: PrivateKey | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(path, keys, vault)
    assert caught.value.code.startswith("input.sealed_batch.")
    assert MARKER not in str(caught.value.to_dict())
    return caught.value.code.removeprefix("input.sealed_batch.")


def test_the_rows_come_out_as_they_went_in(tmp_path: Path, keys: SimpleNamespace) -> None:
    path = seal(tmp_path, keys)
    opened = open_batch(path, vault=keys.vault.public, departments=[keys.health.public])
    rows = list(opened.rows(keys.vault))
    assert rows == list(source(tmp_path / "again.csv"))
    assert opened.facts.department == keys.health.public
    assert opened.facts.description == DESCRIPTION
    assert opened.report["rows_sealed"] == sum(batch.num_rows for batch in rows) == 294
    assert opened.report["excluded"] == [{"column": "secret", "reason": "secret", "rows": 6}]
    assert opened.facts.frames == len(rows) + 1


def test_nothing_of_a_row_travels_in_clear(batch: bytes) -> None:
    assert MARKER.encode() not in batch
    assert b"rows_sealed" not in batch


def test_every_altered_byte_is_refused_by_name(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    path, seen = tmp_path / "altered", set()
    places = [*range(0, len(batch), 61), *range(60), *range(len(batch) - 400, len(batch), 3)]
    for place in places:
        changed = bytearray(batch)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(changed))
        seen.add(refused(path, keys))
    assert seen <= {"malformed", "truncated", "extended", "altered", "unknown_signer", "signature", "unsigned"}
    assert {"altered", "signature"} <= seen


def test_every_cut_is_refused_as_truncated(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    path = tmp_path / "cut"
    for length in [*range(0, len(batch), 97), len(batch) - 1]:
        path.write_bytes(batch[:length])
        assert refused(path, keys) == "truncated"


def test_what_is_no_batch_is_not_called_a_short_one(tmp_path: Path, keys: SimpleNamespace) -> None:
    path = tmp_path / "junk"
    for junk in (b"x", b"hello world", MAGIC[1:], b"PK" * 100):
        path.write_bytes(junk)
        assert refused(path, keys) == "malformed"
    path.unlink()
    with pytest.raises(FileFormatError, match="cannot be read") as caught:
        read(path, keys, None)
    assert (caught.value.code, caught.value.hint) == ("input.file.missing", "check the path")


def test_bytes_after_the_end_are_refused(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    path = tmp_path / "longer"
    for more in (b"\x00", batch):
        path.write_bytes(batch + more)
        assert refused(path, keys) == "extended"


def parts_of(batch: bytes) -> tuple[bytes, list[bytes], dict]:
    """Return the header's bytes with what stands before them, the frames with their lengths, and the trailer."""
    (length,) = struct.unpack_from(">I", batch, len(MAGIC))
    place = len(MAGIC) + 4 + length
    head, frames = batch[:place], []
    while (size := struct.unpack_from(">I", batch, place)[0]) > 0:
        frames.append(batch[place : place + 4 + size])
        place += 4 + size
    return head, frames, parse_canonical(batch[place + 8 :])


def whole(head: bytes, frames: list[bytes], trailer: dict) -> bytes:
    raw = canonical_bytes(trailer)
    return head + b"".join(frames) + bytes(4) + struct.pack(">I", len(raw)) + raw


def signed_again(head: bytes, frames: list[bytes], key: PrivateKey) -> bytes:
    """Return parts under a fresh signature, as a thief of the department's own key could make it."""
    from sandbox.model.digest import digest_of

    words = {"v": 1, "digest": digest_of(head + b"".join(frames) + bytes(4)), "frames": len(frames)}
    return whole(head, frames, words | {"signature": sign(key, SIGNING_CONTEXT, canonical_bytes(words)).to_record()})


def test_frames_dropped_swapped_or_repeated_are_refused(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    head, frames, trailer = parts_of(batch)
    assert whole(head, frames, trailer) == batch
    path = tmp_path / "frames"
    for changed in (frames[1:], frames[:-1], [frames[1], frames[0], *frames[2:]], [frames[0], *frames]):
        path.write_bytes(whole(head, changed, trailer))
        assert refused(path, keys) == "altered"
        path.write_bytes(signed_again(head, changed, keys.health))
        assert refused(path, keys) == "content"


def test_an_unsigned_batch_is_refused(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    head, frames, trailer = parts_of(batch)
    path = tmp_path / "unsigned"
    for bare in ({k: v for k, v in trailer.items() if k != "signature"}, trailer | {"signature": None}):
        path.write_bytes(whole(head, frames, bare))
        assert refused(path, keys) == "unsigned"


def test_a_batch_signed_by_somebody_else_is_refused(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    head, frames, _ = parts_of(batch)
    path = tmp_path / "other"
    path.write_bytes(signed_again(head, frames, keys.transport))
    assert refused(path, keys) == "signature"
    stranger = generate_key("stranger", Role.DEPARTMENT, keys.vault.public.suite)
    path = seal(tmp_path, keys, department=stranger)
    assert refused(path, keys) == "unknown_signer"


def test_only_a_department_signs_and_only_a_vault_receives(tmp_path: Path, keys: SimpleNamespace) -> None:
    for changes, code in (
        ({"department": keys.agency}, "unknown_signer"),
        ({"recipient": keys.health.public}, "recipient"),
    ):
        with pytest.raises(InputError) as caught:
            seal(tmp_path, keys, **changes)
        assert caught.value.code == f"input.sealed_batch.{code}"
        assert not (tmp_path / "batch.sealed").exists()


def test_a_batch_for_another_vault_is_refused(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(batch)
    assert refused(path, keys, keys.other_vault) == "recipient"


def test_an_envelope_from_another_batch_does_not_open(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    head, frames, _ = parts_of(batch)
    other = parse_canonical(parts_of(seal(tmp_path, keys).read_bytes())[0][len(MAGIC) + 4 :])
    header = canonical_bytes(parse_canonical(head[len(MAGIC) + 4 :]) | {"key": other["key"]})
    path = tmp_path / "mixed"
    path.write_bytes(signed_again(MAGIC + struct.pack(">I", len(header)) + header, frames, keys.health))
    assert refused(path, keys) == "content"


def test_a_source_that_is_refused_leaves_no_batch(tmp_path: Path, keys: SimpleNamespace) -> None:
    out = tmp_path / "batch.sealed"
    with pytest.raises(FileFormatError):
        seal_batch(
            source(tmp_path / "rows.csv", broken=True), DESCRIPTION, out,
            recipient=keys.vault.public, department=keys.health, token_key="0", at=AT,
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_two_batches_of_the_same_rows_share_nothing(tmp_path: Path, keys: SimpleNamespace, batch: bytes) -> None:
    again = seal(tmp_path, keys).read_bytes()
    assert parts_of(again)[1][0][4:36] != parts_of(batch)[1][0][4:36]
    assert len(again) == len(batch)


def test_a_token_key_is_for_one_department_one_dataset_and_from_one_vault(keys: SimpleNamespace) -> None:
    raw = issue_token_key(TOKENS, "clinic", keys.health.public, signer=keys.vault, at=AT)
    assert open_token_key(raw, "clinic", keys.health, keys.vault.public).secret == TOKENS
    assert TOKENS not in raw
    for dataset, key, vault in (
        ("census", keys.health, keys.vault),
        ("clinic", keys.transport, keys.vault),
        ("clinic", keys.health, keys.other_vault),
        ("clinic", keys.health, keys.agency),
    ):
        with pytest.raises(KeyUnavailableError) as caught:
            open_token_key(raw, dataset, key, vault.public)
        assert caught.value.code == "vault.key_unavailable.token_key"
    for place in range(0, len(raw), 11):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(KeyUnavailableError):
            open_token_key(bytes(changed), "clinic", keys.health, keys.vault.public)
