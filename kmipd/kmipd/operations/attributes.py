"""The operations on attributes (KMIP 1.4 §4.12 to §4.16)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kmipd.objects import changes, view
from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import ManagedObject
from kmipd.objects.material import digest_attribute, read_material
from kmipd.objects.values import check_value
from kmipd.operations.context import Context
from kmipd.wire.attributes import Attribute
from kmipd.wire.enums import ResultReason
from kmipd.wire.payloads import (
    AttributeRequest,
    AttributeResponse,
    DeleteAttributeRequest,
    GetAttributeListResponse,
    GetAttributesRequest,
    GetAttributesResponse,
    UniqueIdentifierRequest,
)
from kmipd.wire.ttlv import ItemType, decode_items

Change = Callable[[ManagedObject], Attribute]


async def _digest(context: Context, managed: ManagedObject) -> list[Attribute]:
    """The digest of an object whose digest is not stored."""
    if managed.object_type not in view.DIGEST_ON_DEMAND or managed.stored is None or managed.stored.material is None:
        return []
    structure = await context.unwrap(managed.stored)
    covered = read_material(managed.object_type, decode_items(structure)[0]).digest_input()
    return [] if covered is None else [Attribute("Digest", 0, ItemType.STRUCTURE, digest_attribute(*covered))]


async def get_attributes(context: Context, request: GetAttributesRequest) -> GetAttributesResponse:
    """The attributes asked for, all of them when none is named; names the object does not have are left out."""
    uid = context.resolve(request.unique_identifier)
    names = request.names
    if len(set(names)) != len(names):
        raise OperationFailed(ResultReason.InvalidMessage, "an attribute name is given twice")
    managed = await context.load(uid)
    context.placeholder = uid
    found: list[Attribute] = []
    for name in names or view.names(managed, context.version, context.now):
        found += view.attributes(managed, name, context.version, context.now)
    if "Digest" in names:
        found += await _digest(context, managed)
    elif not names:
        # Nobody asked for the digest by name: without its key manager the object still has all other attributes.
        with suppress(OperationFailed):
            found += await _digest(context, managed)
    return GetAttributesResponse(uid, found)


async def get_attribute_list(context: Context, request: UniqueIdentifierRequest) -> GetAttributeListResponse:
    """The names of all attributes the object has."""
    uid = context.resolve(request.unique_identifier)
    managed = await context.load(uid)
    context.placeholder = uid
    names = view.names(managed, context.version, context.now)
    if managed.object_type in view.DIGEST_ON_DEMAND and not managed.destroyed and managed.value_present:
        names.append("Digest")
    return GetAttributeListResponse(uid, names)


def _changeable(managed: ManagedObject) -> None:
    if managed.destroyed:
        raise OperationFailed(ResultReason.ObjectDestroyed, "the object has been destroyed")


async def add_attribute(context: Context, request: AttributeRequest) -> AttributeResponse:
    """Add an attribute or an instance of one."""
    uid = context.resolve(request.unique_identifier)

    def change(managed: ManagedObject) -> Attribute:
        _changeable(managed)
        return changes.add(managed, request.attribute, context.now)

    return AttributeResponse(uid, await _changed(context, uid, change, request.attribute))


async def modify_attribute(context: Context, request: AttributeRequest) -> AttributeResponse:
    """Change an instance's value."""
    uid = context.resolve(request.unique_identifier)

    def change(managed: ManagedObject) -> Attribute:
        _changeable(managed)
        return changes.modify(managed, request.attribute, context.now)

    return AttributeResponse(uid, await _changed(context, uid, change, request.attribute))


async def delete_attribute(context: Context, request: DeleteAttributeRequest) -> AttributeResponse:
    """Delete an instance; the answer repeats it."""
    uid = context.resolve(request.unique_identifier)

    def change(managed: ManagedObject) -> Attribute:
        _changeable(managed)
        return changes.delete(managed, request.attribute_name, request.attribute_index, context.now)

    attribute = await context.update(uid, change)
    context.placeholder = uid
    return AttributeResponse(uid, attribute)


async def _changed(context: Context, uid: str, change: Change, asked: Attribute) -> Attribute:
    if asked.name == "Name" and asked.type:
        async with context.naming([check_value(asked.name, asked.type, asked.value)]):
            attribute = await context.update(uid, change, check=context.check_names)
    else:
        attribute = await context.update(uid, change)
    context.placeholder = uid
    return attribute
