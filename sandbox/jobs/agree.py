"""Agree: a document signed by its two parties becomes a rule that gates every job."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.crypto.signing import verify_signature
from sandbox.errors import PolicyError, SignatureError
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import publish
from sandbox.jobs.registry import description_of
from sandbox.model.agreement import SIGNING_CONTEXT, Agreement, SignedAgreement
from sandbox.model.canonical import canonical_bytes
from sandbox.model.entry import EntryKind
from sandbox.model.keys import PublicKey, Role


def register_agreement(engine: Engine, signed: SignedAgreement) -> None:
    """Log an agreement once both parties' signatures hold and its terms fit what exists.

    Raises:
        SignatureError: a party has not signed, or signed other terms, or may not sign.
        PolicyError: the term is over, or a column or dataset does not exist.
    """
    agreement = signed.agreement
    check_parties(signed, engine.state().keys)
    if engine.clock.now() >= agreement.not_after:
        raise PolicyError(
            f"agreement `{agreement.agreement}` ended at {agreement.not_after}",
            hint="sign a new agreement with a term that is still to run",
            code="policy.expired.agreement",
        )
    _check_grants(engine, agreement)
    engine.documents.put(canonical_bytes(agreement.to_record()))
    document = engine.documents.put(canonical_bytes(signed.to_record()))
    body = {
        "agreement": document,
        "name": agreement.agreement,
        "operator": agreement.operator,
        "agency": agreement.agency,
        "not_before": agreement.not_before,
        "not_after": agreement.not_after,
        "grants": [grant.to_record() for grant in agreement.grants],
    }
    engine.append(EntryKind.AGREEMENT_REGISTERED, body)
    publish(engine)


def check_parties(signed: SignedAgreement, keys: Mapping[str, PublicKey]) -> None:
    """Raise unless the operator and the agency that the terms name have both signed these very terms.

    Args:
        signed: the terms and signatures.
        keys: who is known, by key id.
    """
    agreement = signed.agreement
    message = canonical_bytes(agreement.to_record())
    by_key = {signature.key_id: signature for signature in signed.signatures}
    for party, role in ((agreement.operator, Role.OPERATOR), (agreement.agency, Role.AGENCY)):
        key = keys.get(party)
        if key is None or key.role is not role:
            raise SignatureError(
                f"the agreement names key `{party}` as {role.value}, which is not registered as one",
                hint="register the party's public key with `saggar keys add`",
            )
        signature = by_key.get(party)
        if signature is None:
            raise SignatureError(
                f"the {role.value} `{key.name}` has not signed agreement `{agreement.agreement}`",
                hint="sign it with `saggar agree sign FILE --as NAME`",
                code="policy.signature.missing",
            )
        verify_signature(key, SIGNING_CONTEXT, message, signature)


def _check_grants(engine: Engine, agreement: Agreement) -> None:
    for grant in agreement.grants:
        description = description_of(engine, grant.dataset)
        known = {column.name for column in description.columns} | {description.unit.column}
        unknown = [column for column in grant.columns if column not in known]
        if unknown:
            raise PolicyError(
                f"the agreement grants column `{unknown[0]}`, which dataset `{grant.dataset}` does not have",
                hint=f"its columns are {', '.join(sorted(known))}",
                code="policy.grant_unknown_column",
            )
