"""A share that nobody finds any more: what custodians sign of it, so that an epoch can still be closed.

A lost share cannot be destroyed, and its holder may be gone too.  Either the holder signs that it is lost, as they
would sign that it is destroyed; or, in their stead, as many custodians of the same ceremony as its threshold.  That
gives these no new power: so many of them bring the old master key back anyway.

It claims less than a destroyed share.  Whoever finds it and its holder's private key, to which it is sealed, has a
share again; the record of the closed epoch therefore carries the declaration, and its verification names the holders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.share_words import LOST, share_words, sign_words, verify_words
from sandbox.errors import InputError, SaggarError, VaultError
from sandbox.model.canonical import parse_canonical
from sandbox.model.keys import PublicKey, Signature


@dataclass(frozen=True, slots=True)
class LostShare:
    """The word of custodians that a share is lost.

    Attributes:
        ceremony, index: which share.
        custodian, key_id: who held it.
        at: when it was declared, UTC.
        signatures: of the holder, or of as many custodians of the ceremony as its threshold.
    """

    ceremony: str
    index: int
    custodian: str
    key_id: str
    at: str
    signatures: tuple[Signature, ...]

    def words(self) -> dict[str, Any]:
        """Return what is signed, as a canonical record."""
        return share_words(
            LOST,
            ceremony=self.ceremony,
            index=self.index,
            custodian=self.custodian,
            key_id=self.key_id,
            at=self.at,
        )

    def to_record(self) -> dict[str, Any]:
        """Return the declaration with its signatures."""
        return {"lost": self.words(), "signatures": [each.to_record() for each in self.signatures]}

    @classmethod
    def parse(cls, raw: bytes, *, name: str) -> LostShare:
        """Return the declaration that a file holds; its signatures are not checked yet.

        Raises:
            VaultError: it is none (`vault.custody.lost`); the message carries `name`.
        """
        try:
            stored = parse_canonical(raw)
            words = stored["lost"]
            signatures = tuple(Signature.parse(each) for each in stored["signatures"])
            found = cls(words["ceremony"], words["index"], words["custodian"], words["key"], words["at"], signatures)
            well_formed = found.to_record() == stored
        except (SaggarError, KeyError, TypeError) as error:
            raise _refused(f"`{name}` is damaged or no declaration of a lost share", file=name) from error
        if not well_formed:
            raise _refused(f"`{name}` is damaged or no declaration of a lost share", file=name)
        return found


def find_share(ceremonies: Sequence[Mapping[str, Any]], custodian: str, ceremony: str | None) -> Mapping[str, Any]:
    """Return the one ceremony in which a custodian got a share that is out.

    Args:
        ceremonies: the record of what is out.
        custodian: the holder's name.
        ceremony: its number or the beginning of it; None where there is one only.

    Raises:
        InputError: there is none, or there are several (`input.custody`).
    """
    held = [c for c in ceremonies if any(holder["name"] == custodian for holder in c["custodians"])]
    found = [c for c in held if ceremony is None or (len(ceremony) >= 8 and c["ceremony"].startswith(ceremony))]
    if len(found) != 1:
        named = ", ".join(c["ceremony"][:12] for c in held)
        raise InputError(
            f"`{custodian}` holds {len(found) or 'no'} share{'s' if len(found) > 1 else ''} of such a ceremony",
            hint=f"name one with `--ceremony`: {named}"
            if held
            else "name a custodian of a ceremony since the last closed epoch",
            code="input.custody",
        )
    return found[0]


def declare_lost(ceremony: Mapping[str, Any], custodian: str, signers: Sequence[PrivateKey], *, at: str) -> LostShare:
    """Return the signed declaration that a custodian's share of a ceremony is lost.

    Raises:
        VaultError: these signers do not suffice (`vault.custody.lost`).
    """
    holder = next(each for each in ceremony["custodians"] if each["name"] == custodian)
    unsigned = LostShare(ceremony["ceremony"], holder["index"], custodian, holder["key"], at, ())
    _check_signers(unsigned, {key.public.key_id for key in signers}, ceremony)
    signatures = tuple(sign_words(key, unsigned.words()) for key in signers)
    return LostShare(unsigned.ceremony, unsigned.index, custodian, unsigned.key_id, at, signatures)


def check_lost(lost: LostShare, ceremony: Mapping[str, Any], keys: Mapping[str, PublicKey]) -> None:
    """Refuse a declaration that is not signed by those whose word suffices.

    Args:
        lost: the declaration.
        ceremony: the record of its ceremony.
        keys: the registered custodians' keys, by id.

    Raises:
        VaultError: a signature does not hold, or too few signed (`vault.custody.lost`).
    """
    for signature in lost.signatures:
        key = keys.get(signature.key_id)
        try:
            if key is None:
                raise _refused(f"the declaration that the share of `{lost.custodian}` is lost is signed by a stranger")
            verify_words(key, lost.words(), signature)
        except SaggarError as error:
            raise _refused(
                f"the declaration that the share of `{lost.custodian}` is lost does not hold", custodian=lost.custodian
            ) from error
    _check_signers(lost, {signature.key_id for signature in lost.signatures}, ceremony)


def _check_signers(lost: LostShare, signers: set[str], ceremony: Mapping[str, Any]) -> None:
    others = signers & {holder["key"] for holder in ceremony["custodians"]}
    if lost.key_id not in signers and len(others) < ceremony["threshold"]:
        raise _refused(
            f"{len(others)} custodians of ceremony `{lost.ceremony[:12]}` say that the share of `{lost.custodian}` is "
            f"lost, and {ceremony['threshold']} are needed",
            custodian=lost.custodian,
        )


def _refused(message: str, **details: str) -> VaultError:
    return VaultError(
        message,
        hint="its holder signs it, or as many custodians of that ceremony as bring the key back: "
        "`saggar keys declare-lost`",
        code="vault.custody.lost",
        **details,
    )
