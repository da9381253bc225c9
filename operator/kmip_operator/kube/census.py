"""Compares the caches with the API from time to time.

A watch says what changed, never what it missed: after a long interruption it lists again, and objects that went meanwhile are
in no event. The census lists metadata, forgets what is gone, and so also proves, from one end to the other and without any
write, that watch events still arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from kmip_operator.kube.cache import SELECTOR, Caches
from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.resources import CHILDREN, NODES, Resource
from kmip_operator.kube.store import Name

GRACE = 15.0
"""Seconds for a watch event to arrive; it takes milliseconds, some seconds after the API server restarted."""


class Missing(NamedTuple):
    """An object that the API has (at this version or a newer one) and the cache has not."""

    resource: Resource
    name: Name
    version: int


class Census:
    """One namespace's (or all namespaces') census. ``gone(resource, manifest)`` is told of every forgotten object."""

    def __init__(
        self,
        client: Client,
        caches: Caches,
        namespaces: tuple[str | None, ...],
        gone: Callable[[Resource, Manifest], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._caches = caches
        self._namespaces = namespaces
        self._gone = gone
        self._sleep = sleep

    async def take(self, grace: float = GRACE) -> tuple[Missing, ...]:
        """Forget what is gone; what the watches should have delivered but did not within ``grace`` seconds."""
        behind = [missing for resource in self._caches.stores for missing in await self._compare(resource)]
        waited = 0.0
        while behind and waited < grace:
            await self._sleep(0.1)
            waited += 0.1
            behind = [missing for missing in behind if self._is_behind(missing)]
        # An object that went in the meantime was never going to arrive.
        return tuple([missing for missing in behind if await self._still_there(missing)])

    async def _compare(self, resource: Resource) -> list[Missing]:
        store = self._caches.stores[resource]
        selector = SELECTOR if resource in CHILDREN else ""
        namespaces = (None,) if resource == NODES else self._namespaces
        behind: list[Missing] = []
        before = {name: store.identity(*name) for name in store.names()}
        found: set[Name] = set()
        for namespace in namespaces:
            async for items, _ in self._client.pages(resource, namespace, selector=selector, metadata_only=True):
                for item in items:
                    metadata = item["metadata"]
                    name = Name(metadata.get("namespace", ""), metadata["name"])
                    found.add(name)
                    missing = Missing(resource, name, int(metadata["resourceVersion"]))
                    if self._is_behind(missing):
                        behind.append(missing)
        for name, identity in before.items():
            # Only what was known before the list and has not changed since can be called gone by it.
            if name not in found and identity is not None and store.identity(*name) == identity:
                manifest = store.get(*name)
                store.remove(*name, uid=identity[0])
                if manifest is not None:
                    self._gone(resource, manifest)
        return behind

    def _is_behind(self, missing: Missing) -> bool:
        identity = self._caches.stores[missing.resource].identity(*missing.name)
        return identity is None or identity[1] < missing.version

    async def _still_there(self, missing: Missing) -> bool:
        namespace = missing.name.namespace or None
        return await self._client.get_metadata(missing.resource, namespace, missing.name.name) is not None
