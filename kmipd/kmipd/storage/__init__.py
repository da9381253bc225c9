"""KMIP objects on disk: one repository interface, SQLite and PostgreSQL behind it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from uuid import UUID

from kmip_contract.kmipd import SqliteStorage as SqliteSettings
from kmip_contract.kmipd import Storage as Settings
from kmipd.storage.api import Snapshot, Storage


async def open(config: Settings, keyspace: UUID | None, *, accept_empty: bool = False) -> Storage:  # noqa: A001 - read as storage.open
    """The database that ``config`` names, checked and migrated; the rest as in :func:`settle_keyspace`.

    Raises:
        StorageError: it cannot be used; the message says why and what to do.
        StorageUnavailable: it does not answer now.
    """
    # Each driver is imported only where it is used: a process of one kind starts without the other's.
    if isinstance(config, SqliteSettings):
        from kmipd.storage.sqlite.database import SqliteStorage

        return await SqliteStorage.open(config.path, keyspace, accept_empty=accept_empty)
    from kmipd.storage.postgresql.database import PostgresqlStorage

    return await PostgresqlStorage.open(config, keyspace, accept_empty=accept_empty)


def snapshot(config: Settings) -> AbstractAsyncContextManager[Snapshot]:
    """A look at the database that ``config`` names, also while a server holds it; nothing is made or migrated.

    Raises (on entry):
        DatabaseEmpty: there is none yet.
        StorageError: it cannot be used; the message says why and what to do.
    """
    if isinstance(config, SqliteSettings):
        from kmipd.storage.sqlite.snapshot import snapshot as of_sqlite

        return of_sqlite(config.path)
    from kmipd.storage.postgresql.snapshot import snapshot as of_postgresql

    return of_postgresql(config)
