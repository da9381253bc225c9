"""A look at a schema that servers are writing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kmip_contract.kmipd import PostgresqlStorage as Settings
from kmipd.storage.api import Contents, DatabaseEmpty, StorageError, StoredObject, Wrapping
from kmipd.storage.migration import check_current
from kmipd.storage.postgresql import statements
from kmipd.storage.postgresql.pool import RELEASE_SECONDS, Pool, meaning
from kmipd.storage.postgresql.schema import MIGRATIONS

PORTION = 500
"""Rows fetched at once: about a megabyte."""

PORTION_SECONDS = 60.0
"""For one portion or count: the server may read all of it from a slow disk first."""


class PostgresqlSnapshot:
    """A read-only transaction of isolation level REPEATABLE READ."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], where: str, keyspace: UUID) -> None:
        self._connection = connection
        self._where = where
        self._keyspace = keyspace

    @property
    def keyspace(self) -> UUID:
        """The keyspace."""
        return self._keyspace

    async def contents(self) -> Contents:
        """Counts by state and by what wraps."""
        states = await self._all(statements.COUNTS)
        wrappings = await self._all(statements.WRAPPINGS)
        return Contents({row[0]: row[1] for row in states}, [Wrapping(*row) for row in wrappings])

    async def rows(self) -> AsyncIterator[Sequence[StoredObject]]:
        """Every row, in portions, in the order in which the objects were made."""
        try:
            cursor = await self._connection.cursor(statements.SELECT_ALL, timeout=PORTION_SECONDS)
            while rows := await cursor.fetch(PORTION, timeout=PORTION_SECONDS):
                yield [StoredObject(*row) for row in rows]
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise meaning(error, self._where) from None

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""
        rows = await self._all(statements.SELECT_MANY, [uid for uid in uids if "\0" not in uid])
        found = {row[0]: StoredObject(*row) for row in rows}
        return [found[uid] for uid in uids if uid in found]

    async def _all(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        try:
            return await self._connection.fetch(statement, *arguments, timeout=PORTION_SECONDS)
        except Exception as error:
            raise meaning(error, self._where) from None


@contextlib.asynccontextmanager
async def snapshot(settings: Settings) -> AsyncIterator[PostgresqlSnapshot]:
    """The schema as it is now; one transaction, which waits for nobody and for which nobody waits.

    Raises:
        DatabaseEmpty: there is no schema yet.
        StorageError: it cannot be read.
    """
    pool = Pool(settings)
    connection = await pool.connect()
    try:
        transaction = connection.transaction(isolation="repeatable_read", readonly=True)
        try:
            await transaction.start()
            keyspace = await _begin(connection, pool.where)
        except Exception as error:
            raise meaning(error, pool.where) from None
        yield PostgresqlSnapshot(connection, pool.where, keyspace)
    finally:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=RELEASE_SECONDS)


async def _begin(connection: asyncpg.Connection[asyncpg.Record], where: str) -> UUID:
    # The reader of the rows may be slower than any client: a full disk is waited for, a slow one is not an error.
    await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    if not await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL"):
        raise DatabaseEmpty(f"{where}: there is no database yet")
    row = await connection.fetchrow("SELECT max(version), max(readable_by) FROM migrations")
    if row is None or row[0] is None:
        raise DatabaseEmpty(f"{where}: there is no database yet")
    check_current(MIGRATIONS, current=row[0], readable_by=row[1], where=where)
    found = await connection.fetchval("SELECT id FROM keyspace")
    if found is None:
        raise StorageError(f"{where}: its keyspace is missing; restore the schema from a backup")
    return UUID(int=found.int)
