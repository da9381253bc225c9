"""A keyed work queue: each key at most once in line, never worked on twice at a time, backed off when it fails."""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with jitter, in seconds: the n-th failure in a row waits ``base·2ⁿ`` ± ``jitter``, at most ``ceiling``."""

    base: float = 0.5
    ceiling: float = 300.0
    jitter: float = 0.2

    def delay(self, failures: int, spread: float) -> float:
        """The pause after the ``failures``-th failure in a row (from 1); ``spread`` in [-1, 1] places it within the jitter."""
        plain = min(self.base * 2.0 ** min(failures - 1, 30), self.ceiling)
        return plain * (1.0 + self.jitter * spread)


class RetryError(Exception):
    """A failure that the handler has understood and logged; the key is due again by back-off."""


class QueueObserver(Protocol):
    """Receives what happens in the queue; called often, must be cheap."""

    def waited(self, seconds: float) -> None:
        """A key got its turn after this long."""

    def worked(self, seconds: float, *, failed: bool) -> None:
        """A key was worked on."""


class WorkQueue(Generic[Key]):
    """Level-triggered: a key says *what to look at*, never what happened.

    ``handler(key)`` returns the seconds after which the key is due again, or ``None``. The last answer stands: it replaces an
    earlier appointment. An exception (expected ones are :class:`RetryError`) makes the key due again by ``backoff``. A key
    added while it is worked on is due again right after. Times are the event loop's.
    """

    def __init__(
        self,
        handler: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int,
        backoff: Backoff | None = None,
        observer: QueueObserver | None = None,
    ) -> None:
        self._handler = handler
        self._workers = workers
        self._backoff = backoff or Backoff()
        self._observer = observer
        self._ready: OrderedDict[Key, float] = OrderedDict()
        self._active: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0
        self._work = asyncio.Event()
        self._alarm = asyncio.Event()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Make the key due now, or ``delay`` seconds from now unless it is due earlier."""
        if delay > 0.0:
            due = self._now() + delay
            if key not in self._ready and due < self._due.get(key, float("inf")):
                self._appoint(key, due)
        elif key in self._active:
            self._again.add(key)
        elif key not in self._ready:
            self._due.pop(key, None)
            self._ready[key] = self._now()
            self._work.set()

    def forget(self, key: Key) -> None:
        """The key has no object any more: its appointment and failures are dropped."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    @property
    def depth(self) -> int:
        """Keys in line or being worked on."""
        return len(self._ready) + len(self._active)

    @property
    def appointments(self) -> int:
        """Keys that are due later."""
        return len(self._due)

    def oldest(self) -> float:
        """Seconds since the longest-waiting key (in line or being worked on) became due; 0 when there is none."""
        first = next(iter(self._ready.values()), None)
        times = [*self._active.values(), *(() if first is None else (first,))]
        return self._now() - min(times) if times else 0.0

    async def run(self) -> None:
        """Work until cancelled. Cancelling stops handlers at their next await."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clock(), name="queue clock")
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"queue worker {number}")

    async def _worker(self) -> None:
        while True:
            while not self._ready:
                self._work.clear()
                await self._work.wait()
            key, since = self._ready.popitem(last=False)
            started = self._now()
            self._active[key] = started
            if self._observer:
                self._observer.waited(started - since)
            failed = True
            try:
                after = await self._handler(key)
                failed = False
            except RetryError:
                after = None
            except Exception:
                after = None
                # The handler logs what it understands; what ends here is a defect and must be seen.
                _log.exception("handler failed", extra={"key": str(key)})
            finally:
                del self._active[key]
                if self._observer:
                    self._observer.worked(self._now() - started, failed=failed)
            self._settle(key, after, failed=failed)

    def _settle(self, key: Key, after: float | None, *, failed: bool) -> None:
        self._due.pop(key, None)
        if failed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            spread = random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, protects nothing
            self._appoint(key, self._now() + self._backoff.delay(failures, spread))
        else:
            self._failures.pop(key, None)
            if after is not None:
                self._appoint(key, self._now() + max(after, 0.0))
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _appoint(self, key: Key, due: float) -> None:
        self._due.pop(key, None)
        self._sequence += 1
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [item for item in self._heap if self._due.get(item[2]) == item[0]]
            heapq.heapify(self._heap)
        self._due[key] = due
        heapq.heappush(self._heap, (due, self._sequence, key))
        if self._heap[0][1] == self._sequence:
            self._alarm.set()

    async def _clock(self) -> None:
        while True:
            now = self._now()
            while self._heap and self._heap[0][0] <= now:
                due, _, key = heapq.heappop(self._heap)
                # An appointment that was replaced or kept early has another time by now.
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            self._alarm.clear()
            pause = self._heap[0][0] - now if self._heap else None
            try:
                async with asyncio.timeout(pause):
                    await self._alarm.wait()
            except TimeoutError:
                continue

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
