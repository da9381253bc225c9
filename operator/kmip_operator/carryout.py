"""Carries out a plan: create, replace, apply, delete, patch pods, status, Events. Safe to stop between any two calls."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from kmip_operator.conditions import STALLED, find, timestamp
from kmip_operator.kube.apply import Applied, Applier, Outcome
from kmip_operator.kube.cache import Caches
from kmip_operator.kube.client import Client
from kmip_operator.kube.errors import ApiError, ConflictError, NamespaceEndingError, NotFoundError
from kmip_operator.kube.events import EventRecorder
from kmip_operator.kube.resources import PODS, SECRETS, Resource, resource_of
from kmip_operator.plan import Manifest, Plan, PodPatch, Ref
from kmip_operator.reasons import Reason

_log = structlog.stdlib.get_logger(__name__)

OBSTACLE_RETRY = 60.0
"""Seconds until what stood in the way is tried again; nothing tells when a field, a port or a quota becomes free."""

_REFUSALS = frozenset({400, 403, 413, 422})
"""Answers that the same request gets again until somebody changes something: malformed, not permitted (a quota, an admission
policy), too large, invalid (a node port in use, an immutable field)."""

_WORKLOADS = frozenset({"Deployment", "StatefulSet"})

_SAID = 300
"""Characters of the API server's message: admission webhooks may write pages."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """An object that stays as it is until somebody changes something. ``message`` never holds values of Secrets."""

    kind: str
    name: str
    reason: Reason
    message: str


@dataclass
class Done:
    """What carrying out a plan changed.

    ``interrupted``: something to create existed already, so the rest was left. ``unmade``: something to create was refused.
    """

    interrupted: bool = False
    unmade: bool = False
    created: list[str] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)
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
            "obstacles": [item.message for item in self.obstacles],
            "replaced": self.replaced,
            "deleted": self.deleted,
            "pods": self.pods,
        }
        return {key: value for key, value in fields.items() if value}


class CarryOut:
    """Does what plans say. An object that the API refuses keeps no other from its wanted state; it is said in the status.

    Other errors of the API are raised; what was done by then stays done, and the next round goes on.
    """

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
        # A plan whose new objects were not made may tell of what they hold (a certificate): what was said before still holds.
        said = (regarding.get("status") or {}) if done.unmade else plan.status
        status = with_obstacles(said, regarding, done.obstacles, now)
        if status != (regarding.get("status") or {}):
            await self._write_status(resource, regarding, status)
            done.status = True
        for event in () if done.unmade else plan.events:
            await self._recorder.post(regarding, kind=event.type, reason=event.reason, note=event.message)
        return done

    async def _objects(self, regarding: Manifest, plan: Plan, done: Done) -> bool:
        """Create, apply and so on; whether the status may be written after it."""
        unmade = set(map(_place, plan.create))
        for manifest in plan.create:
            await self._unless_refused(regarding, manifest, self._create(regarding, manifest, done), done)
            if done.interrupted:
                # Pods must not start with an object that others made; nor the status tell of what somebody was faster with.
                return bool(done.obstacles)
            if done.obstacles:
                done.unmade = True
                break
            unmade.discard(_place(manifest))
        await self._children(regarding, plan, unmade, done)
        return True

    async def _create(self, regarding: Manifest, manifest: Manifest, done: Done) -> None:
        created = await self._applier.create(manifest)
        if created.outcome is Outcome.CREATED:
            done.created.append(_title(created))
            return
        done.interrupted = True
        if created.outcome is Outcome.CONFLICT:
            await self._stands(regarding, _conflict(created), done)

    async def _children(self, regarding: Manifest, plan: Plan, unmade: set[tuple[str, str]], done: Done) -> None:
        """``unmade``: what ``plan.create`` has not made; an apply would make it without its content."""
        # Before any apply, which may give the same Secret another version.
        for manifest in plan.replace:
            await self._unless_refused(regarding, manifest, self._replace(manifest, done), done)
        for manifest in plan.apply:
            if _place(manifest) not in unmade:
                await self._unless_refused(regarding, manifest, self._apply(regarding, manifest, done), done)
        # Running pods are not taken away while those that shall follow them cannot be made.
        if not any(obstacle.kind in _WORKLOADS for obstacle in done.obstacles):
            for ref in plan.delete:
                await self._unless_refused(regarding, _named(ref.kind, ref.name), self._delete(ref, done), done)
        for patch in plan.pod_patches:
            pod = _named(PODS.kind, patch.name)
            await self._unless_refused(regarding, pod, self._patch_pod(regarding, patch, done), done)

    async def _unless_refused(self, regarding: Manifest, manifest: Manifest, work: Awaitable[None], done: Done) -> None:
        """Do the work on one object; a refusal that repeating does not change is an obstacle, not the end of the round."""
        try:
            await work
        except NamespaceEndingError:
            raise
        except ApiError as error:
            if error.status not in _REFUSALS:
                raise
            await self._stands(regarding, _refusal(*_place(manifest), error), done)

    async def _stands(self, regarding: Manifest, obstacle: Obstacle, done: Done) -> None:
        done.obstacles.append(obstacle)
        await self._recorder.post(regarding, kind="Warning", reason=obstacle.reason, note=obstacle.message)

    async def _apply(self, regarding: Manifest, manifest: Manifest, done: Done) -> None:
        applied = await self._applier.apply(manifest, regarding["metadata"]["uid"])
        if applied.outcome is Outcome.UNCHANGED:
            return
        if applied.outcome is Outcome.CONFLICT:
            await self._stands(regarding, _conflict(applied), done)
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


def with_obstacles(status: Manifest, regarding: Manifest, obstacles: list[Obstacle], now: datetime) -> Manifest:
    """The status with ``Stalled`` saying what stands in the way, if anything does and it does not say something else."""
    if not obstacles:
        return status
    before = find(regarding, STALLED) or {}
    since = before.get("lastTransitionTime") if before.get("status") == "True" else None
    stalled = {
        "type": STALLED,
        "status": "True",
        "reason": str(obstacles[0].reason),
        "message": " ".join(dict.fromkeys(obstacle.message for obstacle in obstacles)),
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


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _named(kind: str, name: str) -> Manifest:
    return {"kind": kind, "metadata": {"name": name}}


def _conflict(applied: Applied) -> Obstacle:
    if applied.sibling:
        message = f"{_title(applied)}: it belongs to {applied.owner}. Both need an object of this name: rename one of the two."
        return Obstacle(applied.resource.kind, applied.name, Reason.FIELD_CONFLICT, message)
    where = f" ({', '.join(applied.fields[:5])})" if applied.fields else ""
    message = (
        f"{_title(applied)}: {applied.owner} owns what the operator would set{where}. Remove it from that tool, "
        "or delete the object if nothing else needs it."
    )
    return Obstacle(applied.resource.kind, applied.name, Reason.FIELD_CONFLICT, message)


def _refusal(kind: str, name: str, error: ApiError) -> Obstacle:
    # About a Secret the API server may quote what is in it.
    said = error.message if kind != SECRETS.kind else ""
    said = said if len(said) <= _SAID else said[: _SAID - 1] + "…"
    answer = f"{error.status} {error.reason}".strip()
    message = f"{kind}/{name}: the API server refuses it ({answer})" + (f": {said}" if said else "")
    return Obstacle(kind, name, Reason.INVALID_SPEC, message)
