"""The keys layer as the operations see it: fence, then cache, then custody."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kmip_contract.allowlist import Serving
from kmip_contract.custody import CustodyDescription, RootKeyState, WrapContext
from kmip_contract.kmipd import KeyCache as CacheSettings
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure
from kmipd.keys.api import KeyUnavailable, WrappedKey
from kmipd.keys.cache import CacheKey, KeyCache, cache_key
from kmipd.keys.client import CustodyClient, Outcome
from kmipd.keys.fence import Fence
from kmipd.keys.watcher import HEALTHY_SECONDS, UNHEALTHY_SECONDS, RootKeyWatcher


class _Flight(NamedTuple):
    """One unwrapping under way, and the fence's epoch when it was asked for."""

    outcome: asyncio.Future[Outcome]
    epoch: int


class KeyService:
    """Wraps and unwraps by the root key, with the newest keys cached, from :meth:`start` until :meth:`aclose`.

    ``timeout`` in seconds bounds each call to custody, the intervals (seconds) are those between looks at the root key.
    ``hits`` and ``misses`` count unwrappings served from the cache and not.
    """

    def __init__(
        self,
        socket: Path,
        *,
        timeout: float,
        cache: CacheSettings,
        healthy_interval: float = HEALTHY_SECONDS,
        unhealthy_interval: float = UNHEALTHY_SECONDS,
    ) -> None:
        self._cache = KeyCache(max_age=cache.max_age, max_entries=cache.max_entries)
        self._fence = Fence(self._cache.flush)
        self._client = CustodyClient(socket, timeout=timeout, on_connected=self._on_connected)
        self._watcher = RootKeyWatcher(
            self._client, self._fence, healthy=healthy_interval, unhealthy=unhealthy_interval
        )
        self._flights: dict[CacheKey, _Flight] = {}
        self.hits = 0
        self.misses = 0

    async def start(self) -> None:
        """Begin to watch the root key and wait for the first look at it, which may fail: keys are served once custody does."""
        self._watcher.start()
        await self._watcher.look()

    async def aclose(self) -> None:
        """Hang up and wipe the cache."""
        await self._watcher.aclose()
        await self._client.aclose()
        self._cache.flush()

    @property
    def serving(self) -> Serving:
        """The instance's switch."""
        return self._fence.serving

    @property
    def root_key_state(self) -> RootKeyState:
        """The root key's state as the fence sees it: a failed unwrapping may have told more than the last look."""
        return self._fence.state

    @property
    def description(self) -> CustodyDescription:
        """What custody said last of the root key."""
        return self._watcher.description

    @property
    def checked_at(self) -> datetime | None:
        """When custody was last asked about the root key."""
        return self._watcher.checked_at

    @property
    def cached(self) -> int:
        """Keys in the cache."""
        return len(self._cache)

    def set_serving(self, serving: Serving) -> None:
        """Turn the instance's switch: ``Fenced`` wipes the cache and refuses every key from now on."""
        self._fence.set_serving(serving)

    async def wrap(self, context: WrapContext, plaintext: bytes | bytearray) -> WrappedKey:
        """Wrap ``plaintext``, bound to ``context``; it is cached, because who makes a key soon asks for it."""
        fence = self._fence
        if not fence.open:
            raise fence.refusal()
        epoch = fence.epoch
        try:
            outcome = await self._client.wrap(context, plaintext)
        except KeyUnavailable as error:
            if error.kind.revoked:
                self._watcher.suspect(_failure(error), context.uid)
            raise
        root_key_id = await self._root_key_id(outcome.connection)
        if fence.epoch != epoch and not fence.open:
            raise fence.refusal()
        if fence.epoch == epoch:
            self._cache.put(cache_key(context, outcome.data), plaintext)
        return WrappedKey(outcome.data, root_key_id, outcome.root_key_version)

    async def unwrap(self, context: WrapContext, record: bytes) -> bytes:
        """The plain text of ``record``; without suspending while it is cached and the fence open."""
        if not self._fence.open:
            raise self._fence.refusal()
        key = cache_key(context, record)
        plaintext = self._cache.get(key)
        if plaintext is not None:
            self.hits += 1
            return plaintext
        self.misses += 1
        return await self._fetch(key, context, record)

    async def _fetch(self, key: CacheKey, context: WrapContext, record: bytes) -> bytes:
        while True:
            epoch = self._fence.epoch
            flight = self._flights.get(key)
            if flight is None or flight.epoch != epoch:
                flight = _Flight(self._client.unwrap(context, record), epoch)
                self._flights[key] = flight
                flight.outcome.add_done_callback(partial(self._landed, key, flight))
            outcome = await asyncio.shield(flight.outcome)
            if not self._fence.open:
                raise self._fence.refusal()
            if self._fence.epoch == epoch:
                return outcome.data

    def _landed(self, key: CacheKey, flight: _Flight, outcome: asyncio.Future[Outcome]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if outcome.cancelled():
            return
        error = outcome.exception()
        if error is None:
            if self._fence.open and self._fence.epoch == flight.epoch:
                self._cache.put(key, outcome.result().data)
        elif isinstance(error, KeyUnavailable) and error.kind.revoked:
            self._watcher.suspect(_failure(error), key)

    async def _root_key_id(self, connection: int) -> str:
        """The root key of a custody connection: custody restarts to serve another one."""
        if self._watcher.connection != connection:
            await self._watcher.look()
        if self._watcher.connection != connection:
            raise KeyUnavailable(
                CustodyErrorKind.UNAVAILABLE, "custody restarted and has not said which root key it serves"
            )
        return self._watcher.description.root_key.key_id

    def _on_connected(self) -> None:
        self._watcher.poke()


def _failure(error: KeyUnavailable) -> CustodyFailure:
    return CustodyFailure(kind=error.kind, message=str(error))
