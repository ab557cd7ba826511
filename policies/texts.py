"""The texts of the policy set that this version carries, read once, at import, from the package itself."""

from __future__ import annotations

from importlib import resources

CLAUSES = "clauses.cedar"
SCHEMA = "schema.cedarschema"
SENTENCES = "clauses.yaml"
NAMES = (CLAUSES, SENTENCES, SCHEMA)

CURRENT: tuple[tuple[str, str], ...] = tuple(
    (name, resources.files("policies").joinpath(name).read_text(encoding="utf-8")) for name in NAMES
)
