"""What the Jobs of a KeyManager or RootKey say: an answer, that one is running, or when the next attempt is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure, RootKeyResult
from kmip_operator import naming
from kmip_operator.conditions import Problem
from kmip_operator.facts import JobFacts
from kmip_operator.plan import Ref
from kmip_operator.reasons import Reason

# A key manager that is away is asked soon again, and for a long outage every ten minutes.
FIRST_BACKOFF = timedelta(seconds=10)
MAX_BACKOFF = timedelta(minutes=10)

RETRIED = frozenset({CustodyErrorKind.UNAVAILABLE, CustodyErrorKind.DEADLINE_EXCEEDED, CustodyErrorKind.THROTTLED})
"""Only these pass by themselves. Anything else is tried again when the spec or a Secret changes, so that no token locks."""

# While a Job runs, its pod's end is an event; this only bounds a lost one.
_RUNNING_CHECK = 30.0


@dataclass(frozen=True)
class Record:
    """Where one request stands.

    success: the answer, when there is a good one.
    failure: the latest bad answer, or why there is none; stays while the next attempt runs.
    start: the attempt to start now, ``None`` when there is nothing to start.
    unanswered: the latest Job ended without an answer, and may have used the credential.
    wait: seconds until something is due, ``None`` when nothing is.
    job: name of the latest Job.
    """

    success: RootKeyResult | None = None
    failure: CustodyFailure | None = None
    start: int | None = None
    wait: float | None = None
    job: str = ""
    unanswered: bool = False

    @property
    def stalled(self) -> bool:
        """Whether nothing happens until somebody changes something."""
        return self.failure is not None and self.start is None and self.wait is None

    @property
    def reason(self) -> Reason:
        """Why there is no good answer; ``Probing`` while nothing is known."""
        if self.unanswered:
            return Reason.JOB_FAILED
        return Reason.PROBING if self.failure is None else Reason(self.failure.kind)

    @property
    def refused(self) -> bool:
        """Whether the key manager refused the credential."""
        return self.failure is not None and self.failure.kind is CustodyErrorKind.CREDENTIAL_REFUSED


def record(jobs: Iterable[JobFacts], identity: str, now: datetime) -> Record:
    """Where the request ``identity`` stands."""
    mine = sorted((job for job in jobs if _identity(job) == identity and not job.deleting), key=attempt)
    if not mine:
        return Record(start=1)
    latest = mine[-1]
    if latest.result is not None and latest.result.error is None:
        return Record(success=latest.result, job=latest.name)
    if latest.result is not None and latest.result.error is not None:
        if latest.result.error.kind not in RETRIED:
            return Record(failure=latest.result.error, job=latest.name)
        return _again(latest, latest.result.error, now)
    if latest.finished is None:
        return Record(failure=_not_started(latest), wait=_RUNNING_CHECK, job=latest.name)
    return _without_answer(latest, now)


def _without_answer(job: JobFacts, now: datetime) -> Record:
    """Tried again only when it never ran: otherwise the answer that is lost may have been that the credential is wrong.

    A second login with a wrong PIN costs the token another of its few attempts.
    """
    mark = f"{Reason.JOB_NOT_STARTED}: "
    if job.pod_problem.startswith(mark):
        message = f"Job {job.name} never started: {job.pod_problem.removeprefix(mark)}."
        return _again(job, CustodyFailure(kind=CustodyErrorKind.UNAVAILABLE, message=message), now)
    problem = f" ({job.pod_problem})" if job.pod_problem else ""
    message = f"Job {job.name} ended without an answer{problem} and may have used the credential."
    failure = CustodyFailure(kind=CustodyErrorKind.UNAVAILABLE, message=message)
    return Record(failure=failure, job=job.name, unanswered=True)


def _again(job: JobFacts, failure: CustodyFailure, now: datetime) -> Record:
    number = attempt(job)
    due = (job.finished or job.created) + min(FIRST_BACKOFF * 2 ** min(number - 1, 10), MAX_BACKOFF)
    if now >= due:
        return Record(failure=failure, start=number + 1, job=job.name)
    return Record(failure=failure, wait=(due - now).total_seconds(), job=job.name)


def _not_started(job: JobFacts) -> CustodyFailure | None:
    if not job.pod_problem:
        return None
    return CustodyFailure(
        kind=CustodyErrorKind.UNAVAILABLE, message=f"the pod of Job {job.name} does not start: {job.pod_problem}."
    )


def attempt(job: JobFacts) -> int:
    """Which attempt of its request a Job is, from 1."""
    text = job.annotations.get(naming.ANNOTATION_ATTEMPT, "")
    return int(text) if text.isdigit() else 1


def _identity(job: JobFacts) -> str:
    return job.labels.get(naming.LABEL_REQUEST, "")


def outdated(jobs: Iterable[JobFacts], current: Iterable[str], namespace: str) -> tuple[Ref, ...]:
    """The Jobs that are no longer the record of a current request: of another one, or an earlier attempt."""
    known = sorted((job for job in jobs if not job.deleting), key=attempt)
    latest = {_identity(job): job.name for job in known}
    keep = {latest[identity] for identity in current if identity in latest}
    return tuple(Ref("batch/v1", "Job", namespace, job.name) for job in known if job.name not in keep)


def problem(record: Record, path: str, doing: str) -> Problem | None:
    """Why the request is not done yet, ``None`` when it is.

    Args:
        record: where it stands.
        path: the field it is about.
        doing: what the Job does, such as ``trying the credential``.
    """
    if record.success is not None:
        return None
    if record.failure is None:
        return Problem(Reason.PROBING, f"{path}: {doing}.")
    message = f"{path}: {record.failure.message}"
    if record.stalled:
        return Problem(record.reason, f"{message} {_remedy(record)}", stalled=True)
    later = "" if record.start else " It is tried again."
    return Problem(record.reason, message + later)


def _remedy(record: Record) -> str:
    if record.unanswered:
        return (
            "It is not tried again by itself. Correct the cause, then delete the Job, which makes a new one with the same "
            f"request (kubectl delete job {record.job}), or change the Secret."
        )
    until = "It is not tried again until the specification or the Secret changes"
    return f"{until}." if record.refused else f"{until}, or Job {record.job} is deleted."
