"""A look at a database file that another process may hold and write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from kmipd.storage.api import Contents, DatabaseEmpty, StorageError, StoredObject, Wrapping
from kmipd.storage.migration import check_current
from kmipd.storage.sqlite import statements
from kmipd.storage.sqlite.file import BUSY_SECONDS
from kmipd.storage.sqlite.schema import APPLICATION_ID, MIGRATIONS
from kmipd.storage.volume import file_system_type, refuse_network_file_system

PORTION = 500
"""Rows read at once: about a megabyte; also SQLite's oldest default limit of parameters is 999."""


class SqliteSnapshot:
    """A read transaction: the write-ahead log keeps for it what was committed when it began."""

    def __init__(self, connection: sqlite3.Connection, path: Path, keyspace: UUID) -> None:
        self._connection = connection
        self._path = path
        self._keyspace = keyspace

    @property
    def keyspace(self) -> UUID:
        """The keyspace."""
        return self._keyspace

    async def contents(self) -> Contents:
        """Counts by state and by what wraps."""
        states = await self._all(statements.COUNTS)
        return Contents(dict(states), [Wrapping(*row) for row in await self._all(statements.WRAPPINGS)])

    async def rows(self) -> AsyncIterator[Sequence[StoredObject]]:
        """Every row, in portions, in the order in which the objects were made."""
        cursor = await asyncio.to_thread(self._connection.execute, statements.SELECT_ALL)
        with closing(cursor):
            while rows := await self._portion(cursor):
                yield [StoredObject(*row) for row in rows]

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""
        found: dict[str, StoredObject] = {}
        for start in range(0, len(uids), PORTION):
            some = uids[start : start + PORTION]
            rows = await self._all(statements.select_many(len(some)), *some)
            found.update((row[0], StoredObject(*row)) for row in rows)
        return [found[uid] for uid in uids if uid in found]

    async def _all(self, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
        try:
            return await asyncio.to_thread(lambda: self._connection.execute(statement, parameters).fetchall())
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from error

    async def _portion(self, cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
        try:
            return await asyncio.to_thread(cursor.fetchmany, PORTION)
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[SqliteSnapshot]:
    path = path.absolute()
    if not path.exists() or not path.stat().st_size:
        raise DatabaseEmpty(f"{path}: there is no database yet")
    # A reader shares memory with the writer, so both must run on one machine, as for the owner.
    refuse_network_file_system(path, file_system_type(path.parent))
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            keyspace = _begin(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error
    with closing(connection):
        yield SqliteSnapshot(connection, path, keyspace)


@asynccontextmanager
async def snapshot(path: Path) -> AsyncIterator[SqliteSnapshot]:
    """The file at ``path`` as it is now. The owner's lock is neither taken nor needed; nothing is written.

    Raises:
        DatabaseEmpty: there is no file, or nothing in it.
        StorageError: it cannot be read.
    """
    with _opened(path) as opened:
        yield opened


def _begin(connection: sqlite3.Connection, path: Path) -> UUID:
    connection.execute("PRAGMA query_only = ON")
    connection.execute("BEGIN")
    application = connection.execute("PRAGMA application_id").fetchall()[0][0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
    if application != APPLICATION_ID and tables:
        raise StorageError(f"{path}: it is an SQLite database of another program (application_id {application})")
    if not tables:
        raise DatabaseEmpty(f"{path}: there is no database yet")
    current, readable_by = connection.execute("SELECT max(version), max(readable_by) FROM migrations").fetchall()[0]
    check_current(MIGRATIONS, current=current, readable_by=readable_by, where=str(path))
    return UUID(bytes=connection.execute("SELECT id FROM keyspace").fetchall()[0][0])
