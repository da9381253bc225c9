"""``kmip-custody job``: one root-key action, once, with one log-in."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kmip_contract.rootkey import (
    CustodyErrorKind,
    CustodyFailure,
    KeyVersionState,
    ProviderFacts,
    RootKeyAction,
    RootKeyRef,
    RootKeyRequest,
    RootKeyResult,
    RootKeyVersion,
)
from kmip_custody.errors import CustodyError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import FoundKey, Options, RootKeyProvider

MAX_RESULT = 4096
"""Bytes of a container's termination message."""

_MAX_MESSAGE = 2048


async def run(request: RootKeyRequest, deadline: float) -> RootKeyResult:
    """Do what ``request`` asks within ``deadline`` seconds. Every failure is in the result's ``error``; nothing is raised."""
    facts = ProviderFacts()
    try:
        provider, credential = make_provider(
            request.connection,
            request.credential,
            require_confirmed=False,
            options=Options(deadline, writable=request.action is RootKeyAction.CREATE),
        )
        async with asyncio.timeout(deadline):
            confirmed = credential.hmac()
            facts = await provider.probe()
            root_key, created = await _act(request, provider)
            if root_key is not None:
                facts = await provider.open()
            await provider.close()
    except TimeoutError:
        error = CustodyFailure(
            kind=CustodyErrorKind.DEADLINE_EXCEEDED,
            message=f"the key manager did not answer within {deadline:g} s; check its connection and its module",
        )
        return RootKeyResult(action=request.action, facts=facts, error=error)
    except CustodyError as failed:
        return RootKeyResult(action=request.action, facts=facts, error=failed.failure())
    return RootKeyResult(
        action=request.action, facts=facts, root_key=root_key, created=created, credential_hmac=confirmed
    )


def write(result: RootKeyResult, result_file: Path | None) -> bytes:
    """``result`` as one line of at most 4096 bytes, also written to ``result_file`` (in place: it may be a mount).

    Raises:
        OSError: ``result_file`` cannot be written.
    """
    line = _line(result)
    if len(line) > MAX_RESULT and result.error is not None:
        short = result.error.model_copy(update={"message": result.error.message[:_MAX_MESSAGE] + " …"})
        line = _line(result.model_copy(update={"error": short, "facts": ProviderFacts()}))
    if len(line) > MAX_RESULT:
        error = CustodyFailure(
            kind=CustodyErrorKind.CONFIGURATION,
            message="the result does not fit 4096 bytes: the root key has too many versions",
        )
        line = _line(RootKeyResult(action=result.action, error=error))
    if result_file is not None:
        with result_file.open("wb") as file:
            file.write(line)
    return line


async def _act(request: RootKeyRequest, provider: RootKeyProvider) -> tuple[RootKeyRef | None, bool]:
    if request.action is RootKeyAction.PROBE:
        return None, False
    if not request.key_id:
        raise CustodyError(CustodyErrorKind.CONFIGURATION, f"action {request.action} needs key_id; give one")
    created = False
    if request.action is RootKeyAction.ADOPT:
        found: tuple[FoundKey, ...] = (await provider.adopt(request.key_id),)
    else:
        found = await provider.find(request.key_id)
        created = not found
        if created:
            found = (await provider.create(request.key_id, 1, request.label or "", request.length),)
        else:
            newest = found[-1].key.version
            again = await provider.create(request.key_id, newest, request.label or "", request.length)
            found = (*found[:-1], again)
    await provider.self_test(_newest_active(found).key)
    versions = tuple(RootKeyVersion(version=one.key.version, handle=one.key.handle, state=one.state) for one in found)
    return RootKeyRef(key_id=request.key_id, versions=versions), created


def _newest_active(found: tuple[FoundKey, ...]) -> FoundKey:
    for one in reversed(found):
        if one.state is KeyVersionState.ACTIVE:
            return one
    newest = found[-1]
    raise CustodyError(
        CustodyErrorKind.ROOT_KEY_DISABLED,
        f"the root key is in the key manager, but version {newest.key.version} ({newest.key.handle}) is "
        f"{newest.state.lower()}; enable it there",
    )


def _line(result: RootKeyResult) -> bytes:
    return result.model_dump_json(exclude_none=True).encode() + b"\n"
