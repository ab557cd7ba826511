"""Job files and specs of nothing but a loss."""

from sandbox.model.digest import digest_of
from sandbox.model.job import JobKind, JobSpec
from sandbox.model.load_job import JobFile
from sandbox.model.loss import PrivacyLoss


def job_file(loss: PrivacyLoss) -> JobFile:
    """Return the file of a job with a loss."""
    return JobFile("j", JobKind.SQL, "q.sql", "a", "p", "u", loss, (), (), None, None, (), "")


def spec_of(loss: PrivacyLoss) -> JobSpec:
    """Return the spec of a job with a loss."""
    return JobSpec("j", JobKind.PYTHON, digest_of(b""), "a", "p", "u", (), (), loss, None, None, ())
