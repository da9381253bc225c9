"""Carries out a plan: create, replace, apply, delete, patch pods, status, Events. Safe to stop between any two calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from kmip_operator.conditions import STALLED, find, timestamp
from kmip_operator.kube.apply import Applied, Applier, Outcome
from kmip_operator.kube.cache import Caches
from kmip_operator.kube.client import Client
from kmip_operator.kube.errors import ConflictError, NamespaceEndingError, NotFoundError
from kmip_operator.kube.events import EventRecorder
from kmip_operator.kube.resources import PODS, Resource, resource_of
from kmip_operator.plan import Manifest, Plan, PodPatch, Ref
from kmip_operator.reasons import Reason

_log = structlog.stdlib.get_logger(__name__)

CONFLICT_RETRY = 60.0
"""Seconds until a field that another manager owns is asked for again; nothing tells when it is given up."""


@dataclass
class Done:
    """What carrying out a plan changed. ``interrupted``: something to create existed already, so the rest was left."""

    interrupted: bool = False
    created: list[str] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    conflicts: list[Applied] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    status: bool = False

    @property
    def anything(self) -> bool:
        """Whether something was written."""
        return bool(self.created or self.applied or self.replaced or self.deleted or self.pods or self.status)

    def log_fields(self) -> dict[str, Any]:
        """For the one log line of this decision: names and field paths, never values."""
        changed = [item for item in self.applied if item.outcome is not Outcome.CREATED]
        fields: dict[str, Any] = {
            "created": self.created,
            "applied": [f"{_title(item)} {item.outcome}" for item in self.applied],
            "fields": sorted({path for item in changed for path in item.fields})[:10],
            "conflicts": [f"{_title(item)}: {item.owner}" for item in self.conflicts],
            "replaced": self.replaced,
            "deleted": self.deleted,
            "pods": self.pods,
        }
        return {key: value for key, value in fields.items() if value}


class CarryOut:
    """Does what plans say. Errors of the API are raised; what was done by then stays done, and the next round goes on."""

    def __init__(self, client: Client, caches: Caches, applier: Applier, recorder: EventRecorder) -> None:
        self._client = client
        self._caches = caches
        self._applier = applier
        self._recorder = recorder

    async def __call__(self, resource: Resource, regarding: Manifest, plan: Plan, now: datetime) -> Done:
        """Carry out ``plan`` for the object ``regarding``."""
        done = Done()
        try:
            if not await self._objects(regarding, plan, done):
                return done
        except NamespaceEndingError as error:
            # Nothing new can be made there, but the status still has to say what no longer holds back a deletion.
            _log.debug("namespace is ending", namespace=regarding["metadata"]["namespace"], error=str(error))
        status = with_conflicts(plan.status, regarding, done.conflicts, now)
        if status != (regarding.get("status") or {}):
            await self._write_status(resource, regarding, status)
            done.status = True
        for event in plan.events:
            await self._recorder.post(regarding, kind=event.type, reason=event.reason, note=event.message)
        return done

    async def _objects(self, regarding: Manifest, plan: Plan, done: Done) -> bool:
        """Create, apply and so on; whether the status may be written after it."""
        for manifest in plan.create:
            created = await self._applier.create(manifest)
            if created.outcome is Outcome.CREATED:
                done.created.append(_title(created))
                continue
            done.interrupted = True
            if created.outcome is not Outcome.CONFLICT:
                return False
            await self._refused(regarding, created, done)
            return True
        await self._children(regarding, plan, done)
        return True

    async def _children(self, regarding: Manifest, plan: Plan, done: Done) -> None:
        # Before any apply, which may give the same Secret another version.
        for manifest in plan.replace:
            await self._replace(manifest, done)
        for manifest in plan.apply:
            await self._apply(regarding, manifest, done)
        for ref in plan.delete:
            await self._delete(ref, done)
        for patch in plan.pod_patches:
            await self._patch_pod(regarding, patch, done)

    async def _refused(self, regarding: Manifest, conflict: Applied, done: Done) -> None:
        done.conflicts.append(conflict)
        await self._recorder.post(regarding, kind="Warning", reason=Reason.FIELD_CONFLICT, note=_conflict(conflict))

    async def _apply(self, regarding: Manifest, manifest: Manifest, done: Done) -> None:
        applied = await self._applier.apply(manifest, regarding["metadata"]["uid"])
        if applied.outcome is Outcome.UNCHANGED:
            return
        if applied.outcome is Outcome.CONFLICT:
            await self._refused(regarding, applied, done)
            return
        done.applied.append(applied)
        if applied.outcome is Outcome.CORRECTED:
            what = (
                "was deleted" if applied.fields == ("metadata",) else f"was changed in {', '.join(applied.fields[:5])}"
            )
            note = f"{_title(applied)} {what}; put back as the specification says."
            await self._recorder.post(regarding, kind="Normal", reason=Reason.DRIFT_CORRECTED, note=note)

    async def _replace(self, manifest: Manifest, done: Done) -> None:
        """New content for an existing object, only onto the version that was decided about."""
        resource = resource_of(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "annotations": metadata.get("annotations") or {},
            },
            "data": manifest["data"],
        }
        replaced = await self._client.merge(resource, metadata["namespace"], metadata["name"], patch)
        self._caches.learn(resource, replaced)
        done.replaced.append(f"{resource.kind}/{metadata['name']}")

    async def _delete(self, ref: Ref, done: Done) -> None:
        resource = resource_of(ref.api_version, ref.kind)
        try:
            if await self._applier.delete(resource, ref.namespace, ref.name):
                done.deleted.append(f"{ref.kind}/{ref.name}")
        except ConflictError:
            # Another object has taken the name meanwhile: the next observation sees it.
            return

    async def _patch_pod(self, regarding: Manifest, patch: PodPatch, done: Done) -> None:
        namespace = regarding["metadata"]["namespace"]
        pod = self._caches.current(PODS, namespace, patch.name)
        if pod is None:
            return
        metadata = pod["metadata"]
        wanted = {"labels": _merge(metadata, "labels", patch), "annotations": _merge(metadata, "annotations", patch)}
        body = {"metadata": {key: value for key, value in wanted.items() if value}}
        if not body["metadata"]:
            return
        try:
            # The uid pins the patch to this pod: a StatefulSet's next pod has the same name.
            body["metadata"]["uid"] = metadata["uid"]
            patched = await self._client.merge(PODS, namespace, patch.name, body)
        except (NotFoundError, ConflictError):
            return
        self._caches.learn(PODS, patched)
        done.pods.append(patch.name)

    async def _write_status(self, resource: Resource, regarding: Manifest, status: Manifest) -> None:
        metadata = regarding["metadata"]
        written = await self._client.set_status(
            resource, metadata["namespace"], metadata["name"], uid=metadata["uid"], status=status
        )
        self._caches.learn(resource, written)


def with_conflicts(status: Manifest, regarding: Manifest, conflicts: list[Applied], now: datetime) -> Manifest:
    """The status with ``Stalled`` saying who owns the fields the operator was refused, if there are any."""
    if not conflicts:
        return status
    before = find(regarding, STALLED) or {}
    since = before.get("lastTransitionTime") if before.get("status") == "True" else None
    stalled = {
        "type": STALLED,
        "status": "True",
        "reason": str(Reason.FIELD_CONFLICT),
        "message": " ".join(_conflict(conflict) for conflict in conflicts),
        "lastTransitionTime": since or timestamp(now),
        "observedGeneration": regarding["metadata"].get("generation", 0),
    }
    conditions = status.get("conditions") or []
    if any(item["type"] == STALLED and item["status"] == "True" for item in conditions):
        return status
    others = [item for item in conditions if item["type"] != STALLED]
    return {**status, "conditions": [*others, stalled]}


def _merge(metadata: Manifest, part: str, patch: PodPatch) -> dict[str, str | None]:
    """The keys of ``patch`` that are not so already."""
    wanted: dict[str, str | None] = getattr(patch, part)
    present = metadata.get(part) or {}
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _title(applied: Applied) -> str:
    return f"{applied.resource.kind}/{applied.name}"


def _conflict(applied: Applied) -> str:
    where = f" ({', '.join(applied.fields[:5])})" if applied.fields else ""
    return (
        f"{_title(applied)}: {applied.owner} owns what the operator would set{where}. Remove it from that tool, "
        "or delete the object if nothing else needs it."
    )
