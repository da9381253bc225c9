"""Decides what is said of a ClientCertificate: whether it is trusted, and whether every pod enforces that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from kmip_contract.allowlist import AllowlistEntry, EntryState
from kmip_operator.clientcertificate.certificate import Examined, entry, examine
from kmip_operator.clientcertificate.model import ClientCertificateStatus
from kmip_operator.clientcertificate.snapshot import ClientCertificateSnapshot
from kmip_operator.conditions import (
    Finding,
    Problem,
    render,
    summarise,
    timestamp,
    transitions,
    until,
)
from kmip_operator.kmipinstance import pods
from kmip_operator.plan import Manifest, Plan
from kmip_operator.reasons import Reason

ACCEPTED = "Accepted"
APPLIED = "Applied"
EXPIRING = "Expiring"

# Time to get a certificate signed and to change it in every client.
EXPIRY_NOTICE = timedelta(days=30)


def decide(snapshot: ClientCertificateSnapshot, now: datetime) -> Plan:
    """What is said of a ClientCertificate. The allowlist itself is its instance's business.

    Args:
        snapshot: what was observed.
        now: the time.
    """
    examined = examine(snapshot.object, snapshot.source, now)
    refusal = examined.problem or _duplicate(snapshot, examined) or _no_instance(snapshot)
    wanted = entry(examined) if refusal is None else None
    revision = _revision(snapshot, examined, wanted)
    applied, applying = _applied(snapshot, revision, trusted=wanted is not None)
    problems = [problem for problem in (refusal, _not_yet_valid(examined, now), applying) if problem is not None]
    blocked = wanted is not None and wanted.state is EntryState.BLOCKED
    findings = (
        *summarise(
            problems,
            ready="Every pod refuses it." if blocked else "Every pod serves it.",
            ready_reason=Reason.BLOCKED if blocked else Reason.READY,
        ),
        _accepted(refusal),
        applied,
        _expiring(examined, now),
    )
    status = _status(snapshot, examined, revision)
    status["conditions"] = render(findings, snapshot.object, now)
    return Plan(
        status=status,
        events=transitions(findings, snapshot.object),
        requeue_after=min(_waits(examined, now), default=None),
        poll_pods=revision is not None
        and any(not pods.confirmed(pod, revision) for pod in snapshot.pods if not pod.deleting),
    )


def _no_instance(snapshot: ClientCertificateSnapshot) -> Problem | None:
    if snapshot.instance is not None:
        return None
    name = snapshot.object["spec"]["instanceRef"]["name"]
    return Problem(
        Reason.INSTANCE_MISSING,
        f"spec.instanceRef: there is no KmipInstance {name} in this namespace. Create it.",
        stalled=True,
    )


def _duplicate(snapshot: ClientCertificateSnapshot, examined: Examined) -> Problem | None:
    """Another, older object gives the same certificate; it keeps it."""
    older = [
        other["metadata"]["name"]
        for other in snapshot.others
        if _age(other) < examined.age and not other["metadata"].get("deletionTimestamp")
    ]
    if examined.facts is None or not older:
        return None
    return Problem(
        Reason.DUPLICATE_CERTIFICATE,
        f"spec.{'leaf' if examined.spec and examined.spec.leaf else 'authority'}: ClientCertificate {min(older)} of the same "
        "instance gives this very certificate and is older, so its permissions hold. Delete one of the two.",
        stalled=True,
    )


def _age(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return metadata.get("creationTimestamp", ""), metadata["name"], metadata.get("uid", "")


def _not_yet_valid(examined: Examined, now: datetime) -> Problem | None:
    if examined.facts is None or now >= examined.facts.not_before:
        return None
    return Problem(
        Reason.CERTIFICATE_NOT_YET_VALID,
        f"The certificate is valid from {examined.facts.not_before:%Y-%m-%d %H:%M} UTC and is served from then on.",
    )


def _revision(snapshot: ClientCertificateSnapshot, examined: Examined, wanted: AllowlistEntry | None) -> int | None:
    """The revision to wait for: the one this certificate first appeared in as it is, ``None`` while there is none.

    It stays while the certificate and the spec do, whatever else is added to the list.
    """
    if wanted is None or snapshot.allowlist is None or wanted not in snapshot.allowlist.entries:
        return None
    before = snapshot.object.get("status") or {}
    same = (
        before.get("observedGeneration") == snapshot.object["metadata"].get("generation", 0)
        and examined.facts is not None
        and before.get("sha256") == examined.facts.fingerprint
    )
    known = before.get("revision")
    if same and known is not None and known <= snapshot.allowlist.revision:
        return int(known)
    return snapshot.allowlist.revision


def _applied(
    snapshot: ClientCertificateSnapshot, revision: int | None, *, trusted: bool
) -> tuple[Finding, Problem | None]:
    if not trusted:
        return Finding(APPLIED, "False", Reason.APPLYING, "It is on no list."), None
    if revision is None:
        message = "It is being put on the instance's list."
        return Finding(APPLIED, "False", Reason.APPLYING, message), Problem(Reason.APPLYING, message)
    answering = pods.live(snapshot.pods)
    if not answering:
        name = snapshot.object["spec"]["instanceRef"]["name"]
        message = f"KmipInstance {name} has no pod that serves yet."
        return (
            Finding(APPLIED, "Unknown", Reason.INSTANCE_NOT_READY, message),
            Problem(Reason.INSTANCE_NOT_READY, message),
        )
    late = [pod.name for pod in answering if not pods.confirmed(pod, revision)]
    message = f"{len(answering) - len(late)} of {len(answering)} pods enforce revision {revision}."
    if not late:
        return Finding(APPLIED, "True", Reason.APPLIED, message), None
    message = f"{message} Missing: {', '.join(late)}."
    return Finding(APPLIED, "False", Reason.APPLYING, message), Problem(Reason.APPLYING, message)


def _accepted(refusal: Problem | None) -> Finding:
    if refusal is None:
        return Finding(ACCEPTED, "True", Reason.ACCEPTED, "The certificate can be trusted.")
    return Finding(ACCEPTED, "False", refusal.reason, refusal.message)


def _expiring(examined: Examined, now: datetime) -> Finding:
    if examined.facts is None:
        return Finding(EXPIRING, "Unknown", Reason.UNKNOWN, "There is no certificate.")
    ends = f"{examined.facts.not_after:%Y-%m-%d %H:%M} UTC"
    if now >= examined.facts.not_after:
        return Finding(EXPIRING, "True", Reason.CERTIFICATE_EXPIRED, f"The certificate expired on {ends}.")
    if now >= examined.facts.not_after - EXPIRY_NOTICE:
        message = f"The certificate is valid until {ends}: add its successor as another ClientCertificate before that."
        return Finding(EXPIRING, "True", Reason.CERTIFICATE_EXPIRING, message)
    return Finding(EXPIRING, "False", Reason.VALID, f"The certificate is valid until {ends}.")


def _waits(examined: Examined, now: datetime) -> Iterator[float]:
    if examined.facts is None:
        return
    for due in (examined.facts.not_before, examined.facts.not_after - EXPIRY_NOTICE, examined.facts.not_after):
        if due > now:
            yield until(due, now)


def _status(snapshot: ClientCertificateSnapshot, examined: Examined, revision: int | None) -> Manifest:
    facts = examined.facts
    answering = pods.live(snapshot.pods)
    confirmed = [pod for pod in answering if revision is not None and pods.confirmed(pod, revision)]
    return ClientCertificateStatus(
        observed_generation=snapshot.object["metadata"].get("generation", 0),
        subject=facts.subject if facts else None,
        issuer=facts.issuer if facts else None,
        serial_number=facts.serial_number if facts else None,
        sha256=facts.fingerprint if facts else None,
        not_before=timestamp(facts.not_before) if facts else None,
        not_after=timestamp(facts.not_after) if facts else None,
        last_seen=_last_seen(snapshot),
        revision=revision,
        applied_pods=f"{len(confirmed)}/{len(answering)}",
    ).to_manifest()


def _last_seen(snapshot: ClientCertificateSnapshot) -> str | None:
    """The latest day that a pod, or the status, knows of; a pod that restarts forgets."""
    name = snapshot.object["metadata"]["name"]
    days = [
        seen.last_seen.isoformat()
        for pod in snapshot.pods
        if pod.status is not None
        for seen in pod.status.clients
        if seen.name == name
    ]
    before = (snapshot.object.get("status") or {}).get("lastSeen")
    return max([*days, *([before] if before else [])], default=None)
