"""Activate, Revoke and Destroy (KMIP 1.4 §4.19 to §4.21)."""

from __future__ import annotations

from dataclasses import replace

from kmipd.objects.lifecycle import NO_STATE, activated, after_destroy, is_compromise, revoked
from kmipd.objects.managed import ManagedObject
from kmipd.objects.values import invalid
from kmipd.operations.context import Context
from kmipd.storage.api import StoredObject
from kmipd.wire import tags
from kmipd.wire.enums import RevocationReasonCode, State
from kmipd.wire.payloads import RevokeRequest, UniqueIdentifierRequest, UniqueIdentifierResponse
from kmipd.wire.ttlv import Item, ItemType


async def activate(context: Context, request: UniqueIdentifierRequest) -> UniqueIdentifierResponse:
    """Pre-Active becomes Active, now."""
    uid = context.resolve(request.unique_identifier)

    def change(managed: ManagedObject) -> None:
        managed.state = activated(managed.state_at(context.now))
        managed.set_single("Activation Date", context.now)
        managed.last_change_date = context.now

    await context.update(uid, change)
    context.placeholder = uid
    return UniqueIdentifierResponse(uid)


async def revoke(context: Context, request: RevokeRequest) -> UniqueIdentifierResponse:
    """A compromise makes the object Compromised; any other reason deactivates it."""
    uid = context.resolve(request.unique_identifier)
    code, message = request.reason
    if code not in {int(known) for known in RevocationReasonCode}:
        raise invalid("unknown revocation reason")
    if request.compromise_occurrence_date is not None and request.compromise_occurrence_date > context.now:
        raise invalid("the compromise occurrence date lies in the future")
    reason: list[Item] = [(tags.REVOCATION_REASON_CODE << 8 | ItemType.ENUMERATION, code)]
    if message is not None:
        reason.append((tags.REVOCATION_MESSAGE << 8 | ItemType.TEXT_STRING, message[:4096]))

    def change(managed: ManagedObject) -> None:
        before = managed.state_at(context.now)
        managed.state = revoked(before, code)
        managed.set_single("Revocation Reason", reason)
        if is_compromise(code):
            if "Compromise Date" not in managed.attributes:
                managed.set_single("Compromise Date", context.now)
            if request.compromise_occurrence_date is not None:
                managed.set_single("Compromise Occurrence Date", request.compromise_occurrence_date)
            elif "Compromise Occurrence Date" not in managed.attributes:
                managed.set_single("Compromise Occurrence Date", managed.initial_date)
        elif before == State.Active:
            managed.set_single("Deactivation Date", context.now)
        managed.last_change_date = context.now

    await context.update(uid, change)
    context.placeholder = uid
    return UniqueIdentifierResponse(uid)


def _erase(stored: StoredObject) -> StoredObject:
    return replace(stored, material=None)


async def destroy(context: Context, request: UniqueIdentifierRequest) -> UniqueIdentifierResponse:
    """Erase the wrapped material; the attributes stay, so that one can ask what became of the object."""
    uid = context.resolve(request.unique_identifier)

    def change(managed: ManagedObject) -> None:
        before = managed.state_at(context.now)
        managed.state = after_destroy(before) if before != NO_STATE else int(State.Destroyed)
        managed.set_single("Destroy Date", context.now)
        managed.last_change_date = context.now

    await context.update(uid, change, finish=_erase)
    return UniqueIdentifierResponse(uid)
