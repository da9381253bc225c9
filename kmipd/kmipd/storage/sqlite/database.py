"""The SQLite database: reads at once on the event loop's thread, writes in groups through the writer."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import UUID

from kmipd.storage.api import (
    Durability,
    IndexEntry,
    LocatePage,
    LocateQuery,
    Restored,
    StorageError,
    StorageUnavailable,
    StoredObject,
)
from kmipd.storage.index import index_keys
from kmipd.storage.keyspace import settle_keyspace
from kmipd.storage.sqlite import file, statements
from kmipd.storage.sqlite.locate import locate
from kmipd.storage.sqlite.writer import Writer
from kmipd.storage.volume import VOLATILE_FILE_SYSTEMS, OwnerLock, file_system_type, refuse_network_file_system

PING_SECONDS = 5.0
"""A flush that takes longer makes every client wait longer than vCenter does before it asks another server."""

RECENT = 4096
"""Objects kept in memory after they were read: wrapped, and about two kilobytes each."""

_MANY = 500
"""Identifiers in one statement: SQLite's oldest default limit of parameters is 999."""


class _Taken(NamedTuple):
    path: Path
    keyspace: UUID
    lock: OwnerLock
    writer: sqlite3.Connection
    reader: sqlite3.Connection


class SqliteStorage:
    """A keyspace in one file, held exclusively until :meth:`aclose`.

    As nobody else writes the file, an object that was read is kept until it is written: a row is read every few minutes by
    each of many hosts, and reading it again costs ten times as much.
    """

    def __init__(
        self, path: Path, keyspace: UUID, lock: OwnerLock, writer: sqlite3.Connection, reader: sqlite3.Connection
    ) -> None:
        self._path = path
        self._keyspace = keyspace
        self._lock = lock
        self._reader = reader
        self._recent: OrderedDict[str, StoredObject] = OrderedDict()
        self._writer = Writer(writer, partial(_reopen, path, keyspace), changed=self._forget, name=str(path))

    @classmethod
    async def open(cls, path: Path, expected_keyspace: UUID | None = None, *, accept_empty: bool = False) -> Self:
        """Take the file at ``path``, creating it if there is none and nothing is expected of it, or emptiness accepted.

        Raises:
            StorageError: the volume, the file or its holder forbids it; the message says which and what to do.
        """
        return cls(*await asyncio.to_thread(_take, path, expected_keyspace, accept_empty))

    @property
    def type(self) -> Literal["SQLite"]:
        """The kind of database."""
        return "SQLite"

    @property
    def keyspace(self) -> UUID:
        """The random identifier made when the database was initialised."""
        return self._keyspace

    async def get(self, uid: str) -> StoredObject | None:
        """The object, or ``None``."""
        recent = self._recent.get(uid)
        if recent is not None:
            return recent
        try:
            rows = self._reader.execute(statements.SELECT, (uid,)).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        if not rows:
            return None
        stored = StoredObject(*rows[0])
        if len(self._recent) >= RECENT:
            self._recent.popitem(last=False)
        self._recent[uid] = stored
        return stored

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""
        found: dict[str, StoredObject] = {}
        try:
            for start in range(0, len(uids), _MANY):
                some = uids[start : start + _MANY]
                rows = self._reader.execute(statements.select_many(len(some)), tuple(some)).fetchall()
                found.update((row[0], StoredObject(*row)) for row in rows)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return [found[uid] for uid in uids if uid in found]

    async def insert(self, stored: StoredObject, index: Sequence[IndexEntry]) -> None:
        """Store a new object durably."""
        await self._writer.submit(stored.uid, partial(statements.insert, stored=stored, keys=index_keys(index)))

    async def replace(self, stored: StoredObject, index: Sequence[IndexEntry] | None) -> bool:
        """Replace the row whose revision is ``stored.revision`` durably; ``False`` if there is no such row."""
        keys = None if index is None else index_keys(index)
        return bool(await self._writer.submit(stored.uid, partial(statements.replace, stored=stored, keys=keys)))

    async def restore(self, rows: Sequence[Restored]) -> list[bool]:
        """Write rows of a backup durably; ``False`` where another writer came first."""
        writes = [
            self._writer.submit(row.stored.uid, partial(statements.restore, row=row, keys=index_keys(row.entries)))
            for row in rows
        ]
        return list(await asyncio.gather(*writes))

    async def locate(self, query: LocateQuery, *, offset: int, limit: int | None) -> LocatePage:
        """Identifiers that match, newest first."""
        try:
            return locate(self._reader, query, offset, limit)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    async def counts(self) -> dict[int, int]:
        """How many objects there are by state."""
        try:
            return dict(self._reader.execute(statements.COUNTS).fetchall())
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    async def durability(self) -> Durability:
        """One file is one copy."""
        volatile = VOLATILE_FILE_SYSTEMS.get(file_system_type(self._path.parent))
        if volatile:
            return Durability(False, f"One copy, in memory only ({volatile}): keys are lost when the machine stops.")
        return Durability(
            False, "One copy, flushed to its volume before each answer: keys are lost if the volume is lost."
        )

    async def ping(self) -> None:
        """Read, write and flush something small."""
        try:
            self._reader.execute("SELECT at FROM heartbeat").fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        written = self._writer.submit("", partial(statements.beat, now=int(time.time())))
        late = StorageUnavailable(f"{self._path}: a small write took longer than {PING_SECONDS:g} s; the disk hangs")
        timer = asyncio.get_running_loop().call_later(PING_SECONDS, _fail, written, late)
        try:
            await written
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """Finish accepted writes, write the log back into the file, and give the file up."""
        self._reader.close()
        await self._writer.aclose()
        self._lock.release()

    def _forget(self, uid: str) -> None:
        self._recent.pop(uid, None)

    def _unreadable(self, error: sqlite3.Error) -> StorageUnavailable:
        return StorageUnavailable(f"{self._path}: {error}")


def _take(path: Path, expected: UUID | None, accept_empty: bool) -> _Taken:
    path = path.absolute()
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent}: there is no such directory; the volume must be mounted there")
    refuse_network_file_system(path, file_system_type(path.parent))
    lock = OwnerLock.acquire(path)
    try:
        if expected is not None and not path.exists():
            settle_keyspace(None, expected, where=str(path), accept_empty=accept_empty)
        file.create_file(path)
        writer = file.connect(path, read_only=False)
        try:
            keyspace = file.prepare(writer, path, expected, accept_empty=accept_empty)
            return _Taken(path, keyspace, lock, writer, file.connect(path, read_only=True))
        except BaseException:
            writer.close()
            raise
    except sqlite3.Error as error:
        lock.release()
        raise StorageError(f"{path}: {error}") from error
    except BaseException:
        lock.release()
        raise


def _reopen(path: Path, keyspace: UUID) -> sqlite3.Connection:
    """A connection to the file after a write to it failed, once everything acknowledged is proven to be in it.

    The log is written back into the file and the file flushed: a log whose flush failed may be whole only in memory.
    """
    connection = file.connect(path, read_only=False)
    try:
        file.prepare(connection, path, keyspace)
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
        if busy:
            raise StorageUnavailable(f"{path}: the write-ahead log is in use by another program")
    except BaseException:
        connection.close()
        raise
    return connection


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
