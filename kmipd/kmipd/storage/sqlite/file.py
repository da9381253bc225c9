"""Opening the database file: its marks, its integrity, its migrations, and the connections to it."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from uuid import UUID

from kmipd.storage.api import StorageError
from kmipd.storage.keyspace import settle_keyspace
from kmipd.storage.migration import pending
from kmipd.storage.sqlite.schema import APPLICATION_ID, MIGRATIONS
from kmipd.storage.volume import fsync_directory

BUSY_SECONDS = 5.0
"""How long to wait for a lock: nobody else writes, but an administrator's sqlite3 shell may read or copy the file."""

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection in autocommit mode that may be used from any one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def create_file(path: Path) -> None:
    """Make an empty file that only its owner reads, and its directory entry durable, unless there is one."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; the volume must be mounted and writable") from error
    fsync_directory(path.parent)


def prepare(connection: sqlite3.Connection, path: Path, expected: UUID | None, *, accept_empty: bool = False) -> UUID:
    """Check the file, bring its schema up to date, and return its keyspace; as :func:`settle_keyspace` says.

    Raises:
        StorageError: the file is another program's, damaged, of a newer schema, or of another keyspace.
    """
    application, schema = _scalar(connection, "PRAGMA application_id"), _scalar(connection, "PRAGMA schema_version")
    if application != APPLICATION_ID and schema != 0:
        raise StorageError(f"{path}: it is an SQLite database of another program (application_id {application})")
    if schema == 0:
        settle_keyspace(None, expected, where=str(path), accept_empty=accept_empty)
    else:
        check_integrity(connection, path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(f"{path}: write-ahead logging could not be switched on (journal mode {mode})")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        keyspace = _migrate(connection, path, expected, accept_empty)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    fsync_directory(path.parent)
    return keyspace


def check_integrity(connection: sqlite3.Connection, path: Path) -> None:
    """Raise :class:`StorageError` when pages or indexes of the file are damaged."""
    findings = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    if findings != ["ok"]:
        raise StorageError(f"{path}: the file is damaged ({'; '.join(findings)}); restore it from a backup")


def _migrate(connection: sqlite3.Connection, path: Path, expected: UUID | None, accept_empty: bool) -> UUID:
    current = _scalar(connection, "PRAGMA user_version")
    readable_by = _scalar(connection, "SELECT max(readable_by) FROM migrations") if current else 0
    now = int(time.time())
    for migration in pending(MIGRATIONS, current=current, readable_by=readable_by, where=str(path)):
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO migrations (version, readable_by, applied_at) VALUES (?, ?, ?)",
            (migration.version, migration.readable_by, now),
        )
        connection.execute(f"PRAGMA user_version = {migration.version}")
    row = connection.execute("SELECT id FROM keyspace").fetchall()
    found = UUID(bytes=row[0][0]) if row else None
    keyspace = settle_keyspace(found, expected, where=str(path), accept_empty=accept_empty)
    if found is None:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO keyspace VALUES (1, ?, ?)", (keyspace.bytes, now))
    return keyspace


def _scalar(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchall()[0][0])
