"""The life of a root key that is there: described, rotated, disabled, enabled, destroyed with proof."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from kmip_contract.rootkey import (
    CustodyErrorKind,
    Destruction,
    KeyVersionState,
    RootKeyAction,
    RootKeyFacts,
    RootKeyRef,
    RootKeyRequest,
    RootKeyVersion,
)
from kmip_custody import record
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import FoundKey, Gone, KeyVersion, RootKeyProvider, UnwrapItem, WrapItem
from kmip_custody.record import Record, Sealed

CALL_DEADLINE = 10.0
"""Seconds for one wrap or unwrap of a canary."""

SETTLE = 20.0
"""Seconds a key manager of several machines is given until each of them refuses the destroyed key."""

_LOOK_AGAIN = 0.25
_CONTEXT = b"kmip-operator/destruction-canary/1"
_REFUSALS = frozenset({CustodyErrorKind.ROOT_KEY_DESTROYED, CustodyErrorKind.ROOT_KEY_NOT_FOUND})


class _Canary(NamedTuple):
    """Something wrapped by a version that is to be destroyed."""

    key: KeyVersion
    plaintext: bytes
    sealed: Sealed
    aad: bytes


def reference(found: Sequence[FoundKey]) -> RootKeyRef:
    """The root key whose versions were found (at least one), as the contract carries it."""
    versions = tuple(RootKeyVersion(version=one.key.version, handle=one.key.handle, state=one.state) for one in found)
    return RootKeyRef(key_id=found[0].key.key_id, versions=versions)


async def known_versions(request: RootKeyRequest, provider: RootKeyProvider) -> tuple[FoundKey, ...]:
    """The versions ``request`` names, else those found under its ``key_id``; oldest first.

    Raises:
        CustodyError: it names none (ConfigurationError), or none is there (RootKeyNotFound).
    """
    if request.root_key is not None and request.root_key.versions:
        key_id = request.root_key.key_id
        ordered = sorted(request.root_key.versions, key=lambda one: one.version)
        return tuple(FoundKey(KeyVersion(key_id, one.version, one.handle), one.state) for one in ordered)
    if not request.key_id:
        raise CustodyError(
            CustodyErrorKind.CONFIGURATION, f"action {request.action} needs root_key or key_id; give one"
        )
    found = await provider.find(request.key_id)
    if not found:
        raise CustodyError(
            CustodyErrorKind.ROOT_KEY_NOT_FOUND, f"no root key {request.key_id!r} is in the key manager; check the id"
        )
    return found


async def act(request: RootKeyRequest, provider: RootKeyProvider, known: Sequence[FoundKey]) -> Destruction | None:
    """Do what ``request`` asks to the root key with the versions ``known``; what a destruction proved."""
    keys = [one.key for one in known]
    wanted = _wanted(request, known)
    whole = len(wanted) == len([one for one in known if one.state is not KeyVersionState.DESTROYED])
    match request.action:
        case RootKeyAction.ROTATE:
            await provider.rotate(keys, request.label or "")
        case RootKeyAction.DISABLE:
            await provider.disable(wanted, whole=whole)
            await _demand_state(provider, wanted, KeyVersionState.SUSPENDED)
        case RootKeyAction.ENABLE:
            await provider.enable(wanted, whole=whole)
            await provider.self_test(wanted[-1])
        case RootKeyAction.DESTROY:
            return await _destroy(provider, request, wanted, whole)
    return None


async def describe(
    provider: RootKeyProvider, known: Sequence[FoundKey]
) -> tuple[tuple[RootKeyVersion, ...], RootKeyFacts | None]:
    """The versions as they are now. Of a root key that is gone, those known before, Destroyed."""
    try:
        described = await provider.describe([one.key for one in known])
    except CustodyError as error:
        if error.kind not in _REFUSALS:
            raise
        gone = [one._replace(state=KeyVersionState.DESTROYED) for one in known]
        return reference(gone).versions, None
    return reference(described.versions).versions, described.facts


def _wanted(request: RootKeyRequest, known: Sequence[FoundKey]) -> list[KeyVersion]:
    """The versions to act on: the one asked for, else all that were not destroyed."""
    if request.target is None:
        alive = [one.key for one in known if one.state is not KeyVersionState.DESTROYED]
        return alive or [one.key for one in known]
    for one in known:
        if one.key.version == request.target:
            return [one.key]
    raise CustodyError(
        CustodyErrorKind.CONFIGURATION, f"the root key has no version {request.target}; check the request's target"
    )


async def _demand_state(provider: RootKeyProvider, keys: Sequence[KeyVersion], state: KeyVersionState) -> None:
    for key, found in zip(keys, await provider.inspect(keys), strict=True):
        if found is not state:
            raise CustodyError(
                CustodyErrorKind.UNAVAILABLE,
                f"version {key.version} of the root key is {found.lower()} and should be {state.lower()}; look at it in the "
                "key manager",
            )


async def _destroy(
    provider: RootKeyProvider, request: RootKeyRequest, keys: Sequence[KeyVersion], whole: bool
) -> Destruction:
    facts = (await describe(provider, [FoundKey(key, KeyVersionState.ACTIVE) for key in keys]))[1]
    canaries = [canary for key in keys if (canary := await _wrap_canary(provider, key)) is not None]
    earlier = None if request.canary is None else _decoded(provider, request.canary, keys)
    gone = await provider.destroy(keys, whole=whole, purge=bool(request.purge))
    refused_as = None
    for canary in (*canaries, *([earlier] if earlier else [])):
        refused_as = await _demand_refusal(provider, canary)
    copies = facts is None or bool(facts.exportable) or bool(facts.imported)
    shown = len(canaries) == len(keys) or earlier is not None
    last = canaries[-1] if canaries else earlier
    return Destruction(
        canaries=len(canaries) + (earlier is not None),
        refused_as=refused_as,
        proven=shown and not copies and gone.restorable_until is None,
        restorable_until=gone.restorable_until,
        purgeable_at=gone.purgeable_at,
        canary=None if last is None else _encoded(provider, last),
        note=_note(gone, keys, canaries if earlier is None else None, copies),
    )


def _note(gone: Gone, keys: Sequence[KeyVersion], canaries: Sequence[_Canary] | None, copies: bool) -> str:
    """``canaries``: those made just now; ``None`` where an earlier one spoke for them."""
    notes = [gone.note]
    missing = [] if canaries is None else sorted({key.version for key in keys} - {one.key.version for one in canaries})
    if missing:
        notes.append(f"versions {', '.join(map(str, missing))} could not wrap a canary: destroyed or suspended before")
    if copies:
        notes.append("a copy of the key may exist outside: it was exportable, was imported, or nothing is known of it")
    return "; ".join(filter(None, notes))


async def _wrap_canary(provider: RootKeyProvider, key: KeyVersion) -> _Canary | None:
    """``None`` where the version does not wrap: it is suspended, deactivated or gone.

    Raises:
        CustodyError: the key manager cannot be asked: nothing is destroyed then.
    """
    plaintext = secrets.token_bytes(32)
    aad = record.bind(provider.name, key.key_id, key.version, provider.mechanism, _CONTEXT)
    (sealed,) = await provider.wrap(key, [WrapItem(plaintext, aad)], monotonic() + CALL_DEADLINE)
    if not isinstance(sealed, CustodyError):
        canary = _Canary(key, plaintext, sealed, aad)
        opened = await _unwrap(provider, canary)
        if isinstance(opened, CustodyError):
            raise opened
        if not hmac.compare_digest(opened, plaintext):
            raise CustodyError(
                CustodyErrorKind.UNAVAILABLE, "the key manager does not return what it wrapped; check it"
            )
        return canary
    (state,) = await provider.inspect([key])
    if state is KeyVersionState.ACTIVE:
        raise sealed
    return None


async def _demand_refusal(provider: RootKeyProvider, canary: _Canary) -> CustodyErrorKind:
    give_up = monotonic() + SETTLE
    while True:
        opened = await _unwrap(provider, canary)
        if isinstance(opened, CustodyError) and opened.kind in _REFUSALS:
            return opened.kind
        if monotonic() > give_up:
            answer = opened.kind if isinstance(opened, CustodyError) else "the plain text"
            raise CustodyError(
                CustodyErrorKind.UNAVAILABLE,
                f"version {canary.key.version} of the root key was destroyed, and {SETTLE:g} s later the key manager still "
                f"answers an unwrap with {answer}; run Destroy again",
            )
        await asyncio.sleep(_LOOK_AGAIN)


async def _unwrap(provider: RootKeyProvider, canary: _Canary) -> bytes | CustodyError:
    item = UnwrapItem(canary.key, canary.sealed, canary.aad)
    (opened,) = await provider.unwrap([item], monotonic() + CALL_DEADLINE)
    return opened


def _encoded(provider: RootKeyProvider, canary: _Canary) -> str:
    entry = Record(provider.name, canary.key.key_id, canary.key.version, canary.sealed)
    return base64.b64encode(record.encode(entry)).decode()


def _decoded(provider: RootKeyProvider, text: str, keys: Sequence[KeyVersion]) -> _Canary:
    try:
        entry = record.decode(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise CustodyError(CustodyErrorKind.CONFIGURATION, "the request's canary is not base64") from None
    for key in keys:
        if (provider.name, key.key_id, key.version) == (entry.provider, entry.key_id, entry.version):
            aad = record.bind(provider.name, key.key_id, key.version, entry.sealed.mechanism, _CONTEXT)
            return _Canary(key, b"", entry.sealed, aad)
    raise CustodyError(
        CustodyErrorKind.CONFIGURATION, "the request's canary is not of a version that is to be destroyed"
    )
