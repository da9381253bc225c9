"""Watches Secrets by metadata alone: their content never travels, and Secrets of no interest take no memory.

Of each Secret that somebody refers to, or that the operator made, the watch keeps uid, version, labels, annotations and owners.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kmip_operator.kube.apply import MANAGED_BY
from kmip_operator.kube.client import FIELD_MANAGER, Client, Manifest
from kmip_operator.kube.errors import ApiError, GoneError, UnreachableError
from kmip_operator.kube.resources import SECRETS
from kmip_operator.kube.store import Name

_log = logging.getLogger(__name__)

RECONNECT = 1.0
"""Seconds before a broken watch is opened again, with jitter: the API server may have just restarted for everybody."""


@dataclass(frozen=True, slots=True)
class SecretMeta:
    """What is known of one Secret without its content."""

    name: str
    uid: str
    version: int
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_uids: tuple[str, ...] = ()
    deleting: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> SecretMeta:
        """From a Secret or its PartialObjectMetadata."""
        metadata = manifest["metadata"]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            labels=dict(metadata.get("labels") or {}),
            annotations=dict(metadata.get("annotations") or {}),
            owner_uids=tuple(owner["uid"] for owner in metadata.get("ownerReferences") or ()),
            deleting=metadata.get("deletionTimestamp") is not None,
        )

    @property
    def ours(self) -> bool:
        """Whether the operator made it."""
        return self.labels.get(MANAGED_BY) == FIELD_MANAGER


class SecretIndex:
    """The kept metadata. ``wanted(namespace, name)`` says whether somebody refers to a Secret."""

    def __init__(self, wanted: Callable[[str, str], bool]) -> None:
        self._wanted = wanted
        self._known: dict[Name, SecretMeta] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, namespace: str, name: str) -> SecretMeta | None:
        """The metadata, or ``None`` when the Secret is not kept (which does not mean that it is absent)."""
        return self._known.get(Name(namespace, name))

    def ours(self, namespace: str) -> tuple[SecretMeta, ...]:
        """Secrets of the namespace that the operator made, by name."""
        found = [meta for name, meta in self._known.items() if name.namespace == namespace and meta.ours]
        return tuple(sorted(found, key=lambda meta: meta.name))

    def put(self, manifest: Manifest) -> SecretMeta | None:
        """Keep the Secret's metadata if it is wanted or the operator's; the metadata, or ``None`` when it is neither."""
        metadata = manifest["metadata"]
        name = Name(metadata["namespace"], metadata["name"])
        meta = SecretMeta.of(manifest)
        if not meta.ours and not self._wanted(*name):
            return self._known.pop(name, None)
        known = self._known.get(name)
        if known is None or known.version < meta.version:
            self._known[name] = meta
        return meta

    def remove(self, namespace: str, name: str, uid: str | None = None) -> SecretMeta | None:
        """Forget the Secret (only the one with ``uid``); what was known of it."""
        key = Name(namespace, name)
        known = self._known.get(key)
        if known is None or (uid is not None and known.uid != uid):
            return None
        return self._known.pop(key)

    def names(self, namespace: str | None) -> tuple[Name, ...]:
        """The kept names of a namespace, or of all."""
        return tuple(name for name in self._known if namespace is None or name.namespace == namespace)


class SecretWatch:
    """Keeps a :class:`SecretIndex` current for one namespace (or all); calls ``changed(namespace, metadata)`` on news."""

    def __init__(
        self, client: Client, index: SecretIndex, namespace: str | None, changed: Callable[[str, SecretMeta], None]
    ) -> None:
        self._client = client
        self._index = index
        self._namespace = namespace
        self._changed = changed
        self._listed = asyncio.Event()

    async def listed(self) -> None:
        """Wait until the first list is complete."""
        await self._listed.wait()

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            ApiError: the API server refuses for good (403: a permission is missing).
        """
        while True:
            try:
                since = await self._list()
                while True:
                    since = await self._follow(since)
            except GoneError:
                _log.debug("secrets: the version is too old, listing again")
            except UnreachableError as error:
                _log.info("secrets: watch interrupted", extra={"error": str(error)})
            except ApiError as error:
                if error.status in {401, 403, 404}:
                    raise
                _log.warning("secrets: watch refused", extra={"error": str(error)})
            await asyncio.sleep(RECONNECT * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    async def _list(self) -> str:
        since = ""
        before = self._index.names(self._namespace)
        seen: set[Name] = set()
        async for items, version in self._client.pages(SECRETS, self._namespace, metadata_only=True):
            since = version
            for item in items:
                self._take(item)
                name = Name(item["metadata"]["namespace"], item["metadata"]["name"])
                if self._index.get(*name) is not None:
                    seen.add(name)
        for name in before:
            if name not in seen and (gone := self._index.remove(*name)) is not None:
                self._changed(name.namespace, gone)
        self._listed.set()
        return since

    async def _follow(self, since: str) -> str:
        """One watch request; the version to go on from. A quiet end (the server's time limit) is normal."""
        async for event in self._client.watch(SECRETS, self._namespace, since=since, metadata_only=True):
            since = self._handle(event, since)
        return since

    def _handle(self, event: dict[str, Any], since: str) -> str:
        manifest = event["object"]
        if event["type"] == "ERROR":
            code = int(manifest.get("code", 0))
            kind = GoneError if code == 410 else ApiError
            raise kind(code, str(manifest.get("reason", "")), str(manifest.get("message", "")))
        metadata = manifest["metadata"]
        if event["type"] == "DELETED":
            gone = self._index.remove(metadata["namespace"], metadata["name"], metadata["uid"])
            if gone is not None:
                self._changed(metadata["namespace"], gone)
        elif event["type"] != "BOOKMARK":
            self._take(manifest)
        return str(metadata.get("resourceVersion") or since)

    def _take(self, manifest: Manifest) -> None:
        meta = self._index.put(manifest)
        if meta is not None:
            self._changed(manifest["metadata"]["namespace"], meta)
