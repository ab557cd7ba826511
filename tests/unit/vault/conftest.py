"""What the vault's tests share: one dataset, its rows, and open vaults."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.keyring import Keyring
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.store import Vault

AT = "2027-01-31T08:00:00Z"


def column(name: str, kind: ColumnKind, *, nullable: bool = False, **bounds: int) -> Column:
    lower, upper = bounds.get("lower"), bounds.get("upper")
    return Column(
        name=name,
        source=name,
        kind=kind,
        label_en=name,
        label_zh=name,
        classification="L3",
        nullable=nullable,
        null_values=(),
        lower=None if lower is None else Fraction(lower),
        upper=None if upper is None else Fraction(upper),
        resolution=Fraction(1, 100) if kind is ColumnKind.DECIMAL else None,
        domain=None,
    )


def describe(*columns: Column, dataset: str = "hospital", max_rows: int = 1_000_000) -> DatasetDescription:
    return DatasetDescription(
        dataset=dataset,
        table="encounters",
        label_en="Encounters",
        label_zh="就诊记录",
        department_zh="卫健委",
        catalogue_id="C-1",
        unit=PrivacyUnit("patient", "patient_id", "患者"),
        bound=ContributionBound(5, 5),
        columns=columns,
        exclusions=(),
        max_broken_share=Fraction(1, 100),
        budget=PrivacyLoss(Fraction(1)),
        max_rows=max_rows,
    )


COLUMNS = (
    column("age", ColumnKind.INTEGER, lower=0, upper=120),
    column("cost", ColumnKind.DECIMAL, nullable=True, lower=0, upper=1_000_000),
    column("day", ColumnKind.DATE, lower=0, upper=40_000),
    column("urgent", ColumnKind.BOOLEAN, nullable=True),
    column("district", ColumnKind.CATEGORY),
    column("note", ColumnKind.TEXT, nullable=True),
)


def make_batches(rows: int, *, seed: int = 1, size: int = 500) -> list[pa.RecordBatch]:
    """Return rows of about `rows / 5` units in batches."""
    draw = np.random.default_rng(seed)
    units = draw.integers(-(2**63), 2**63 - 1, size=max(1, rows // 5))
    table = pa.table(
        {
            "_unit": pa.array(draw.choice(units, size=rows)),
            "age": pa.array(draw.integers(0, 121, rows)),
            "cost": pa.array(draw.integers(0, 10**8, rows), mask=draw.random(rows) < 0.1),
            "day": pa.array(draw.integers(18_000, 20_000, rows).astype("i4")).cast(pa.date32()),
            "urgent": pa.array(draw.random(rows) < 0.3, mask=draw.random(rows) < 0.2),
            "district": pa.array([("海淀区", "朝阳区", "西城区")[i] for i in draw.integers(0, 3, rows)], pa.string()),
            "note": pa.array([f"note-{i:09d}" if i % 7 else None for i in draw.integers(0, 10**9, rows)], pa.string()),
        }
    )
    return table.to_batches(max_chunksize=size)


def row_multiset(tables: list[pa.Table]) -> list[tuple[object, ...]]:
    """Return the rows without ranks, sorted."""
    rows = [tuple(row.values()) for table in tables for row in table.drop_columns(["_rank"]).to_pylist()]
    return sorted(rows, key=repr)


def source_multiset(batches: list[pa.RecordBatch]) -> list[tuple[object, ...]]:
    return sorted((tuple(row.values()) for batch in batches for row in batch.to_pylist()), key=repr)


@pytest.fixture
def description() -> DatasetDescription:
    return describe(*COLUMNS)


@pytest.fixture(params=list(SuiteName), ids=str)
def suite_name(request: pytest.FixtureRequest) -> SuiteName:
    return request.param


@pytest.fixture(scope="session")
def signers() -> dict[SuiteName, PrivateKey]:
    return {name: generate_key(f"box-{name}", Role.SANDBOX, name) for name in SuiteName}


@pytest.fixture(scope="session")
def empty_vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """One vault for all tests to copy, since stretching a passphrase takes a tenth of a second."""
    return Vault.create(tmp_path_factory.mktemp("template") / "vault", passphrase="open sesame", suite=SuiteName.GM)


@pytest.fixture
def vault(empty_vault: Vault, tmp_path: Path) -> Vault:
    shutil.copytree(empty_vault._directory, tmp_path / "vault")
    made = empty_vault._keyring
    keyring = Keyring(LocalBlobStore(tmp_path / "vault" / "keys"), made.ring)
    return Vault(tmp_path / "vault", keyring, LocalBlobStore(tmp_path / "vault" / "blobs"))


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The helpers of this file, for test files that cannot import it."""
    return SimpleNamespace(
        at=AT,
        columns=COLUMNS,
        column=column,
        describe=describe,
        make_batches=make_batches,
        row_multiset=row_multiset,
        source_multiset=source_multiset,
    )


@pytest.fixture
def seal(
    vault: Vault,
    description: DatasetDescription,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
) -> Callable[..., SnapshotManifest]:
    def sealing(batches: object, name: SuiteName = SuiteName.INTL, **more: object) -> SnapshotManifest:
        options = {"signer": signers[name], "owner": "health-commission", "at": tools.at, **more}
        return vault.seal(options.pop("description", description), batches, suite=name, **options)

    return sealing


@pytest.fixture
def trusted(signers: dict[SuiteName, PrivateKey]) -> list[object]:
    return [key.public for key in signers.values()]
