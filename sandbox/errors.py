"""Every error that Saggar raises on purpose, in one tree.

```
SaggarError(message, *, hint, **details)     code: stable dotted text
  InputError       input.*      CanonicalError ExactError DescriptionError QueryError ProgramError FileFormatError
  PolicyError      policy.*     DeniedError ExpiredError SignatureError
  PrivacyError     privacy.*    BudgetExhaustedError BoundError
  VaultError       vault.*      SnapshotNotFoundError SealBrokenError KeyUnavailableError StorageError
  LedgerError      ledger.*     InclusionError ConsistencyError CheckpointError WitnessError StateUnsafeError
  IsolationError   isolation.*  LayerMissingError GuestFailedError LimitExceededError
  JobError         job.*        TransitionError GateError ReplayMismatchError
  ServiceError     service.*    StateBusyError AuthenticationError UnavailableError
```

Programs match `code`; people read `message` and `hint`; evidence rides in `details`.  A message is one sentence, lower
case, without a full stop; user text stands in backticks; it never carries a value from a sealed table.  A class gives
the default code of its family; a raise may narrow it (`code="input.query.unknown_column"`), and every code in use is
listed in `docs/reference/errors.md`.
"""

from __future__ import annotations

from typing import ClassVar


class SaggarError(Exception):
    """A refusal or fault that a person can act on.

    Args:
        message: one sentence in lower case, without a full stop.
        hint: what to do next, one sentence.
        code: a narrower stable code; it must start with the class's own.
        details: evidence for programs (JSON-able); never a value from a sealed table.
    """

    code: str = "saggar"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str, code: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        if code is not None:
            if not code.startswith(type(self).code):
                raise AssertionError(f"code {code} is outside the family {type(self).code}")
            self.code = code

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-able data, as `--json` prints it."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class InputError(SaggarError):
    """What was handed in is not well formed."""

    code = "input"
    exit_status = 3


class CanonicalError(InputError):
    """Bytes are not the canonical form of a value, or a value has none."""

    code = "input.canonical"


class ExactError(InputError):
    """Text is not an exact rational, or an amount is out of its range."""

    code = "input.exact"


class DescriptionError(InputError):
    """A dataset description, agreement or job file is malformed; `details` has `file`, `line`, `path`."""

    code = "input.description"


class QueryError(InputError):
    """A question is not in the language; `details` has `line`, `column` and `found` where known."""

    code = "input.query"


class ProgramError(InputError):
    """A program is not in the language; `details` has `line` and `column`."""

    code = "input.program"


class FileFormatError(InputError):
    """A source file cannot be read as declared; `details` has the row number."""

    code = "input.file"


class PolicyError(SaggarError):
    """A rule forbids it."""

    code = "policy"
    exit_status = 4


class DeniedError(PolicyError):
    """The policy set denied a request; `details["clauses"]` names the clauses that did."""

    code = "policy.denied"


class ExpiredError(PolicyError):
    """An agreement is outside its term."""

    code = "policy.expired"


class SignatureError(PolicyError):
    """A signature is missing, wrong, or by a key that may not sign this."""

    code = "policy.signature"


class PrivacyError(SaggarError):
    """The privacy promise does not allow it."""

    code = "privacy"
    exit_status = 5


class BudgetExhaustedError(PrivacyError):
    """The loss asked for is more than what remains; `details` has `account`, `requested`, `remaining`."""

    code = "privacy.budget"


class BoundError(PrivacyError):
    """No finite sensitivity follows from the question and its public bounds."""

    code = "privacy.bound"


class VaultError(SaggarError):
    """The sealed store cannot serve the request."""

    code = "vault"
    exit_status = 6


class SnapshotNotFoundError(VaultError):
    """No snapshot has this digest or name."""

    code = "vault.snapshot_not_found"


class SealBrokenError(VaultError):
    """Sealed bytes are not what was sealed; `details["object"]` names the object."""

    code = "vault.seal_broken"


class KeyUnavailableError(VaultError):
    """A key is missing or its passphrase is wrong; the hint says who must act."""

    code = "vault.key_unavailable"


class StorageError(VaultError):
    """The disk refused a write (full, read-only); what was there before is still there."""

    code = "vault.storage"


class LedgerError(SaggarError):
    """The log cannot be extended, or does not prove what it should."""

    code = "ledger"
    exit_status = 7


class InclusionError(LedgerError):
    """An entry is not in the tree that a checkpoint names."""

    code = "ledger.inclusion"


class ConsistencyError(LedgerError):
    """A tree is not an extension of an earlier one; `details` carries both checkpoints as evidence."""

    code = "ledger.consistency"


class CheckpointError(LedgerError):
    """A checkpoint is malformed, unsigned, or signed by a key that is not trusted."""

    code = "ledger.checkpoint"


class WitnessError(LedgerError):
    """The witness did not cosign, so nothing may leave."""

    code = "ledger.witness"


class StateUnsafeError(LedgerError):
    """The state directory cannot keep a promise (memory file system, wrong permissions, not initialised)."""

    code = "ledger.state"


class IsolationError(SaggarError):
    """The walls around an operator's program."""

    code = "isolation"
    exit_status = 8


class LayerMissingError(IsolationError):
    """This machine offers less isolation than the configured least level."""

    code = "isolation.layer_missing"


class GuestFailedError(IsolationError):
    """The program ended without declared outputs; the text is a function of released answers only."""

    code = "isolation.guest_failed"


class LimitExceededError(IsolationError):
    """The program used more time, memory, questions or output than it may."""

    code = "isolation.limit"


class JobError(SaggarError):
    """The line of a job."""

    code = "job"
    exit_status = 9


class CancelledError(JobError):
    """The job was cancelled; what it had been answered, or was being answered, is spent."""

    code = "job.cancelled"


class TransitionError(JobError):
    """A job cannot go from this state to that one."""

    code = "job.transition"


class GateError(JobError):
    """An output is not what the job declared, so nothing leaves."""

    code = "job.gate"


class ReplayMismatchError(JobError):
    """A replay did not reproduce the record; `details["place"]` names what differs."""

    code = "job.replay_mismatch"


class ServiceError(SaggarError):
    """The service around the line of a job."""

    code = "service"
    exit_status = 10


class StateBusyError(ServiceError):
    """Another process holds the state directory."""

    code = "service.state_busy"


class AuthenticationError(ServiceError):
    """The caller is not who it says, or is not known."""

    code = "service.authentication"


class UnavailableError(ServiceError):
    """A part that the service needs cannot be reached."""

    code = "service.unavailable"
