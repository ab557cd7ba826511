"""Custody: the master key in the hands of several people, of whom a few together can bring it back.

The master key is cut into blocks of 16 bytes (one for gm, two for intl) and each block is shared by Shamir's scheme
over GF(2^128), so any `threshold` shares give it back and the points of fewer tell nothing of it.  Shamir's scheme
itself does not notice a wrong share, so each share is

- sealed to its custodian's public key: the file can travel and lie anywhere;
- signed by the sandbox, with its number, ceremony and holder: an altered share is named before it is used;
- bound to a check value of its own content, and the whole to a check value of the key (KCV), compared after combining;
  both are 128 bits of an HMAC keyed by what they check, so they let nobody find it by less than trying all keys.

Source: Shamir 1979, "How to share a secret"; the implementation is pycryptodome's.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from Crypto.Protocol.SecretSharing import Shamir

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.envelope import open_sealed, seal_to
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.crypto.suites import suite as suite_of
from sandbox.errors import InputError, KeyUnavailableError, SaggarError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName, decode_base64
from sandbox.vault.masters import MasterKey, MasterRing, check_value

SIGNING_CONTEXT = "saggar/custody-share/1"
MAX_CUSTODIANS = 32
_BLOCK = 16
_FIELDS = frozenset(
    {
        *("v", "kind", "ceremony", "master", "version", "suite", "threshold", "shares", "index"),
        *("custodian", "key", "kcv", "check", "at", "sealed"),
    }
)


@dataclass(frozen=True, slots=True)
class Share:
    """One custodian's share, sealed.

    Attributes:
        ceremony: 32 hexadecimal digits that all shares of one splitting carry.
        master, version: the id and version of the master key that was split.
        suite: the suite of the vault's keys.
        threshold: how many shares bring the key back.
        shares: how many there are.
        index: this share's number, from 1.
        custodian, key_id: who holds it.
        kcv: the check value of the master key.
        check: the check value of this share.
        at: when it was made, UTC.
        sealed: the share itself, sealed to the custodian.
        signature: the sandbox's, over all of this.
    """

    ceremony: str
    master: str
    version: int
    suite: SuiteName
    threshold: int
    shares: int
    index: int
    custodian: str
    key_id: str
    kcv: str
    check: str
    at: str
    sealed: bytes
    signature: Signature

    def words(self) -> dict[str, Any]:
        """Return what is signed, as a canonical record."""
        return {
            "v": 1,
            "kind": "saggar.share",
            "ceremony": self.ceremony,
            "master": self.master,
            "version": self.version,
            "suite": self.suite.value,
            "threshold": self.threshold,
            "shares": self.shares,
            "index": self.index,
            "custodian": self.custodian,
            "key": self.key_id,
            "kcv": self.kcv,
            "check": self.check,
            "at": self.at,
            "sealed": base64.b64encode(self.sealed).decode(),
        }

    def to_bytes(self) -> bytes:
        """Return the share as its file."""
        return canonical_bytes({"share": self.words(), "signature": self.signature.to_record()})

    @classmethod
    def parse(cls, raw: bytes, *, name: str) -> Share:
        """Return the share that a file holds; its signature is not checked yet.

        Raises:
            VaultError: it is no share (`vault.custody.share`); the message carries `name`.
        """
        try:
            stored = parse_canonical(raw)
            words, signature = stored["share"], Signature.parse(stored["signature"])
            share = cls(
                ceremony=words["ceremony"],
                master=words["master"],
                version=words["version"],
                suite=SuiteName(words["suite"]),
                threshold=words["threshold"],
                shares=words["shares"],
                index=words["index"],
                custodian=words["custodian"],
                key_id=words["key"],
                kcv=words["kcv"],
                check=words["check"],
                at=words["at"],
                sealed=decode_base64(words["sealed"]),
                signature=signature,
            )
        except (SaggarError, KeyError, TypeError, ValueError) as error:
            raise _damaged(raw, name) from error
        if set(words) != _FIELDS or share.words() != words or set(stored) != {"share", "signature"}:
            raise _damaged(raw, name)
        return share


@dataclass(frozen=True, slots=True)
class OpenedShare:
    """A share with its content, as it lies on the table during a ceremony."""

    share: Share
    content: bytes = field(repr=False)


def split_master(
    ring: MasterRing, custodians: Sequence[PublicKey], *, threshold: int, signer: PrivateKey, at: str
) -> tuple[Share, ...]:
    """Return the shares of the master key in force, one a custodian.

    Args:
        ring: the master keys; only the one in force is split.
        custodians: who gets a share, in order; their keys have the role `custodian`.
        threshold: how many shares bring the key back, 2 or more.
        signer: the sandbox's key.
        at: UTC time.

    Raises:
        InputError: the numbers or the custodians will not do (`input.custody`).
    """
    check_custodians(custodians, threshold)
    suite, master = suite_of(ring.suite), ring.primary
    blocks = [master.secret[start : start + _BLOCK] for start in range(0, len(master.secret), _BLOCK)]
    dealt = [Shamir.split(threshold, len(custodians), block) for block in blocks]
    ceremony, kcv = random_bytes(16).hex(), check_value(suite, master.secret)
    shares = []
    for place, custodian in enumerate(custodians):
        content = b"".join(block[place][1] for block in dealt)
        index = dealt[0][place][0]
        unsigned = Share(
            ceremony=ceremony,
            master=master.key_id,
            version=master.version,
            suite=ring.suite,
            threshold=threshold,
            shares=len(custodians),
            index=index,
            custodian=custodian.name,
            key_id=custodian.key_id,
            kcv=kcv,
            check=_share_check(ring.suite, content),
            at=at,
            sealed=seal_to(custodian, content, _context(ceremony, index)),
            signature=Signature("", b""),
        )
        signature = sign(signer, SIGNING_CONTEXT, canonical_bytes(unsigned.words()))
        shares.append(replace(unsigned, signature=signature))
    return tuple(shares)


def verify_share(share: Share, trusted: Sequence[PublicKey]) -> None:
    """Refuse a share that a trusted sandbox key did not sign; the error names its holder."""
    name = share.custodian
    key = next((k for k in trusted if k.key_id == share.signature.key_id and k.role is Role.SANDBOX), None)
    if key is None:
        raise wrong_share(name, "is signed by a key that is not the sandbox's")
    try:
        verify_signature(key, SIGNING_CONTEXT, canonical_bytes(share.words()), share.signature)
    except SaggarError as error:
        raise wrong_share(name, "was altered: its signature does not hold") from error


def open_share(share: Share, key: PrivateKey) -> OpenedShare:
    """Return a share opened by its custodian.

    Raises:
        VaultError: it is another custodian's, or was altered, or holds something else than was dealt.
    """
    if key.public.key_id != share.key_id:
        raise wrong_share(share.custodian, f"cannot be opened by `{key.public.name}`")
    try:
        content = open_sealed(key, share.sealed, _context(share.ceremony, share.index))
    except SaggarError as error:
        raise wrong_share(share.custodian, "does not open with its custodian's key") from error
    opened = OpenedShare(share, content)
    _check_content(opened)
    return opened


def combine_shares(opened: Sequence[OpenedShare]) -> MasterRing:
    """Return the master key that the shares give, after its check value was compared.

    Raises:
        VaultError: a share is of another ceremony or not what was dealt (`vault.custody.share`, which names it); there
            are too few (`vault.key_unavailable.shares`); the key does not have the check value (`.check_value`).
    """
    if not opened:
        raise _too_few(0, 2)
    first = opened[0].share
    distinct: dict[int, OpenedShare] = {}
    for each in opened:
        if each.share.ceremony != _commonest([one.share.ceremony for one in opened]):
            raise wrong_share(each.share.custodian, "is of another ceremony than the others")
        _check_content(each)
        distinct[each.share.index] = each
    first = next(iter(distinct.values())).share
    if len(distinct) < first.threshold:
        raise _too_few(len(distinct), first.threshold)
    chosen = list(distinct.values())[: first.threshold]
    length = len(chosen[0].content)
    secret = b"".join(
        Shamir.combine([(each.share.index, each.content[start : start + _BLOCK]) for each in chosen])
        for start in range(0, length, _BLOCK)
    )
    if not hmac.compare_digest(check_value(suite_of(first.suite), secret), first.kcv):
        raise VaultError(
            "the shares do not give the key whose check value they carry",
            hint="each is as it was signed, so they were dealt wrongly; use the shares of another ceremony",
            code="vault.custody.check_value",
            custodians=[each.share.custodian for each in chosen],
        )
    return MasterRing(first.suite, (MasterKey(first.master, first.version, secret),))


def check_custodians(custodians: Sequence[PublicKey], threshold: int) -> None:
    """Refuse a splitting that could not protect or could not bring back."""
    count = len(custodians)
    if not 2 <= threshold <= count <= MAX_CUSTODIANS:
        raise InputError(
            f"{count} custodians with a threshold of {threshold} is not a splitting",
            hint=f"choose a threshold of 2 or more, and as many custodians or more, at most {MAX_CUSTODIANS}",
            code="input.custody",
        )
    if len({key.key_id for key in custodians}) < count:
        raise InputError("a custodian is named twice", hint="each share goes to another person", code="input.custody")
    for key in custodians:
        if key.role is not Role.CUSTODIAN:
            raise InputError(
                f"`{key.name}` is registered as {key.role.value} and cannot hold a share",
                hint="make a key with `saggar keys new NAME --role custodian`",
                code="input.custody",
            )


def wrong_share(name: str, happened: str) -> VaultError:
    """Return the error that names a wrong share."""
    return VaultError(
        f"the share of `{name}` {happened}",
        hint=f"leave it out and ask `{name}` for the share of this ceremony, or take another custodian's",
        code="vault.custody.share",
        custodian=name,
    )


def _damaged(raw: bytes, file: str) -> VaultError:
    """Return the error of a file that is no share, with its holder if the file still says who that is."""
    told = re.search(rb'"custodian":"([^"\\]{1,64})"', raw)
    if told is not None:
        return wrong_share(told[1].decode("utf-8", "replace"), f"in `{file}` is damaged")
    return VaultError(
        f"the share of `{file}` is damaged or no share at all",
        hint=f"leave it out and ask whoever brought `{file}` for the share of this ceremony, or take another "
        "custodian's",
        code="vault.custody.share",
        file=file,
    )


def _check_content(opened: OpenedShare) -> None:
    share = opened.share
    right_length = len(opened.content) == suite_of(share.suite).key_bytes
    if not right_length or not hmac.compare_digest(_share_check(share.suite, opened.content), share.check):
        raise wrong_share(share.custodian, "is not the one that was dealt")


def _share_check(suite: SuiteName, content: bytes) -> str:
    return suite_of(suite).mac(content, b"saggar/share-check/1")[:_BLOCK].hex()


def _commonest(values: Sequence[str]) -> str:
    return max(values, key=values.count)


def _context(ceremony: str, index: int) -> str:
    return f"saggar/custody-share/{ceremony}/{index}"


def _too_few(found: int, threshold: int) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"{found} shares of {threshold} that are needed",
        hint="fewer than the threshold tell nothing of the key; ask more custodians to come",
        code="vault.key_unavailable.shares",
        found=found,
        threshold=threshold,
    )
