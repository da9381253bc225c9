"""The repository interface: what the operations may ask of a database, whichever it is.

Every write is durable when its coroutine returns, and every read sees every write that returned before it began, on any
replica. Values of attributes are bytes that only :mod:`kmipd.objects` understands; a database compares them for equality.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID


class StorageError(Exception):
    """A database that cannot be used: says which, what was found, and what to do."""


class StorageUnavailable(StorageError):
    """The database does not answer now; the same call may succeed later."""


class ObjectExists(StorageError):
    """An object with this identifier is already stored."""


class IndexEntry(NamedTuple):
    """One searchable attribute value: the attribute's name as KMIP spells it and a canonical encoding of its value."""

    attribute: str
    value: bytes


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One managed object as a row.

    ``object_type``, ``state`` and ``algorithm`` are KMIP enumeration values (``state`` 0: the object has none), ``length``
    is in bits, dates are Unix seconds. ``attributes`` is the objects layer's encoding of the rest. ``material`` is custody's
    wrapped record, or ``None`` once the object is destroyed; ``root_key_id`` and ``root_key_version`` say what wraps it.
    ``generation`` counts the material's wrappings and is bound into them; ``revision`` counts the row's updates.
    """

    uid: str
    object_type: int
    state: int
    algorithm: int
    length: int
    usage_mask: int
    initial_date: int
    last_change_date: int
    attributes: bytes
    material: bytes | None
    root_key_id: str
    root_key_version: int
    generation: int = 1
    revision: int = 1


@dataclass(frozen=True, slots=True)
class LocateQuery:
    """A conjunction. ``entries`` must all be present on the object; the others are columns, ``None`` meaning any.

    ``usage_mask`` asks for objects that have all of its bits (KMIP 1.4 §4.9). Date bounds are inclusive
    Unix seconds. Newest first (KMIP 1.4 §4.9 asks for no order; newest first makes paging stable).
    """

    entries: tuple[IndexEntry, ...] = ()
    object_type: int | None = None
    state: int | None = None
    algorithm: int | None = None
    length: int | None = None
    usage_mask: int | None = None
    initial_date_from: int | None = None
    initial_date_to: int | None = None


class Restored(NamedTuple):
    """A row to be written exactly as it is, revision included, and its index entries.

    ``replaces`` is the revision of the row in its place, ``None`` when there must be none.
    """

    stored: StoredObject
    entries: Sequence[IndexEntry]
    replaces: int | None


class Wrapping(NamedTuple):
    """A version of a root key, and how many objects' material it wraps."""

    root_key_id: str
    root_key_version: int
    objects: int


class Contents(NamedTuple):
    """How many objects there are by state, and what wraps their material."""

    states: dict[int, int]
    wrappings: list[Wrapping]


class LocatePage(NamedTuple):
    """Matching objects' identifiers, and how many match in all."""

    uids: list[str]
    total: int


@dataclass(frozen=True, slots=True)
class Durability:
    """Whether an acknowledged write survives the loss of a machine, and why (one sentence for a person)."""

    durable: bool
    message: str


class DatabaseEmpty(StorageError):
    """There is no database yet where one is configured."""


class Snapshot(Protocol):
    """All rows as they were at one instant, readable while a server writes on. Every method may raise :class:`StorageError`."""

    @property
    def keyspace(self) -> UUID:
        """The keyspace."""

    async def contents(self) -> Contents:
        """What :meth:`rows` will give, counted."""

    def rows(self) -> AsyncIterator[Sequence[StoredObject]]:
        """Every row, in portions, in the order in which the objects were made."""

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""


class Storage(Protocol):
    """A database of one keyspace. Every method may raise :class:`StorageUnavailable`."""

    @property
    def type(self) -> str:
        """``SQLite`` or ``PostgreSQL``."""

    @property
    def keyspace(self) -> UUID:
        """The random identifier made when the database was initialised."""

    async def get(self, uid: str) -> StoredObject | None:
        """The object, or ``None``. Does not suspend on SQLite."""

    async def get_many(self, uids: Sequence[str]) -> list[StoredObject]:
        """The objects that exist, in the order asked."""

    async def insert(self, stored: StoredObject, index: Sequence[IndexEntry]) -> None:
        """Store a new object. Raises :class:`ObjectExists`."""

    async def replace(self, stored: StoredObject, index: Sequence[IndexEntry] | None) -> bool:
        """Replace the row whose revision is ``stored.revision``, and write it as ``revision + 1``.

        ``index`` replaces the object's entries; ``None`` leaves them. ``False``: another writer came first, nothing changed.
        ``uid`` and ``initial_date`` never change.
        """

    async def restore(self, rows: Sequence[Restored]) -> list[bool]:
        """Write rows of a backup, each whole or not at all; ``False`` where another writer came first."""

    async def locate(self, query: LocateQuery, *, offset: int, limit: int | None) -> LocatePage:
        """Identifiers that match, newest first."""

    async def counts(self) -> dict[int, int]:
        """How many objects there are by state."""

    async def durability(self) -> Durability:
        """What the database promises now."""

    async def ping(self) -> None:
        """Prove that reads and writes are possible now. Raises :class:`StorageUnavailable`."""

    async def aclose(self) -> None:
        """Finish writes that were accepted, and release the database."""
