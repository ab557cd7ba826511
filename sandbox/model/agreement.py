"""The agreement: what an operator may do, with which columns, for how long, at what loss.

A document of plain terms, signed by every party over the same canonical bytes.  It is never amended: a change is a new
agreement that names the one it follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.errors import DescriptionError
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.keys import Signature
from sandbox.model.loss import PrivacyLoss

SIGNING_CONTEXT = "saggar/agreement/1"


@dataclass(frozen=True, slots=True)
class DatasetGrant:
    """One dataset of an agreement: the columns that may be asked about, and the loss that may be spent.

    Attributes:
        dataset: the dataset's identifier.
        columns: names of columns, sorted.
        budget: the loss this agreement may spend on the dataset over its term.
        job_limit: the loss that one job may ask for.
    """

    dataset: str
    columns: tuple[str, ...]
    budget: PrivacyLoss
    job_limit: PrivacyLoss

    def to_record(self) -> dict[str, Any]:
        """Return the grant as a canonical record."""
        return {
            "dataset": self.dataset,
            "columns": list(self.columns),
            "budget": self.budget.to_record(),
            "job_limit": self.job_limit.to_record(),
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """The terms that the parties sign.

    Attributes:
        agreement: a short name that people use (`hospital-2026`), unique in a ledger.
        title_en, title_zh: for people.
        operator, agency: key ids of the two parties.
        not_before, not_after: the term, UTC, `YYYY-MM-DDTHH:MM:SSZ`; the end is exclusive; at most five years.
        purposes: the purposes that jobs may name (`public-governance`).
        products: the products that jobs may name (`P08`).
        grants: the datasets.
        follows: the digest of the agreement it replaces, or None.
    """

    agreement: str
    title_en: str
    title_zh: str
    operator: str
    agency: str
    not_before: str
    not_after: str
    purposes: tuple[str, ...]
    products: tuple[str, ...]
    grants: tuple[DatasetGrant, ...]
    follows: Digest | None = None

    def grant(self, dataset: str) -> DatasetGrant | None:
        """Return the grant for `dataset`, or None."""
        return next((grant for grant in self.grants if grant.dataset == dataset), None)

    def to_record(self) -> dict[str, Any]:
        """Return the terms as a canonical record; these bytes are what is signed."""
        return {
            "v": 1,
            "agreement": self.agreement,
            "title": {"en": self.title_en, "zh": self.title_zh},
            "operator": self.operator,
            "agency": self.agency,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "purposes": list(self.purposes),
            "products": list(self.products),
            "grants": [grant.to_record() for grant in self.grants],
            "follows": self.follows,
        }

    def digest(self) -> Digest:
        """Return the digest of the terms."""
        return digest_of_record(self.to_record())

    @classmethod
    def parse(cls, record: object) -> Agreement:
        """Return the agreement that a canonical record writes; strict about its fields."""
        try:
            if not isinstance(record, dict) or record.get("v") != 1:
                raise KeyError("v")
            agreement = cls(
                agreement=record["agreement"],
                title_en=record["title"]["en"],
                title_zh=record["title"]["zh"],
                operator=record["operator"],
                agency=record["agency"],
                not_before=record["not_before"],
                not_after=record["not_after"],
                purposes=tuple(record["purposes"]),
                products=tuple(record["products"]),
                grants=tuple(
                    DatasetGrant(
                        grant["dataset"],
                        tuple(grant["columns"]),
                        PrivacyLoss.parse(grant["budget"]),
                        PrivacyLoss.parse(grant["job_limit"]),
                    )
                    for grant in record["grants"]
                ),
                follows=record["follows"],
            )
        except (KeyError, TypeError) as error:
            raise DescriptionError(
                "an agreement record is malformed", hint="see docs/reference/agreement.md"
            ) from error
        if agreement.to_record() != record:
            raise DescriptionError("an agreement record has unknown fields", hint="see docs/reference/agreement.md")
        return agreement


@dataclass(frozen=True, slots=True)
class SignedAgreement:
    """An agreement with the signatures of its parties over `canonical_bytes(agreement.to_record())`."""

    agreement: Agreement
    signatures: tuple[Signature, ...]

    def to_record(self) -> dict[str, Any]:
        """Return `{"agreement": …, "signatures": […]}`."""
        return {
            "agreement": self.agreement.to_record(),
            "signatures": [signature.to_record() for signature in self.signatures],
        }

    @classmethod
    def parse(cls, record: object) -> SignedAgreement:
        """Return the signed agreement that a record writes."""
        if not isinstance(record, dict) or set(record) != {"agreement", "signatures"}:
            raise DescriptionError("a signed agreement is malformed", hint="see docs/reference/agreement.md")
        return cls(
            Agreement.parse(record["agreement"]),
            tuple(Signature.parse(signature) for signature in record["signatures"]),
        )
