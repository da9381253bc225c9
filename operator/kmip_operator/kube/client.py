"""The verbs the operator uses on the API: read, apply, create, delete, patch; writes only while this process leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from kmip_operator.kube.errors import NotFoundError
from kmip_operator.kube.resources import Resource
from kmip_operator.kube.transport import APPLY, DEADLINE, JSON, JSON_PATCH, MERGE_PATCH, Transport

Manifest = dict[str, Any]

FIELD_MANAGER = "kmip-operator"

METADATA = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE = 500
"""Objects in one page of a list: bounds memory here and in the API server."""

WATCH_SECONDS = 290
"""The server ends a watch after this; without it the API server picks a random time between 5 and 10 minutes."""

WATCH_INACTIVITY = 75.0
"""Bookmarks come every 60 s; a stream silent for longer is dead (a load balancer's silent drop shows in no other way)."""


def _always() -> None:
    """The write guard of a process that need not lead."""


def _uncounted(verb: str, plural: str) -> None:
    """Nobody counts."""


class Client:
    """The API, typed as far as the operator needs it. Every method may raise the errors of :meth:`Transport.request`.

    ``guard`` is called right before each write and raises :class:`~kmip_operator.kube.errors.NotLeadingError` when this process
    may no longer be the leader; ``count(verb, plural)`` right after it.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        guard: Callable[[], None] = _always,
        count: Callable[[str, str], None] = _uncounted,
    ) -> None:
        self._transport = transport
        self._guard = guard
        self._count = count

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """The object, or ``None``."""
        try:
            found: Manifest = await self._transport.request("GET", resource.path(namespace, name))
        except NotFoundError:
            return None
        return found

    async def get_metadata(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """The object's metadata alone (as a manifest), or ``None``; its content is not transferred."""
        try:
            found: Manifest = await self._transport.request("GET", resource.path(namespace, name), accept=METADATA)
        except NotFoundError:
            return None
        return found

    async def pages(
        self, resource: Resource, namespace: str | None, *, selector: str = "", metadata_only: bool = False
    ) -> AsyncIterator[tuple[list[Manifest], str]]:
        """The collection page by page, each with the list's resource version. ``selector`` is a label selector.

        Raises:
            GoneError: the list took longer than the API server keeps versions; start again.
        """
        query = {"limit": str(PAGE)}
        if selector:
            query["labelSelector"] = selector
        accept = METADATA_LIST if metadata_only else JSON
        while True:
            page = await self._transport.request("GET", resource.path(namespace), query=query, accept=accept)
            yield page.get("items") or [], str(page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    def watch(
        self, resource: Resource, namespace: str | None, *, since: str, selector: str = "", metadata_only: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Watch events (with bookmarks) after resource version ``since``."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if selector:
            query["labelSelector"] = selector
        accept = METADATA if metadata_only else JSON
        return self._transport.stream(resource.path(namespace), query=query, accept=accept, inactivity=WATCH_INACTIVITY)

    async def apply(self, resource: Resource, manifest: Manifest, *, force: bool = False) -> Manifest:
        """Server-side apply as ``kmip-operator``.

        Raises:
            ConflictError: another manager owns a field (``error.conflicts``), or ``metadata.resourceVersion`` was given and is
                not the object's.
        """
        metadata = manifest["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        path = resource.path(metadata.get("namespace"), metadata["name"])
        applied: Manifest = await self._write("PATCH", resource, path, query=query, body=manifest, content_type=APPLY)
        return applied

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create the object.

        Raises:
            AlreadyExistsError: an object of that name exists.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        path = resource.path(manifest["metadata"].get("namespace"))
        # A create that is repeated after a lost answer could find its own object: the caller must tell that apart, so none is.
        created: Manifest = await self._write("POST", resource, path, query=query, body=manifest, retry=False)
        return created

    async def replace(self, resource: Resource, manifest: Manifest, *, deadline: float = DEADLINE) -> Manifest:
        """Replace the object; with ``metadata.resourceVersion`` only that version of it.

        Raises:
            ConflictError: the object has changed.
        """
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"])
        replaced: Manifest = await self._write("PUT", resource, path, body=manifest, deadline=deadline, retry=False)
        return replaced

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> bool:
        """Delete the object if it is still the one with ``uid``, its dependants in the background; whether it existed.

        Raises:
            ConflictError: an object of that name with another uid exists.
        """
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._write("DELETE", resource, resource.path(namespace, name), body=body)
        except NotFoundError:
            return False
        return True

    async def merge(self, resource: Resource, namespace: str | None, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch (RFC 7396)."""
        path = resource.path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        merged: Manifest = await self._write("PATCH", resource, path, query=query, body=patch, content_type=MERGE_PATCH)
        return merged

    async def set_status(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str, status: Manifest
    ) -> Manifest:
        """Replace the whole status of the object with ``uid``.

        Raises:
            ApiError: 422 when an object of that name with another uid exists.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = resource.path(namespace, name, "status")
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        written: Manifest = await self._write("PATCH", resource, path, query=query, body=patch, content_type=JSON_PATCH)
        return written

    async def _write(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any,
        content_type: str = JSON,
        deadline: float = DEADLINE,
        retry: bool = True,
    ) -> Any:
        self._guard()
        self._count(method.lower(), resource.plural)
        return await self._transport.request(
            method, path, query=query, body=body, content_type=content_type, deadline=deadline, retry=retry
        )
