"""KMIP objects on disk: one repository interface, SQLite and PostgreSQL behind it."""

from __future__ import annotations

from uuid import UUID

from kmip_contract.kmipd import SqliteStorage as SqliteSettings
from kmip_contract.kmipd import Storage as Settings
from kmipd.storage.api import Storage


async def open(config: Settings, keyspace: UUID | None) -> Storage:  # noqa: A001 - read as storage.open
    """The database that ``config`` names, checked and migrated; ``keyspace`` as in :func:`settle_keyspace`.

    Raises:
        StorageError: it cannot be used; the message says why and what to do.
        StorageUnavailable: it does not answer now.
    """
    # Each driver is imported only where it is used: a process of one kind starts without the other's.
    if isinstance(config, SqliteSettings):
        from kmipd.storage.sqlite.database import SqliteStorage

        return await SqliteStorage.open(config.path, keyspace)
    from kmipd.storage.postgresql.database import PostgresqlStorage

    return await PostgresqlStorage.open(config, keyspace)
