"""Rows and archives for tests of backup and restore."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.objects import an_object

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.backup.archive import Archive, ArchiveWriter, Header, new_file
from kmipd.objects.index import index_of
from kmipd.objects.managed import from_stored
from kmipd.storage.api import StoredObject

ATTRIBUTES = b"\x01\x00"
"""An object's attributes when all of them are columns."""

DESTROYED, ACTIVE = 5, 2


def a_key(uid: str | None = None, **changes: Any) -> StoredObject:
    """An active key whose attributes decode."""
    return an_object(uid, **{"attributes": ATTRIBUTES, "state": ACTIVE, **changes})


def a_tombstone(uid: str | None = None, **changes: Any) -> StoredObject:
    """A destroyed key."""
    return a_key(uid, **{"state": DESTROYED, "material": None, "revision": 2, **changes})


def write_archive(path: Path, rows: Sequence[StoredObject], keyspace: uuid.UUID | None = None) -> Path:
    """An archive of ``rows``."""
    header = Header(
        keyspace=keyspace or uuid.uuid4(), created_at=datetime.now(UTC), program_version="0", objects=len(rows)
    )
    with new_file(path) as file:
        writer = ArchiveWriter(file, header)
        for row in rows:
            writer.add(row)
        writer.finish()
    return path


def read_archive(path: Path) -> list[StoredObject]:
    """All rows of an archive."""
    with Archive.open(path) as archive:
        return [row for rows in archive.rows() for row in rows]


async def fill(
    settings: contract.Storage, rows: Sequence[StoredObject], keyspace: uuid.UUID | None = None
) -> uuid.UUID:
    """Insert rows into a database and close it; its keyspace."""
    opened = await storage.open(settings, keyspace, accept_empty=True)
    for row in rows:
        await opened.insert(row, index_of(from_stored(row), row.last_change_date))
    await opened.aclose()
    return opened.keyspace


async def content(settings: contract.Storage) -> list[StoredObject]:
    """All rows of a database."""
    async with storage.snapshot(settings) as snapshot:
        return [row async for rows in snapshot.rows() for row in rows]
