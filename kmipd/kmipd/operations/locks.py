"""One writer at a time for each object, within this process."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class ObjectLocks:
    """A lock for each object that is being changed. Taking a free one does not suspend.

    Compare-and-swap keeps replicas from overwriting each other; within one process, waiting one's turn is cheaper than losing.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, uid: str) -> asyncio.Lock:
        """The lock of an object; it lives while somebody holds or awaits it."""
        lock = self._locks.get(uid)
        if lock is None:
            lock = self._locks[uid] = asyncio.Lock()
        return lock
