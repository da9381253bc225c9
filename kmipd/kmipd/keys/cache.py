"""Plain-text keys in memory for a short, absolute time, wiped when it is over."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from kmip_contract.custody import WrapContext

CacheKey = tuple[str, int, int, int, int, bytes]


def cache_key(context: WrapContext, record: bytes) -> CacheKey:
    """What a plain text is cached under: all it is bound to, and the SHA-256 of the record.

    A record or an attribute that was changed behind kmipd's back misses the cache, and custody then refuses it.
    """
    return (
        context.uid,
        context.object_type,
        context.algorithm,
        context.length,
        context.generation,
        sha256(record).digest(),
    )


class KeyCache:
    """At most ``max_entries`` keys, each for at most ``max_age`` seconds after it was put in, however often it is read.

    Every entry has the same age limit, so the oldest is also the next to expire and the first to make room. Wiping covers
    the cache's own copy; copies handed out are the callers'.
    """

    def __init__(self, *, max_age: float, max_entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_age = max_age
        self._max_entries = max_entries if max_age > 0 else 0
        self._clock = clock
        self._entries: OrderedDict[CacheKey, tuple[float, bytearray]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: CacheKey) -> bytes | None:
        """A copy of the plain text, unless there is none or its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self.expire()
            return None
        return bytes(entry[1])

    def put(self, key: CacheKey, plaintext: bytes | bytearray) -> None:
        """Keep a copy of ``plaintext``; one that is there already keeps its age."""
        if not self._max_entries or key in self._entries:
            return
        if len(self._entries) >= self._max_entries:
            self._wipe_oldest()
        self._entries[key] = (self._clock() + self._max_age, bytearray(plaintext))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_age, self._on_timer)

    def expire(self) -> None:
        """Wipe every entry whose time is over."""
        now = self._clock()
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._wipe_oldest()

    def flush(self) -> None:
        """Wipe every entry."""
        while self._entries:
            self._wipe_oldest()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wipe_oldest(self) -> None:
        _, (_, plaintext) = self._entries.popitem(last=False)
        plaintext[:] = bytes(len(plaintext))

    def _on_timer(self) -> None:
        self._timer = None
        self.expire()
        if self._entries:
            wait = next(iter(self._entries.values()))[0] - self._clock()
            # At least a millisecond: the loop's clock may be coarser than ours and fire a little early.
            self._timer = asyncio.get_running_loop().call_later(max(wait, 0.001), self._on_timer)
