"""Jobs, pods and nodes as the decisions see them: small typed facts drawn from manifests. Pure functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from kmip_contract.rootkey import RootKeyResult
from kmip_operator.facts import JobFacts, NodeFacts, ObjectMeta, PodFacts
from kmip_operator.kube.client import Manifest
from kmip_operator.kube.metadata_watch import SecretMeta
from kmip_operator.reasons import Reason

ZONE_LABEL = "topology.kubernetes.io/zone"

# Waiting reasons that are part of a normal start.
_STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})


def object_meta(manifest: Manifest) -> ObjectMeta:
    """Metadata of an object."""
    metadata = manifest["metadata"]
    return ObjectMeta(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=str(metadata["resourceVersion"]),
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        owner_uids=tuple(owner["uid"] for owner in metadata.get("ownerReferences") or ()),
        deleting=metadata.get("deletionTimestamp") is not None,
    )


def secret_meta(meta: SecretMeta) -> ObjectMeta:
    """Metadata of a Secret."""
    return ObjectMeta(
        name=meta.name,
        uid=meta.uid,
        resource_version=str(meta.version),
        labels=meta.labels,
        annotations=meta.annotations,
        owner_uids=meta.owner_uids,
        deleting=meta.deleting,
    )


def job_facts(job: Manifest, pods: Iterable[Manifest]) -> JobFacts:
    """A Job, with the result from the termination message of a pod that it controls (checked by uid).

    A message is only a hint: what does not parse counts as no result. ``pod_problem`` begins with ``JobNotStarted: `` when the
    Job has finished and it is certain that no container of it ever ran.
    """
    metadata = job["metadata"]
    own = [pod for pod in pods if _controller(pod) == metadata["uid"]]
    result = next((found for pod in own if (found := _result(pod)) is not None), None)
    problems = [problem for pod in own if (problem := pod_problem(pod))]
    finished = _finished(job)
    problem = problems[0] if problems else ""
    if result is None and finished is not None and not problem:
        problem = "the Job ended without a result"
    if result is None and finished is not None and _never_started(job, own):
        problem = f"{Reason.JOB_NOT_STARTED}: {problem}"
    return JobFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created=_time(metadata["creationTimestamp"]),
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        finished=finished,
        result=result,
        pod_problem="" if result is not None else problem,
        deleting=metadata.get("deletionTimestamp") is not None,
    )


def pod_facts(pod: Manifest, zones: Mapping[str, str]) -> PodFacts:
    """A serving pod, not yet asked for its status. ``zones``: zone by node name."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or () if item.get("type") == "Ready"), {}
    )
    node = (pod.get("spec") or {}).get("nodeName") or ""
    since = ready.get("lastTransitionTime")
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created=_time(metadata["creationTimestamp"]),
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        ip=status.get("podIP") or "",
        node=node,
        zone=zones.get(node, ""),
        ready=ready.get("status") == "True",
        ready_since=_time(since) if since else None,
        deleting=metadata.get("deletionTimestamp") is not None,
        problem=pod_problem(pod),
    )


def node_facts(node: Manifest) -> NodeFacts:
    """A node's labels, whether pods can go there, and where its ports are reached."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    metadata = node["metadata"]
    addresses = {item["type"]: item["address"] for item in (node.get("status") or {}).get("addresses") or ()}
    return NodeFacts(
        metadata["name"],
        dict(metadata.get("labels") or {}),
        schedulable=ready and not cordoned,
        address=addresses.get("ExternalIP") or addresses.get("InternalIP") or "",
    )


def pod_problem(pod: Manifest) -> str:
    """Why a pod does not start, keeps crashing or failed, as ``Reason: what is known``; empty when nothing is wrong."""
    status = pod.get("status") or {}
    for container in _container_statuses(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if (waiting.get("reason") or "") not in _STARTING:
            return _problem(waiting["reason"], f"container {container['name']}", waiting.get("message"))
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = f"container {container['name']} ended with exit code {ended['exitCode']}"
            return _problem(ended.get("reason") or "Error", said, None)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _problem(condition.get("reason") or "Unschedulable", "", condition.get("message"))
    if status.get("phase") == "Failed":
        return _problem(status.get("reason") or "Failed", "", status.get("message"))
    return ""


def _problem(reason: str, where: str, message: str | None) -> str:
    said = ", ".join(part for part in (where, (message or "").strip()) if part)
    return f"{reason}: {said}" if said else reason


def _container_statuses(status: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for group in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(group) or ()


def _result(pod: Manifest) -> RootKeyResult | None:
    for container in _container_statuses(pod.get("status") or {}):
        message = ((container.get("state") or {}).get("terminated") or {}).get("message")
        if message:
            with contextlib.suppress(ValidationError):
                return RootKeyResult.model_validate_json(message)
    return None


def _never_started(job: Manifest, pods: list[Manifest]) -> bool:
    """Whether every pod the Job had is still there to prove that no container of it ran; one that is gone proves nothing."""
    status = job.get("status") or {}
    had = (status.get("failed") or 0) + (status.get("succeeded") or 0)
    return bool(pods) and len(pods) >= had and all(_never_ran(pod) for pod in pods)


def _never_ran(pod: Manifest) -> bool:
    """No node had it; or its kubelet's last word is that every container still waited, with a fault, to be made."""
    if not (pod.get("spec") or {}).get("nodeName"):
        return True
    status = pod.get("status") or {}
    containers = list(_container_statuses(status))
    return status.get("phase") == "Failed" and bool(containers) and all(_never_made(item) for item in containers)


def _never_made(container: Mapping[str, Any]) -> bool:
    waiting = (container.get("state") or {}).get("waiting") or {}
    return (
        (waiting.get("reason") or "") not in _STARTING
        and not container.get("lastState")
        and not container.get("restartCount")
        and not container.get("started")
        and not container.get("containerID")
    )


def _finished(job: Manifest) -> datetime | None:
    status = job.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") in {"Complete", "Failed"} and condition.get("status") == "True":
            moment = status.get("completionTime") or condition.get("lastTransitionTime")
            return _time(moment) if moment else None
    return None


def _controller(manifest: Manifest) -> str | None:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
