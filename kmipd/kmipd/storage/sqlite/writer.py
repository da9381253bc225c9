"""The one thread that writes: it commits whatever waits as one group, and only then tells the waiters.

One flush to disk then serves many clients; a client's answer depends on no other's write, because a group that fails for the
sake of one write is undone and its writes are done again one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from kmipd.storage.api import ObjectExists, StorageError, StorageUnavailable

MAX_PENDING = 4096
"""Writes that may wait: twice the default limit of connections, each of which waits for one; more means a disk that hangs."""

MAX_GROUP = 256
"""Writes in one transaction: enough for any number of clients seen, few enough to keep the first waiter's delay small."""

Apply = Callable[[sqlite3.Connection], Any]
Open = Callable[[], sqlite3.Connection]

REOPEN_SECONDS = 1.0
"""Least time between two attempts to trust the file again: each reads all of it."""

_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class _Write(NamedTuple):
    uid: str
    apply: Apply
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    result: Any
    error: BaseException | None


class Writer:
    """Runs writes in a thread of its own, in the order they came.

    ``connection`` is used until a write fails for the disk's or file's sake; then ``reopen`` must give a verified one before
    anything is written again. ``changed`` is told, on the loop's thread and before the waiter, the identifier of each object
    that was written or may have been.
    """

    def __init__(
        self, connection: sqlite3.Connection, reopen: Open, *, changed: Callable[[str], object], name: str
    ) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._reopen = reopen
        self._changed = changed
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._pending = 0
        self._closed = False
        self._reopen_at = 0.0
        self._complaint = ""
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, uid: str, apply: Apply) -> asyncio.Future[Any]:
        """Have ``apply``, which writes the object ``uid``, run in a transaction; its result is there once that is durable.

        Raises:
            StorageUnavailable: too many writes wait already, or the database is closed.
        """
        if self._closed:
            raise StorageUnavailable(f"{self._name}: the database is closed")
        if self._pending >= MAX_PENDING:
            raise StorageUnavailable(f"{self._name}: {self._pending} writes wait; the disk does not keep up")
        self._pending += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Write(uid, apply, future))
        return future

    async def aclose(self) -> None:
        """Finish the writes that were accepted, and close the connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            outcomes = self._commit(group) if group else []
            if not running and self._connection is not None:
                self._connection.close()
            try:
                self._loop.call_soon_threadsafe(self._deliver, group, outcomes, running)
            except RuntimeError:
                return  # the loop is gone, and with it everyone who waited

    def _next_group(self) -> tuple[list[_Write], bool]:
        group: list[_Write] = []
        write = self._queue.get()
        try:
            while write is not None:
                group.append(write)
                if len(group) == MAX_GROUP:
                    return group, True
                write = self._queue.get_nowait()
        except Empty:
            return group, True
        return group, False

    def _deliver(self, group: list[_Write], outcomes: list[_Outcome], running: bool) -> None:
        self._pending -= len(group)
        for write, outcome in zip(group, outcomes, strict=True):
            self._changed(write.uid)
            if write.future.done():
                continue  # the waiter was cancelled; the write stands
            if outcome.error is None:
                write.future.set_result(outcome.result)
            else:
                write.future.set_exception(outcome.error)
        if not running:
            self._stopped.set_result(None)

    def _commit(self, group: list[_Write]) -> list[_Outcome]:
        try:
            return self._commit_together(group)
        except Exception as error:
            if not _is_own_fault(error) or not self._undo():
                return self._unavailable(group, error)
            if len(group) > 1:
                return [outcome for write in group for outcome in self._commit([write])]
            return [_Outcome(None, StorageError(f"{self._name}: the values do not fit the schema: {error}"))]

    def _commit_together(self, group: list[_Write]) -> list[_Outcome]:
        connection = self._connection = self._connection or self._trusted()
        outcomes: list[_Outcome] = []
        connection.execute("BEGIN IMMEDIATE")
        for write in group:
            try:
                outcomes.append(_Outcome(write.apply(connection), None))
            except ObjectExists as error:
                outcomes.append(_Outcome(None, error))
        connection.execute("COMMIT")
        return outcomes

    def _trusted(self) -> sqlite3.Connection:
        if time.monotonic() < self._reopen_at:
            raise StorageUnavailable(self._complaint)
        self._reopen_at = time.monotonic() + REOPEN_SECONDS
        return self._reopen()

    def _undo(self) -> bool:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def _unavailable(self, group: list[_Write], error: BaseException) -> list[_Outcome]:
        """Trust the connection no more: after a failed flush the kernel may have dropped what it could not write."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._complaint = str(error) if isinstance(error, StorageError) else f"{self._name}: {error}"
        return [_Outcome(None, StorageUnavailable(self._complaint)) for _ in group]


def _is_own_fault(error: Exception) -> bool:
    """Whether one write's values are at fault, rather than the file or the disk."""
    return not isinstance(error, sqlite3.Error | StorageError | OSError) or isinstance(error, _OWN_FAULTS)
