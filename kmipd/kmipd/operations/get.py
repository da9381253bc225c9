"""Get: an object's key material (KMIP 1.4 §4.11)."""

from __future__ import annotations

from contextlib import suppress

from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import FRESH, RESTRICTED, ManagedObject, from_stored, to_stored
from kmipd.objects.material import Material, read_material
from kmipd.operations.context import Context
from kmipd.operations.formats import convert
from kmipd.operations.wrapping import unwrap_registered, wrap_for_client
from kmipd.storage.api import StorageError, StoredObject
from kmipd.wire.enums import KeyWrapType, ObjectType, ResultReason
from kmipd.wire.payloads import GetRequest, GetResponse
from kmipd.wire.ttlv import decode_items

_ATTEMPTS = 4
"""Tries of marking an object as served while other replicas change it."""

_FLAGS = 1
"""Where the flags stand in a row's attributes."""


def _check_exposure(managed: ManagedObject, *, wrapped: bool) -> None:
    """Sensitive objects leave wrapped only, others that are not Extractable not at all (KMIP 1.4 §3.47, §3.49)."""
    if not managed.flag("Extractable", True):
        raise OperationFailed(ResultReason.NotExtractable, "the object is not extractable")
    if managed.flag("Sensitive", False) and not wrapped:
        raise OperationFailed(ResultReason.Sensitive, "the object is sensitive and must be wrapped")


async def _mark_served(context: Context, uid: str) -> None:
    """Fresh ends with the first Get (KMIP 1.4 §3.34). A database that cannot be written to withholds no key for it."""
    with suppress(StorageError):
        async with context.services.locks.of(uid):
            for _ in range(_ATTEMPTS):
                managed = await context.load(uid)
                if not managed.fresh:
                    return
                managed.fresh = False
                if await context.services.storage.replace(to_stored(managed), None):
                    return


async def fetch(context: Context, uid: str) -> tuple[StoredObject, bytes]:
    """The row and the object's structure, for a Get that asks for it as it is: the way almost every request goes.

    Raises:
        OperationFailed: not there, destroyed, not extractable, or its root key is away.
    """
    stored = await context.services.storage.get(uid)
    if stored is None:
        raise OperationFailed(ResultReason.ObjectNotFound, "no object has this unique identifier")
    flags = stored.attributes[_FLAGS]
    if flags & RESTRICTED:
        _check_exposure(from_stored(stored), wrapped=False)
    structure = await context.unwrap(stored)
    if flags & FRESH:
        await _mark_served(context, uid)
    return stored, structure


async def get(context: Context, request: GetRequest) -> GetResponse:
    """Answer with the object as it was registered or created, in another key format, or wrapped under another key."""
    uid = context.resolve(request.unique_identifier)
    context.placeholder = uid
    plain = request.key_format_type is None and request.key_wrap_type is None and request.wrapping is None
    if plain:
        stored, structure = await fetch(context, uid)
        return GetResponse(stored.object_type, uid, structure)
    stored = await context.row(uid)
    managed = from_stored(stored)
    if managed.restricted:
        _check_exposure(managed, wrapped=request.wrapping is not None)
    material = read_material(stored.object_type, decode_items(await context.unwrap(stored))[0])
    block = material.block
    if request.key_wrap_type == KeyWrapType.NotWrapped and block is not None and block.wrapping is not None:
        await unwrap_registered(context, block)
    _check_format(material, request)
    if request.wrapping is not None:
        await wrap_for_client(context, managed, material, request.wrapping)
    answer = material.encode()
    if managed.fresh:
        await _mark_served(context, uid)
    return GetResponse(stored.object_type, uid, answer)


def _check_format(material: Material, request: GetRequest) -> None:
    wanted = request.key_format_type
    if wanted is None or (material.block is not None and wanted == material.block.format):
        return
    convertible = material.object_type in {ObjectType.SymmetricKey, ObjectType.PrivateKey, ObjectType.PublicKey}
    if material.block is None or material.block.wrapping is not None or not convertible:
        raise OperationFailed(ResultReason.KeyFormatTypeNotSupported, "the object has no such key format")
    convert(material.block, material.object_type, wanted)
