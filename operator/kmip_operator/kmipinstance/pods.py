"""What the serving pods say together: who enforces the allowlist, which keyspace, whether the root key is usable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import KmipdStatus
from kmip_operator import naming
from kmip_operator.conditions import Finding
from kmip_operator.facts import PodFacts
from kmip_operator.plan import Event, PodPatch
from kmip_operator.reasons import Reason

ROOT_KEY_USABLE = "RootKeyUsable"
DURABLE = "Durable"

# The kubelet brings a new allowlist within a second of the annotation, and by itself within about ninety.
CONFIRM_WITHIN = timedelta(seconds=30)


def live(pods: Iterable[PodFacts]) -> tuple[PodFacts, ...]:
    """The pods that can answer clients: ready, or answering /status; not on their way out."""
    return tuple(pod for pod in pods if not pod.deleting and (pod.ready or pod.status is not None))


def in_service(pod: PodFacts) -> bool:
    """Whether the Service may choose the pod."""
    return pod.labels.get(naming.LABEL_IN_SERVICE, "true") == "true"


def serves(pod: PodFacts) -> bool:
    """Whether clients reach the pod."""
    return pod.ready and not pod.deleting and in_service(pod)


def confirmed(pod: PodFacts, revision: int) -> bool:
    """Whether the pod says that it enforces this revision or a later one."""
    return pod.status is not None and pod.status.allowlist_revision >= revision


def confirmation_due(pod: PodFacts, since: datetime) -> datetime:
    """Until when a pod may take to confirm what was published at ``since``."""
    return max(since, pod.ready_since or pod.created) + CONFIRM_WITHIN


def patches(
    pods: Sequence[PodFacts], revision: int, since: datetime, mounted: str | None, now: datetime
) -> tuple[tuple[PodPatch, ...], tuple[Event, ...]]:
    """Tell the kubelets to refresh, and take out of service who enforces an old allowlist.

    A pod that does not answer leaves the Service only while another one answers: when none does, the fault is most likely on
    the operator's way to them, and taking all of them out would stop every client for it.

    Args:
        pods: the instance's pods.
        revision: of the published allowlist.
        since: when it was published.
        mounted: a hash of what else is mounted and taken in without a restart, ``None`` when it is not known now.
        now: the time.
    """
    answering = any(pod.status is not None for pod in pods if not pod.deleting)
    found: list[PodPatch] = []
    events: list[Event] = []
    for pod in pods:
        if pod.deleting:
            continue
        annotations: dict[str, str | None] = {}
        labels: dict[str, str | None] = {}
        if not confirmed(pod, revision) and pod.annotations.get(naming.ANNOTATION_ALLOWLIST) != str(revision):
            annotations[naming.ANNOTATION_ALLOWLIST] = str(revision)
        if mounted is not None and pod.annotations.get(naming.ANNOTATION_MOUNTED) != mounted:
            annotations[naming.ANNOTATION_MOUNTED] = mounted
        if confirmed(pod, revision):
            if not in_service(pod):
                labels[naming.LABEL_IN_SERVICE] = "true"
                events.append(
                    Event(
                        "Normal", Reason.POD_IN_SERVICE, f"Pod {pod.name} enforces allowlist revision {revision} again."
                    )
                )
        elif pod.ready and answering and in_service(pod) and now >= confirmation_due(pod, since):
            labels[naming.LABEL_IN_SERVICE] = "false"
            events.append(
                Event(
                    "Warning",
                    Reason.POD_OUT_OF_SERVICE,
                    f"Pod {pod.name} does not enforce allowlist revision {revision} ({_why(pod)}): taken out of its Service.",
                )
            )
        if annotations or labels:
            found.append(PodPatch(pod.name, labels, annotations))
    return tuple(found), tuple(events)


def _why(pod: PodFacts) -> str:
    if pod.status is None:
        return pod.status_error or "it does not answer"
    if pod.status.allowlist_error:
        return pod.status.allowlist_error
    return f"it enforces revision {pod.status.allowlist_revision}"


def allowlist_finding(pods: Sequence[PodFacts], revision: int) -> Finding:
    """Whether every pod enforces the published allowlist."""
    answering = live(pods)
    late = [pod for pod in answering if not confirmed(pod, revision)]
    done = f"{len(answering) - len(late)} of {len(answering)} pods enforce allowlist revision {revision}"
    if not answering:
        return Finding("AllowlistApplied", "Unknown", Reason.APPLYING, f"No pod serves revision {revision} yet.")
    if late:
        names = ", ".join(f"{pod.name} ({_why(pod)})" for pod in late)
        return Finding("AllowlistApplied", "False", Reason.APPLYING, f"{done}. Missing: {names}.")
    return Finding("AllowlistApplied", "True", Reason.ALLOWLIST_APPLIED, f"{done}.")


def root_key_finding(pods: Sequence[PodFacts]) -> Finding:
    """Whether the pods can unwrap keys; the worst answer counts, since clients may meet that pod."""
    states = {pod.name: pod.status for pod in live(pods) if pod.status is not None}
    by_state = {
        state: [name for name, status in states.items() if status.root_key_state is state] for state in RootKeyState
    }
    if revoked := by_state[RootKeyState.REVOKED]:
        message = (
            f"The root key was disabled, destroyed or its use forbidden; keys are fenced. {_said(revoked, states)}"
        )
        return Finding(ROOT_KEY_USABLE, "False", Reason.REVOKED, message)
    if unreachable := by_state[RootKeyState.UNREACHABLE]:
        message = f"The key manager does not answer. {_said(unreachable, states)}"
        return Finding(ROOT_KEY_USABLE, "False", Reason.UNREACHABLE, message)
    if by_state[RootKeyState.UNKNOWN] or not states:
        return Finding(ROOT_KEY_USABLE, "Unknown", Reason.UNKNOWN, "No pod has tried the root key yet.")
    return Finding(ROOT_KEY_USABLE, "True", Reason.USABLE, "Every pod wraps and unwraps with the root key.")


def _said(names: Sequence[str], states: dict[str, KmipdStatus]) -> str:
    message = states[names[0]].root_key_message
    return f"Pod {names[0]}: {message}" if message else f"Seen by pod {names[0]}."


def durable_finding(pods: Sequence[PodFacts], *, one_copy: bool) -> Finding:
    """Whether an acknowledged key survives the loss of one machine."""
    storages = [pod.status.storage for pod in live(pods) if pod.status is not None]
    if one_copy:
        message = storages[0].message if storages else "One volume holds the only copy."
        return Finding(DURABLE, "False", Reason.ONE_COPY, message)
    if not storages:
        return Finding(DURABLE, "Unknown", Reason.UNKNOWN, "No pod has reported its storage yet.")
    weak = next((storage for storage in storages if not storage.durable), None)
    if weak is not None:
        return Finding(DURABLE, "False", Reason.NOT_DURABLE, weak.message)
    return Finding(DURABLE, "True", Reason.DURABLE, storages[0].message)


def keyspaces(pods: Iterable[PodFacts]) -> tuple[str, ...]:
    """The distinct keyspaces that pods report, sorted."""
    return tuple(sorted({str(pod.status.keyspace) for pod in pods if pod.status is not None and not pod.deleting}))
