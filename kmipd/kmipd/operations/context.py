"""What an operation works with: the services, who asks, and the batch so far."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kmip_contract.custody import WrapContext
from kmipd.keys.api import Keys, KeyUnavailable, WrappedKey
from kmipd.objects.errors import OperationFailed
from kmipd.objects.index import index_entry, index_of
from kmipd.objects.managed import ManagedObject, encode_attributes, from_stored, to_stored
from kmipd.objects.values import field_of
from kmipd.operations.api import Client, ServerInformation
from kmipd.operations.groups import GroupRotation
from kmipd.operations.locks import ObjectLocks
from kmipd.operations.reasons import key_unavailable
from kmipd.storage.api import LocateQuery, Storage, StoredObject
from kmipd.wire import tags
from kmipd.wire.enums import ResultReason
from kmipd.wire.ttlv import ItemType
from kmipd.wire.versions import Version

_ATTEMPTS = 16
"""Tries of a read-modify-write before the client is told to retry: each lost try means that another replica got on."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests share."""

    storage: Storage
    keys: Keys
    information: ServerInformation
    rotation: GroupRotation
    locks: ObjectLocks


@dataclass(slots=True)
class Context:
    """One message being served. ``now`` is Unix seconds; ``placeholder`` is the ID placeholder (KMIP 1.4 §4)."""

    services: Services
    client: Client
    version: Version
    now: int
    placeholder: str | None = None
    uids: list[str] = field(default_factory=list)

    def resolve(self, uid: str | None) -> str:
        """The identifier an item means, the ID placeholder when it names none.

        Raises:
            OperationFailed: ItemNotFound when there is no placeholder either.
        """
        if uid is None:
            uid = self.placeholder
            if uid is None:
                raise OperationFailed(
                    ResultReason.ItemNotFound, "no unique identifier is given and the ID placeholder is empty"
                )
        self.uids.append(uid[:256])
        return uid

    async def row(self, uid: str) -> StoredObject:
        """The row of an object.

        Raises:
            OperationFailed: ItemNotFound.
        """
        stored = await self.services.storage.get(uid)
        if stored is None:
            raise OperationFailed(ResultReason.ObjectNotFound, "no object has this unique identifier")
        return stored

    async def load(self, uid: str) -> ManagedObject:
        """An object by identifier.

        Raises:
            OperationFailed: ItemNotFound.
        """
        return from_stored(await self.row(uid))

    async def update(
        self,
        uid: str,
        change: Callable[[ManagedObject], T],
        *,
        check: Callable[[ManagedObject], Awaitable[None]] | None = None,
        finish: Callable[[StoredObject], StoredObject] | None = None,
    ) -> T:
        """Read, change and write an object; again when another writer came between (compare and swap).

        ``check`` may compare the changed object with others; ``finish`` may change columns that are not attributes.

        Raises:
            OperationFailed: what ``change`` raises, ItemNotFound, or GeneralFailure when every try lost.
        """
        async with self.services.locks.of(uid):
            for _ in range(_ATTEMPTS):
                managed = await self.load(uid)
                # A date that has come is written with the next change: the index no longer says that it will.
                managed.state = managed.state_at(self.now)
                result = change(managed)
                if check is not None:
                    await check(managed)
                stored = to_stored(managed)
                if finish is not None:
                    stored = finish(stored)
                if await self.services.storage.replace(stored, index_of(managed, self.now)):
                    return result
        raise OperationFailed(ResultReason.GeneralFailure, "the object is being changed by others, retry")

    async def check_names(self, managed: ManagedObject) -> None:
        """Names are unique among the objects that exist (KMIP 1.4 §3.2).

        Raises:
            OperationFailed: NonUniqueNameAttribute.
        """
        for instance in managed.attributes.get("Name", ()):
            entry = index_entry("Name", ItemType.STRUCTURE, instance.value)
            if entry is None:
                continue
            page = await self.services.storage.locate(LocateQuery(entries=(entry,)), offset=0, limit=2)
            if any(uid != managed.uid for uid in page.uids):
                name = field_of(instance.value, tags.NAME_VALUE)
                raise OperationFailed(ResultReason.NonUniqueNameAttribute, f"another object is named {name[:100]!r}")

    @asynccontextmanager
    async def naming(self, names: Sequence[Any]) -> AsyncIterator[None]:
        """While names (values of the Name attribute) are checked and given, no one else in this process gives them."""
        entries = [index_entry("Name", ItemType.STRUCTURE, name) for name in names]
        marks = sorted({f"name:{entry.value.hex()}" for entry in entries if entry is not None})
        async with AsyncExitStack() as stack:
            # In one order, so that two requests with the same names never wait for each other.
            for mark in marks:
                await stack.enter_async_context(self.services.locks.of(mark))
            yield

    def binding(self, stored: StoredObject) -> WrapContext:
        """What a stored object's material is bound to."""
        return self.binding_of(stored.uid, stored.object_type, stored.algorithm, stored.length, stored.generation)

    def binding_of(self, uid: str, object_type: int, algorithm: int, length: int, generation: int) -> WrapContext:
        """What material is bound to."""
        return WrapContext(
            keyspace=self.services.storage.keyspace,
            uid=uid,
            object_type=object_type,
            algorithm=algorithm,
            length=length,
            generation=generation,
        )

    async def wrap(self, managed: ManagedObject, plaintext: bytes | bytearray) -> WrappedKey:
        """Wrap a new object's material.

        Raises:
            OperationFailed: the root key is revoked or out of reach.
        """
        binding = self.binding_of(managed.uid, managed.object_type, managed.algorithm, managed.length, 1)
        try:
            return await self.services.keys.wrap(binding, plaintext)
        except KeyUnavailable as error:
            raise key_unavailable(error) from error

    async def unwrap(self, stored: StoredObject) -> bytes:
        """An object's material.

        Raises:
            OperationFailed: ObjectDestroyed, or the root key is revoked or out of reach.
        """
        if stored.material is None:
            raise OperationFailed(ResultReason.ObjectDestroyed, "the object has been destroyed")
        try:
            return await self.services.keys.unwrap(self.binding(stored), stored.material)
        except KeyUnavailable as error:
            raise key_unavailable(error) from error

    async def insert(self, managed: ManagedObject, wrapped: WrappedKey) -> None:
        """Store a new object; it is durable when this returns.

        Raises:
            OperationFailed: NonUniqueNameAttribute.
        """
        stored = StoredObject(
            managed.uid,
            managed.object_type,
            managed.state,
            managed.algorithm,
            managed.length,
            managed.usage_mask,
            managed.initial_date,
            managed.last_change_date,
            encode_attributes(managed),
            wrapped.record,
            wrapped.root_key_id,
            wrapped.root_key_version,
        )
        names = managed.attributes.get("Name")
        if names is None:
            await self.services.storage.insert(stored, index_of(managed, self.now))
            return
        async with self.naming([instance.value for instance in names]):
            await self.check_names(managed)
            await self.services.storage.insert(stored, index_of(managed, self.now))
