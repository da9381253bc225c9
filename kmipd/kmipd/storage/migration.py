"""Forward-only numbered migrations, and the decision which of them to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kmipd.storage.api import StorageError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. ``readable_by`` is the oldest schema version whose program still works on a database that took this step."""

    version: int
    readable_by: int
    statements: tuple[str, ...]


def pending(migrations: Sequence[Migration], *, current: int, readable_by: int, where: str) -> Sequence[Migration]:
    """The migrations that a database at version ``current`` still needs.

    A database of a newer release needs none, and is used as long as that release allows it (``readable_by``).

    Raises:
        StorageError: the database is too new for this program.
    """
    known = migrations[-1].version
    if readable_by > known:
        raise StorageError(
            f"{where}: its schema is version {current} and needs a kmipd of schema {readable_by} or newer, "
            f"this one is of schema {known}; run the newer release"
        )
    return [migration for migration in migrations if migration.version > current]


def check_current(migrations: Sequence[Migration], *, current: int, readable_by: int, where: str) -> None:
    """Raise :class:`StorageError` when a database cannot be read as it is: too new, or older than this program's schema."""
    if pending(migrations, current=current, readable_by=readable_by, where=where):
        raise StorageError(
            f"{where}: its schema is version {current}, older than this program's; start kmipd of this release on it once"
        )
