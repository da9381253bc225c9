"""Bringing a schema up to date, while other replicas may be doing the same."""

from __future__ import annotations

import contextlib
from uuid import UUID

import asyncpg

from kmipd.storage.api import StorageError
from kmipd.storage.keyspace import settle_keyspace
from kmipd.storage.migration import pending
from kmipd.storage.postgresql.pool import RELEASE_SECONDS, Pool, meaning
from kmipd.storage.postgresql.schema import JOURNAL, MIGRATIONS

MIGRATION_SECONDS = 600.0
"""For all pending migrations, or for another replica to finish them: an index over millions of rows takes minutes."""

_LOCK = 0x4B4D4944
"""The advisory lock's class (``KMID``); its object is the hash of the schema's name."""


async def initialise(pool: Pool, schema: str, expected: UUID | None, accept_empty: bool = False) -> UUID:
    """Make or migrate the schema in one transaction, and return its keyspace.

    Raises:
        StorageError: the role may not, the schema is too new, or of another keyspace.
        StorageUnavailable: the server does not answer now.
    """
    connection = await pool.connect()
    try:
        async with connection.transaction():
            return await _migrate(connection, pool.where, schema, expected, accept_empty)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StorageError(
            f"{pool.where}: {error}; let the role own the schema, or create schemas in the database"
        ) from None
    except StorageError:
        raise
    except Exception as error:
        raise meaning(error, pool.where) from None
    finally:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=RELEASE_SECONDS)


async def _migrate(
    connection: asyncpg.Connection[asyncpg.Record], where: str, schema: str, expected: UUID | None, accept_empty: bool
) -> UUID:
    await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, schema, timeout=MIGRATION_SECONDS)
    if not await connection.fetchval("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", schema):
        await connection.execute(f'CREATE SCHEMA "{schema}"')
    await connection.execute("SET LOCAL client_min_messages = warning")
    await connection.execute(JOURNAL)
    row = await connection.fetchrow("SELECT coalesce(max(version), 0), coalesce(max(readable_by), 0) FROM migrations")
    current, readable_by = (0, 0) if row is None else row
    for migration in pending(MIGRATIONS, current=current, readable_by=readable_by, where=where):
        for statement in migration.statements:
            await connection.execute(statement, timeout=MIGRATION_SECONDS)
        await connection.execute(
            "INSERT INTO migrations (version, readable_by) VALUES ($1, $2)", migration.version, migration.readable_by
        )
    found = await connection.fetchval("SELECT id FROM keyspace")
    held = None if found is None else UUID(int=found.int)
    keyspace = settle_keyspace(held, expected, where=where, accept_empty=accept_empty)
    if found is None:
        await connection.execute("INSERT INTO keyspace (singleton, id) VALUES (1, $1)", keyspace)
    return keyspace
