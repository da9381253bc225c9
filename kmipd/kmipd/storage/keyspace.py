"""The decision whether a database is the one that was meant."""

from __future__ import annotations

from uuid import UUID, uuid4

from kmipd.storage.api import StorageError


def settle_keyspace(found: UUID | None, expected: UUID | None, *, where: str, accept_empty: bool = False) -> UUID:
    """The keyspace to serve: the one ``found``, or a new one for an empty database of which nothing is ``expected``.

    ``accept_empty``: an empty database becomes the ``expected`` keyspace; for a restore, which fills it.

    Raises:
        StorageError: another keyspace is expected, or any: an empty database in its place means that keys are missing.
    """
    if expected is None:
        return found or uuid4()
    if found is None and accept_empty:
        return expected
    if found is None:
        raise StorageError(
            f"{where}: it is empty, but the keyspace {expected} is expected here; "
            "attach the database that holds it, or restore it from a backup"
        )
    if found != expected:
        raise StorageError(
            f"{where}: it holds the keyspace {found}, but {expected} is expected here; attach the right database, "
            "or change the expected keyspace if this one is meant"
        )
    return found
