"""Restoring an archive: into an empty database, or merged into one of the same keyspace.

Each portion is durable when it is done and a portion done twice changes nothing, so a restore that was interrupted anywhere is
simply run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from kmip_contract.kmipd import Storage as Settings
from kmipd import storage
from kmipd.backup.archive import Archive
from kmipd.backup.merge import Decision, decide
from kmipd.objects.index import index_of
from kmipd.objects.managed import from_stored
from kmipd.storage.api import DatabaseEmpty, Restored, Storage, StorageError, StoredObject

_ATTEMPTS = 10
"""Against other writers of one object (kmipd may serve from PostgreSQL meanwhile)."""

Summary = Counter[Decision]


async def plan(archive: Archive, settings: Settings, *, expected: UUID | None, apply_destroyed: bool) -> Summary:
    """What :func:`restore` would do now; nothing is written and no lock taken.

    Raises:
        StorageError: the database cannot be read, or is of another keyspace.
        ArchiveError: the archive cannot be read.
    """
    refuse_other_keyspace(archive, expected, "the configuration")
    try:
        async with storage.snapshot(settings) as snapshot:
            refuse_other_keyspace(archive, snapshot.keyspace, "the database")
            return await _each(archive, snapshot.get_many, None, apply_destroyed)
    except DatabaseEmpty:
        return Counter({Decision.ADD: archive.trailer.objects})


async def restore(archive: Archive, settings: Settings, *, expected: UUID | None, apply_destroyed: bool) -> Summary:
    """Bring every object of the archive into the database, which gets the archive's keyspace if it is empty.

    Raises:
        StorageError: the database cannot be used, is held by a server, or is of another keyspace.
        ArchiveError: the archive cannot be read.
    """
    refuse_other_keyspace(archive, expected, "the configuration")
    opened = await storage.open(settings, archive.header.keyspace, accept_empty=True)
    try:
        return await fill(archive, opened, apply_destroyed=apply_destroyed)
    finally:
        await opened.aclose()


async def fill(archive: Archive, opened: Storage, *, apply_destroyed: bool = False) -> Summary:
    """As :func:`restore`, for a database that is open."""
    return await _each(archive, opened.get_many, opened.restore, apply_destroyed)


def refuse_other_keyspace(archive: Archive, found: UUID | None, where: str) -> None:
    """Raise :class:`StorageError` when ``found`` is not the archive's keyspace: its keys could never be unwrapped there."""
    if found is not None and found != archive.header.keyspace:
        raise StorageError(
            f"the archive is of the keyspace {archive.header.keyspace}, but {where} says {found}; "
            "restore into an empty database or into its own"
        )


async def _each(
    archive: Archive,
    read: Callable[[Sequence[str]], Awaitable[list[StoredObject]]],
    write: Callable[[Sequence[Restored]], Awaitable[list[bool]]] | None,
    apply_destroyed: bool,
) -> Summary:
    summary: Summary = Counter()
    for portion in archive.rows():
        rows = portion
        for _ in range(_ATTEMPTS):
            held = {row.uid: row for row in await read([row.uid for row in rows])}
            decisions = [decide(held.get(row.uid), row, apply_destroyed=apply_destroyed) for row in rows]
            writing = [row for row, decision in zip(rows, decisions, strict=True) if decision.writes]
            done = {row.uid for row in writing}
            if write is not None and writing:
                written = await write([_as_it_is(row, held.get(row.uid)) for row in writing])
                done = {row.uid for row, success in zip(writing, written, strict=True) if success}
            left = [row for row in writing if row.uid not in done]
            lost = {row.uid for row in left}
            summary.update(decision for row, decision in zip(rows, decisions, strict=True) if row.uid not in lost)
            rows = left
            if not rows:
                break
        else:
            raise StorageError(f"the object {rows[0].uid} is changed by others all the time; restore again later")
    return summary


def _as_it_is(row: StoredObject, held: StoredObject | None) -> Restored:
    # Indexed as of its last change: a date that has come since is still marked, and settled by the next search.
    entries = index_of(from_stored(row), row.last_change_date)
    return Restored(row, entries, None if held is None else held.revision)
