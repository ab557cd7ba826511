"""The transcript: every question and answer of a job, enough to run its program again without data.

The public part holds released answers only.  The sealed part (exact integers and noise, one item a question) is
encrypted to the auditor's key and travels beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError
from sandbox.model.blocks_question import BlocksQuestion
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes, parse_canonical, parse_canonical_release
from sandbox.model.digest import Digest, digest_of, parse_digest
from sandbox.model.question import Question

SEALING_CONTEXT = "saggar/transcript/1"
SEALED_DIGITS = 24
"""What an exact integer or its noise takes at most, with its sign: they are held within 64 bits."""

_INTEGER = re.compile(r"-?[0-9]{1,24}")
AnyQuestion = Question | BlocksQuestion


def parse_question(record: Any) -> AnyQuestion:
    """Return the question that a record writes: to SQL, or to blocks."""
    if isinstance(record, dict) and record.get("kind") == "blocks":
        return BlocksQuestion.parse(record)
    return Question.parse(record)


def question_words(question: AnyQuestion) -> str:
    """Return one line for people that says what was asked."""
    if isinstance(question, BlocksQuestion):
        names = ", ".join(output.name for output in question.outputs)
        return f"{question.statistic} over {question.blocks} blocks of `{question.table}`: {names}"
    return " ".join(question.sql.split())


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question that was answered.

    Attributes:
        question: what was asked.
        plan: the digest of the measurement plan.
        answer: the answer's record, as it was handed to the program.
    """

    question: AnyQuestion
    plan: Digest
    answer: dict[str, Any]

    def to_record(self) -> dict[str, Any]:
        """Return the exchange as a record with floats."""
        return {"question": self.question.to_record(), "plan": self.plan, "answer": self.answer}


@dataclass(frozen=True, slots=True)
class Transcript:
    """What happened between a program and the engine.

    Attributes:
        job: the job's digest.
        code: the code's digest.
        seed: 64 hex digits, the program's entropy; derived from the job and so public.
        exchanges: in order.
        refusals: how many questions were refused (they cost nothing and told nothing about data).
        outputs: what the program handed over, before the gate.
        guest: versions of what ran it.
        sealed: key id of an auditor -> digest of the sealed part encrypted to that key.
    """

    job: Digest
    code: Digest
    seed: str
    exchanges: tuple[Exchange, ...]
    refusals: tuple[dict[str, Any], ...]
    outputs: dict[str, Any]
    guest: dict[str, str]
    sealed: dict[str, str]

    def to_record(self) -> dict[str, Any]:
        """Return the transcript as a record with floats."""
        return {
            "v": 1,
            "job": self.job,
            "code": self.code,
            "seed": self.seed,
            "exchanges": [exchange.to_record() for exchange in self.exchanges],
            "refusals": list(self.refusals),
            "outputs": self.outputs,
            "guest": self.guest,
            "sealed": self.sealed,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical_release_bytes(self.to_record())

    def digest(self) -> Digest:
        """Return the digest of the canonical bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def parse(cls, raw: bytes) -> Transcript:
        """Return the transcript that canonical bytes write."""
        record = parse_canonical_release(raw)
        try:
            transcript = cls(
                job=parse_digest(record["job"]),
                code=parse_digest(record["code"]),
                seed=record["seed"],
                exchanges=tuple(
                    Exchange(parse_question(item["question"]), parse_digest(item["plan"]), item["answer"])
                    for item in record["exchanges"]
                ),
                refusals=tuple(record["refusals"]),
                outputs=record["outputs"],
                guest=record["guest"],
                sealed={key_id: parse_digest(digest) for key_id, digest in record["sealed"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CanonicalError("a transcript is malformed", hint="see docs/reference/transcript.md") from error
        if transcript.to_bytes() != raw:
            raise CanonicalError("a transcript has unknown fields", hint="see docs/reference/transcript.md")
        return transcript


def padded_secret(secret: dict[str, Any]) -> bytes:
    """Return the canonical bytes of what is sealed, followed by spaces, so that no integer shows by its digits.

    An envelope shows the length of what it holds, and a bundle is handed to people who may not open it: without this a
    total of 0 and one of a million would be told apart by six bytes.  What else decides the length is released: how
    many cells, their keys, the profile.
    """
    return canonical_bytes(secret) + b" " * _missing_digits(secret)


def parse_secret(raw: bytes) -> dict[str, Any]:
    """Return what `padded_secret` wrote.

    Raises:
        CanonicalError: it is no canonical record followed by the spaces that belong to it.
    """
    secret = parse_canonical(raw.rstrip(b" "))
    if not isinstance(secret, dict) or padded_secret(secret) != raw:
        raise CanonicalError("a sealed part is not padded", hint="it is written by `padded_secret`")
    return secret


def _missing_digits(record: object) -> int:
    if isinstance(record, str):
        return SEALED_DIGITS - len(record) if _INTEGER.fullmatch(record) else 0
    if isinstance(record, dict):
        return sum(_missing_digits(value) for value in record.values())
    return sum(_missing_digits(value) for value in record) if isinstance(record, list) else 0
