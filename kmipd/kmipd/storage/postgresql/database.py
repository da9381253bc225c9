"""The PostgreSQL database: any number of replicas share it, each statement is a transaction of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self
from uuid import UUID

from kmip_contract.kmipd import PostgresqlStorage as Settings
from kmipd.storage.api import (
    Durability,
    IndexEntry,
    LocatePage,
    LocateQuery,
    ObjectExists,
    Restored,
    StorageError,
    StoredObject,
)
from kmipd.storage.index import index_keys
from kmipd.storage.postgresql import statements
from kmipd.storage.postgresql.durability import judge, observe
from kmipd.storage.postgresql.initialise import initialise
from kmipd.storage.postgresql.locate import count_statement, page_statement, plan
from kmipd.storage.postgresql.pool import Pool


class PostgresqlStorage:
    """A keyspace in one schema of a database."""

    def __init__(self, pool: Pool, keyspace: UUID) -> None:
        self._pool = pool
        self._keyspace = keyspace

    @classmethod
    async def open(
        cls, settings: Settings, expected_keyspace: UUID | None = None, *, accept_empty: bool = False
    ) -> Self:
        """Connect, bring the schema up to date, and check that it is the one that is expected.

        Raises:
            StorageError: it cannot be used; the message says why.
            StorageUnavailable: it does not answer now.
        """
        pool = Pool(settings)
        try:
            keyspace = await initialise(pool, settings.database_schema, expected_keyspace, accept_empty)
        except BaseException:
            await pool.aclose()
            raise
        return cls(pool, keyspace)

    @property
    def type(self) -> Literal["PostgreSQL"]:
        """The kind of database."""
        return "PostgreSQL"

    @property
    def keyspace(self) -> UUID:
        """The random identifier made when the database was initialised."""
        return self._keyspace

    async def get(self, uid: str) -> StoredObject | None:
        """The object, or ``None``."""
        if "\0" in uid:
            return None  # PostgreSQL's text holds no NUL
        rows = await self._pool.read(statements.SELECT, uid)
        return StoredObject(*rows[0]) if rows else None

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""
        rows = await self._pool.read(statements.SELECT_MANY, [uid for uid in uids if "\0" not in uid])
        found = {row[0]: StoredObject(*row) for row in rows}
        return [found[uid] for uid in uids if uid in found]

    async def insert(self, stored: StoredObject, index: Sequence[IndexEntry]) -> None:
        """Store a new object durably."""
        arguments = statements.insert_arguments(stored)
        if not await self._pool.write(statements.INSERT, *arguments, index_keys(index)):
            raise ObjectExists(f"an object {stored.uid} is already stored")

    async def replace(self, stored: StoredObject, index: Sequence[IndexEntry] | None) -> bool:
        """Replace the row whose revision is ``stored.revision`` durably; ``False`` if there is no such row."""
        arguments = statements.replace_arguments(stored)
        if index is None:
            return bool(await self._pool.write(statements.REPLACE, *arguments))
        return bool(await self._pool.write(statements.REPLACE_INDEXED, *arguments, index_keys(index)))

    async def restore(self, rows: Sequence[Restored]) -> list[bool]:
        """Write rows of a backup durably; ``False`` where another writer came first."""
        new = [
            (*statements.insert_arguments(row.stored), index_keys(row.entries)) for row in rows if row.replaces is None
        ]
        newer = [
            (
                *statements.replace_arguments(replace(row.stored, revision=row.replaces)),
                index_keys(row.entries),
                row.stored.revision,
            )
            for row in rows
            if row.replaces is not None
        ]
        written = {row[0] for row in await self._pool.write_many(statements.RESTORE_NEW, new)}
        written |= {row[0] for row in await self._pool.write_many(statements.RESTORE_NEWER, newer)}
        return [row.stored.uid in written for row in rows]

    async def locate(self, query: LocateQuery, *, offset: int, limit: int | None) -> LocatePage:
        """Identifiers that match, newest first. The total is counted only when the page does not tell it."""
        search = plan(query, index_keys(query.entries))
        rows = await self._pool.read(page_statement(search), *search.parameters, limit, offset)
        uids = [row[0] for row in rows]
        reached = offset + len(uids)
        last_page = limit is None or len(uids) < limit
        if last_page and (uids or not offset):
            return LocatePage(uids, reached)
        counted = await self._pool.read(count_statement(search), *search.parameters)
        total = int(counted[0][0])
        return LocatePage(uids, max(total, reached) if uids else total)

    async def counts(self) -> dict[int, int]:
        """How many objects there are by state."""
        return {row[0]: row[1] for row in await self._pool.read(statements.COUNTS)}

    async def durability(self) -> Durability:
        """Whether commits wait for a standby that follows."""
        return judge(await observe(self._pool))

    async def ping(self) -> None:
        """Commit something small, on the standby too if one is configured."""
        if len(await self._pool.write(statements.BEAT)) != 1:
            raise StorageError(f"{self._pool.where}: its heartbeat row is missing; restore the schema from a backup")

    async def aclose(self) -> None:
        """Finish what is under way, and hang up."""
        await self._pool.aclose()
