"""Conditions: what was found becomes Ready, Reconciling and Stalled, and what changed becomes Events.

Checks return a :class:`Problem` or ``None``; the first one is the reason a person sees, and all of them are in the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from kmip_operator.plan import Event, Manifest
from kmip_operator.reasons import Reason

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"

Truth = Literal["True", "False", "Unknown"]

# A condition's message may have 32768 characters; a screen has fewer.
_MESSAGE_LIMIT = 2000


@dataclass(frozen=True)
class Finding:
    """One condition as found now."""

    type: str
    status: Truth
    reason: Reason
    message: str


@dataclass(frozen=True)
class Problem:
    """Why something is not as the spec says.

    stalled: nothing happens until somebody changes something; otherwise it is under way or tried again.
    blocking: it keeps the object from being Ready.
    """

    reason: Reason
    message: str
    stalled: bool = False
    blocking: bool = True


def truth(holds: bool | None) -> Truth:
    """``None`` is Unknown."""
    return "Unknown" if holds is None else "True" if holds else "False"


def summarise(problems: Iterable[Problem], *, ready: str, ready_reason: Reason = Reason.READY) -> tuple[Finding, ...]:
    """Ready, Reconciling and Stalled.

    Args:
        problems: in the order of importance.
        ready: the message when nothing blocks.
        ready_reason: the reason then.
    """
    known = sorted(problems, key=lambda problem: not problem.stalled)
    blocking = [problem for problem in known if problem.blocking]
    stalled = [problem for problem in known if problem.stalled]
    moving = [problem for problem in known if not problem.stalled]
    return (
        Finding(READY, "False", blocking[0].reason, _join(blocking))
        if blocking
        else Finding(READY, "True", ready_reason, ready),
        Finding(RECONCILING, "True", moving[0].reason, _join(moving))
        if moving and not stalled
        else Finding(RECONCILING, "False", Reason.RECONCILED, "Nothing is under way."),
        Finding(STALLED, "True", stalled[0].reason, _join(stalled))
        if stalled
        else Finding(STALLED, "False", Reason.RECONCILED, "Nothing needs mending."),
    )


def _join(problems: Sequence[Problem]) -> str:
    text = " ".join(dict.fromkeys(problem.message for problem in problems))
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


def timestamp(moment: datetime) -> str:
    """A time as Kubernetes writes it (RFC 3339, UTC, whole seconds)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The opposite of :func:`timestamp`.

    Raises:
        ValueError: it is not such a time.
    """
    return datetime.fromisoformat(text)


def until(due: datetime, now: datetime) -> float:
    """Seconds until ``due``: at least one, and at most six hours, so that a clock that is set does not make it late."""
    return min(max((due - now).total_seconds(), 1.0), 6 * 3600.0)


def conditions_of(manifest: Manifest | None) -> list[Manifest]:
    """The conditions in an object's status."""
    status = (manifest or {}).get("status") or {}
    return list(status.get("conditions") or [])


def find(manifest: Manifest | None, condition_type: str) -> Manifest | None:
    """One condition of an object, ``None`` when it has none of that type."""
    return next((item for item in conditions_of(manifest) if item.get("type") == condition_type), None)


def holds(manifest: Manifest | None, condition_type: str) -> bool:
    """Whether a condition is True."""
    condition = find(manifest, condition_type)
    return condition is not None and condition.get("status") == "True"


def render(findings: Iterable[Finding], previous: Manifest, now: datetime) -> list[Manifest]:
    """Findings as ``status.conditions``; ``lastTransitionTime`` moves only when the status does.

    Args:
        findings: what was found.
        previous: the object with its present status.
        now: the time.
    """
    old = {item["type"]: item for item in conditions_of(previous)}
    return [
        {
            "type": finding.type,
            "status": finding.status,
            "reason": str(finding.reason),
            "message": finding.message,
            "lastTransitionTime": old[finding.type]["lastTransitionTime"]
            if finding.type in old and old[finding.type]["status"] == finding.status
            else timestamp(now),
            "observedGeneration": previous["metadata"].get("generation", 0),
        }
        for finding in findings
    ]


def transitions(findings: Iterable[Finding], previous: Manifest) -> tuple[Event, ...]:
    """Events a person would want to know of: it works, it works no longer, it needs mending (and for which reason)."""
    found = {finding.type: finding for finding in findings}
    before = {item["type"]: item for item in conditions_of(previous)}
    ready, stalled = found[READY], found[STALLED]
    was_ready = before.get(READY, {}).get("status") == "True"
    events = []
    if ready.status == "True" and not was_ready:
        events.append(Event("Normal", ready.reason, ready.message))
    if stalled.status == "True" and (
        before.get(STALLED, {}).get("status") != "True" or before[STALLED].get("reason") != stalled.reason
    ):
        events.append(Event("Warning", stalled.reason, stalled.message))
    elif ready.status != "True" and was_ready:
        events.append(Event("Warning", ready.reason, ready.message))
    return tuple(events)
