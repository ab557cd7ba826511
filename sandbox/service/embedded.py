"""The trusted side in this process: how a laptop and a notebook connect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox.client.city import Asked, City
from sandbox.crypto.entropy import random_bytes
from sandbox.jobs.line import run_job
from sandbox.jobs.question_job import question_job
from sandbox.jobs.quoting import quote_job
from sandbox.jobs.registry import agreement_of, tables_of
from sandbox.jobs.rehearse import rehearse_job
from sandbox.jobs.specify import specify
from sandbox.jobs.stages import SignedJob
from sandbox.ledger.verify import Trusted
from sandbox.model.description import DatasetDescription
from sandbox.model.job import JobSpec
from sandbox.model.keys import Role, Signature
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service.compose import open_engine, open_records, unlock_named


class EmbeddedTransport:
    """Opens the state directory for each call and closes it again, so that others can use it in between.

    Args:
        state: the state directory.
        passphrase: of the sandbox's key and vault.
        agreement: the agreement's name, or None where there is one only.
        wait_s: how long to wait for another process, in seconds.
    """

    def __init__(self, state: Path, passphrase: str, agreement: str | None, wait_s: float = 30.0) -> None:
        self._state, self._passphrase, self._agreement, self._wait_s = state, passphrase, agreement, wait_s

    def trusted(self) -> Trusted:
        """Return the registered sandbox and witness keys."""
        with open_records(self._state) as records:
            return Trusted(records.state().origin, records.trusted(Role.SANDBOX), records.trusted(Role.WITNESS))

    def descriptions(self) -> list[DatasetDescription]:
        """Return the sealed datasets' descriptions."""
        with open_records(self._state) as records:
            return list(tables_of(records).values())

    def specify(self, asked: Asked) -> JobSpec:
        """Return the spec that the question stands for today."""
        with open_records(self._state) as records:
            job = question_job(records, asked.epsilon, asked.delta, self._agreement, asked.rows)
            return specify(records, job, asked.sql, nonce=random_bytes(8).hex() if asked.again else None)

    def quote(self, spec: JobSpec, code: str) -> dict[str, Any]:
        """Return the quote's record."""
        with open_records(self._state) as records:
            operator = agreement_of(records, spec.agreement).agreement.operator
            return quote_job(records, spec, code, operator=operator).to_record()

    def rehearse(self, spec: JobSpec, code: str) -> dict[str, Any]:
        """Return the record of the job's rehearsal on made-up rows."""
        with open_records(self._state) as records:
            operator = agreement_of(records, spec.agreement).agreement.operator
            return rehearse_job(records, spec, code, operator=operator, noise=OpenDpNoise()).to_record()

    def run(self, spec: JobSpec, code: str, signature: Signature) -> tuple[bytes, str]:
        """Return the release's bytes and its receipt."""
        with open_engine(self._state, passphrase=self._passphrase, purpose="notebook", wait_s=self._wait_s) as engine:
            released = run_job(engine, SignedJob(spec, code, signature))
            return released.raw, released.receipt


def connect(state: str | Path, *, key: str, passphrase: str, agreement: str | None = None) -> City:
    """Return a city to ask, with everything in this process.

    Args:
        state: the state directory.
        key: the operator's key name.
        passphrase: of that key and of the sandbox's.
        agreement: the agreement's name, or None where there is one only.

    Raises:
        KeyUnavailableError: there is no such key, or the passphrase is wrong.
    """
    directory = Path(state)
    return City(EmbeddedTransport(directory, passphrase, agreement), unlock_named(directory, key, passphrase))
