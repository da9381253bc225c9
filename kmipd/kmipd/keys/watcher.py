"""Watching the root key: asks custody again and again, and drives the fence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from secrets import SystemRandom

from kmip_contract.custody import CustodyDescription, RootKeyState
from kmip_contract.rootkey import CustodyFailure, RootKeyRef
from kmipd.keys.api import KeyUnavailable
from kmipd.keys.client import CustodyClient
from kmipd.keys.fence import Fence

HEALTHY_SECONDS = 20.0
"""Time between looks at a usable root key: revocation is noticed within it, at three wraps a minute."""

UNHEALTHY_SECONDS = 5.0
"""Time between looks at one that is not usable: recovery is noticed soon, without pressing on a key manager in trouble."""

_JITTER = 0.1
"""Share of the interval by which it varies, so that replicas do not ask in step."""

_MAX_DISPROVED = 1024
"""Suspicions remembered as unfounded; beyond it they are all forgotten and may each fence once more."""


class RootKeyWatcher:
    """Describes the root key every ``healthy`` (``unhealthy``) seconds, and at once when something gives reason to."""

    def __init__(
        self,
        client: CustodyClient,
        fence: Fence,
        *,
        healthy: float = HEALTHY_SECONDS,
        unhealthy: float = UNHEALTHY_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._fence = fence
        self._healthy = healthy
        self._unhealthy = unhealthy
        self._now = now
        self._description = CustodyDescription(root_key=RootKeyRef(key_id=""), state=RootKeyState.UNKNOWN)
        self._checked_at: datetime | None = None
        self._connection = 0
        self._suspects: set[Hashable] = set()
        self._disproved: set[Hashable] = set()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def description(self) -> CustodyDescription:
        """What custody said last; with an error and the last known facts when it did not answer."""
        return self._description

    @property
    def checked_at(self) -> datetime | None:
        """When custody was last asked and the outcome known."""
        return self._checked_at

    @property
    def connection(self) -> int:
        """The custody connection (as in :class:`Outcome`) that gave the description."""
        return self._connection

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching."""
        for task in (self._task, self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def poke(self) -> None:
        """Have the watcher look now."""
        self._wake.set()

    async def look(self) -> None:
        """Ask custody now, or wait for the answer to a question that is under way."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._looking)

    def suspect(self, failure: CustodyFailure, about: Hashable) -> None:
        """A key could not be used for a reason that says the root key was taken away: fence now, then look.

        When the look disproves it (one record's root-key version is gone, say, and not the root key), the same key does not
        fence the instance again.
        """
        if about in self._disproved:
            return
        self._suspects.add(about)
        self._fence.set_root_key(RootKeyState.REVOKED, failure)
        self.poke()

    async def _watch(self) -> None:
        while True:
            self._wake.clear()
            await self.look()
            interval = self._healthy if self._fence.state is RootKeyState.USABLE else self._unhealthy
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval * SystemRandom().uniform(1 - _JITTER, 1 + _JITTER)):
                    await self._wake.wait()

    async def _look(self) -> None:
        epoch, suspects = self._fence.epoch, frozenset(self._suspects)
        try:
            description, connection = await self._client.describe()
        except KeyUnavailable as error:
            state = RootKeyState.REVOKED if error.kind.revoked else RootKeyState.UNREACHABLE
            failure = CustodyFailure(kind=error.kind, message=str(error))
            description = self._description.model_copy(update={"state": state, "error": failure})
            connection = self._connection
        self._description, self._connection = description, connection
        self._checked_at = self._now()
        self._conclude(description, epoch, suspects)

    def _conclude(self, description: CustodyDescription, epoch: int, suspects: frozenset[Hashable]) -> None:
        if description.state is RootKeyState.REVOKED:
            self._suspects.clear()
            self._disproved.clear()
            self._fence.set_root_key(RootKeyState.REVOKED, description.error)
            return
        if self._fence.state is RootKeyState.REVOKED and self._fence.epoch != epoch:
            self.poke()  # fenced after this question was asked: its answer may be older than the revocation
            return
        if description.state is not RootKeyState.USABLE:
            if self._fence.state is not RootKeyState.REVOKED:
                self._fence.set_root_key(RootKeyState.UNREACHABLE, description.error)
            return  # what was revoked stays so until it is seen to be usable
        if len(self._disproved) + len(suspects) > _MAX_DISPROVED:
            self._disproved.clear()
        self._disproved |= suspects
        self._suspects -= suspects
        self._fence.set_root_key(RootKeyState.USABLE, None)
