"""Brings children to their wanted state: no write when nothing would change, drift repaired and said, owners respected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from kmip_operator.kube.client import FIELD_MANAGER, Client, Manifest
from kmip_operator.kube.errors import AlreadyExistsError, ConflictError
from kmip_operator.kube.ownership import Change, Difference, differences, owned_fields
from kmip_operator.kube.resources import GROUP, KINDS, Resource, resource_of
from kmip_operator.kube.store import Name

MANAGED_BY = "app.kubernetes.io/managed-by"

_BY_HAND = ("kubectl", "k9s")
"""Field managers of a person's tools. Only their *updates* of a field that the operator had set count as drift; a person who
wants to own a field says so by a server-side apply, and that is respected like any other controller's."""


class Outcome(StrEnum):
    """What one apply came to."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    CHANGED = "changed"
    CORRECTED = "corrected"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome for one object.

    ``fields``: paths that were different; ``owner``: who is in the way of a conflict; ``sibling``: that is another custom
    resource of the operator's, for whose sake the object exists.
    """

    resource: Resource
    namespace: str
    name: str
    outcome: Outcome
    fields: tuple[str, ...] = ()
    owner: str = ""
    sibling: bool = False


class Cache(Protocol):
    """The watched state of objects."""

    def current(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """The cached object, or ``None``."""
        ...

    def holds(self, resource: Resource) -> bool:
        """Whether the content of this resource's objects is cached."""
        ...

    def version(self, resource: Resource, namespace: str, name: str) -> int | None:
        """The last seen resource version of the object, if it is watched and exists."""
        ...

    def learn(self, resource: Resource, manifest: Manifest) -> None:
        """Take in the API's answer to a write."""
        ...

    def forget(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """The object is gone."""
        ...


@dataclass(frozen=True, slots=True)
class _Memory:
    """What was last applied, to which version, and the fields the API server writes in another form (``0.5`` for ``500m``)."""

    digest: bytes
    version: int
    normalised: frozenset[str]


class FieldsOwnedError(Exception):
    """Another manager owns fields of the manifest."""

    def __init__(self, conflict: ConflictError) -> None:
        super().__init__(conflict.message)
        self.fields = tuple(item.field for item in conflict.conflicts)
        self.owners = ", ".join(sorted({item.manager for item in conflict.conflicts}))


class Applier:
    """Applies, creates and deletes children. One per process; callers serialise by owner."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._memory: dict[str, dict[tuple[Resource, Name], _Memory]] = {}

    async def apply(self, manifest: Manifest, owner: str) -> Applied:
        """Server-side apply, if it would change anything. ``owner``: uid of the object for whose sake.

        Raises:
            ConflictError: the object changed while fields were being taken back from a person's edit; look again.
        """
        resource, name = _place(manifest)
        digest = _digest(manifest)
        memory = self._memory.setdefault(owner, {})
        known = memory.get((resource, name))
        if known is not None and known.digest != digest:
            known = None
        if known is not None and self._cache.version(resource, *name) == known.version:
            return Applied(resource, *name, Outcome.UNCHANGED)
        live = await self._live(resource, name)
        if live is not None and not is_ours(live):
            return Applied(resource, *name, Outcome.CONFLICT, owner=f"an object that {FIELD_MANAGER} did not make")
        if live is not None and (sibling := self._sibling(manifest, live)):
            return Applied(resource, *name, Outcome.CONFLICT, owner=sibling, sibling=True)
        found = differences(manifest, live) if live is not None else (Difference("metadata", Change.MISSING),)
        if known is not None and live is not None:
            found = tuple(item for item in found if item.path not in known.normalised)
        if not found and live is not None:
            memory[(resource, name)] = _Memory(digest, _version(live), known.normalised if known else frozenset())
            return Applied(resource, *name, Outcome.UNCHANGED)
        try:
            applied, reclaimed = await self._write(resource, manifest)
        except FieldsOwnedError as error:
            return Applied(resource, *name, Outcome.CONFLICT, error.fields, error.owners)
        self._cache.learn(resource, applied)
        left = frozenset(item.path for item in differences(manifest, applied))
        memory[(resource, name)] = _Memory(digest, _version(applied), left)
        if live is not None and _version(applied) == _version(live):
            return Applied(resource, *name, Outcome.UNCHANGED)
        fields = tuple(item.path for item in found)
        if reclaimed or known is not None:
            return Applied(resource, *name, Outcome.CORRECTED, fields)
        return Applied(resource, *name, Outcome.CREATED if live is None else Outcome.CHANGED, fields)

    async def create(self, manifest: Manifest) -> Applied:
        """Create if absent: ``CREATED``, ``UNCHANGED`` when the operator's object is there already, else ``CONFLICT``."""
        resource, name = _place(manifest)
        try:
            created = await self._client.create(resource, manifest)
        except AlreadyExistsError:
            existing = await self._client.get(resource, *name)
            if existing is None:
                raise
            # The caches may not know it yet, and the next look must.
            self._cache.learn(resource, existing)
            if not is_ours(existing):
                return Applied(resource, *name, Outcome.CONFLICT, owner=f"an object that {FIELD_MANAGER} did not make")
            return Applied(resource, *name, Outcome.UNCHANGED)
        self._cache.learn(resource, created)
        return Applied(resource, *name, Outcome.CREATED)

    async def delete(self, resource: Resource, namespace: str, name: str) -> bool:
        """Delete the object if it exists and is the operator's; whether it was there.

        Raises:
            ConflictError: an object of that name that the operator did not make, or a newer one.
        """
        live = await self._live(resource, Name(namespace, name))
        if live is None or live["metadata"].get("deletionTimestamp"):
            return False
        if not is_ours(live):
            raise ConflictError(409, "Conflict", f"{resource.kind} {name} is not {FIELD_MANAGER}'s: not deleted")
        uid = live["metadata"]["uid"]
        existed = await self._client.delete(resource, namespace, name, uid=uid)
        for memory in self._memory.values():
            memory.pop((resource, Name(namespace, name)), None)
        if not live["metadata"].get("finalizers"):
            self._cache.forget(resource, namespace, name, uid)
        return existed

    def forget(self, owner: str) -> None:
        """The object with this uid is gone: drop what is remembered of its children."""
        self._memory.pop(owner, None)

    async def _write(self, resource: Resource, manifest: Manifest) -> tuple[Manifest, bool]:
        """The applied object, and whether fields were taken back from a person's edit.

        Raises:
            FieldsOwnedError: another manager owns fields and keeps them.
        """
        try:
            return await self._client.apply(resource, manifest), False
        except ConflictError as error:
            if not error.conflicts:
                raise
            if not all(is_reclaimable(conflict.message) for conflict in error.conflicts):
                raise FieldsOwnedError(error) from None
            edited = any(conflict.manager != FIELD_MANAGER for conflict in error.conflicts)
        return await self._reclaim(resource, manifest), edited

    async def _reclaim(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Take fields back: forced, but only onto the very version whose only other owners are hands.

        Raises:
            ConflictError: the object changed meanwhile.
        """
        metadata = manifest["metadata"]
        live = await self._client.get(resource, metadata.get("namespace"), metadata["name"])
        if live is None:
            return await self._client.apply(resource, manifest)
        pinned = {**manifest, "metadata": {**metadata, "resourceVersion": live["metadata"]["resourceVersion"]}}
        try:
            return await self._client.apply(resource, pinned)
        except ConflictError as error:
            if not error.conflicts or not all(is_reclaimable(conflict.message) for conflict in error.conflicts):
                raise
        return await self._client.apply(resource, pinned, force=True)

    def _sibling(self, manifest: Manifest, live: Manifest) -> str:
        """The other living custom resource that has made the object for itself; empty when there is none.

        An owner that was deleted and made again has another uid and the same name: the object is still its own.
        """
        wanted, present = _controller(manifest), _controller(live)
        if wanted is None or present is None or live["metadata"].get("deletionTimestamp"):
            return ""
        kind, name = present["kind"], present["name"]
        if present["uid"] == wanted["uid"] or (kind, name) == (wanted["kind"], wanted["name"]):
            return ""
        resource = next((resource for resource in KINDS if resource.kind == kind), None)
        if resource is None or not present["apiVersion"].startswith(f"{GROUP}/"):
            return ""
        owner = self._cache.current(resource, manifest["metadata"]["namespace"], name)
        return f"{kind} {name}" if owner is not None and owner["metadata"]["uid"] == present["uid"] else ""

    async def _live(self, resource: Resource, name: Name) -> Manifest | None:
        if self._cache.holds(resource):
            return self._cache.current(resource, *name)
        return await self._client.get(resource, name.namespace, name.name)


def is_reclaimable(message: str) -> bool:
    """Whether an apply conflict (``conflict with "kubectl-edit" using apps/v1 at …``) is with an update by a person's tool.

    The API says ``using <version>`` for updates alone; an apply's owner is named without it. What the operator itself wrote
    when it created the object counts as its own.
    """
    parts = message.split('"')
    owner = parts[1] if len(parts) > 2 else ""
    return (owner == FIELD_MANAGER or owner.startswith(_BY_HAND)) and " using " in message


def is_ours(live: Mapping[str, Any]) -> bool:
    """Whether the operator made the object: it carries the label, or fields that the operator applied."""
    labels = live["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == FIELD_MANAGER or owned_fields(live) is not None


def _controller(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def _place(manifest: Manifest) -> tuple[Resource, Name]:
    metadata = manifest["metadata"]
    return resource_of(manifest["apiVersion"], manifest["kind"]), Name(metadata.get("namespace", ""), metadata["name"])


def _digest(manifest: Manifest) -> bytes:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).digest()


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
