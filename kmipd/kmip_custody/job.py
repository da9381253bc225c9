"""``kmip-custody job``: one root-key action, once, with one log-in."""

from __future__ import annotations

import asyncio

import structlog

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

_MAX_MESSAGE = 500
"""Characters of a message that is shortened: six bytes each at most (JSON), so it fits."""

_log = structlog.get_logger("kmip_custody.job")


async def run(request: RootKeyRequest, deadline: float) -> RootKeyResult:
    """Do what ``request`` asks within ``deadline`` seconds. Every failure is in the result's ``error``; nothing is raised."""
    facts = ProviderFacts()
    try:
        provider, credential = make_provider(
            request.connection,
            request.credential,
            # A Probe finds out whether a credential is good; every other Job may only use one that a Probe confirmed.
            require_confirmed=request.credential is not None and request.credential.hmac is not None,
            options=Options(deadline, writable=request.action is RootKeyAction.CREATE),
        )
        async with asyncio.timeout(deadline):
            confirmed = credential.hmac()
            facts = await (provider.probe() if request.action is RootKeyAction.PROBE else provider.open())
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


def fit(result: RootKeyResult) -> RootKeyResult:
    """``result``, or one that says less, so that its line is at most 4096 bytes."""
    if len(line(result)) <= MAX_RESULT:
        return result
    error = result.error or CustodyFailure(
        kind=CustodyErrorKind.CONFIGURATION,
        message=f"the result does not fit {MAX_RESULT} bytes: the root key has too many versions or too long an identifier",
    )
    short = error.model_copy(update={"message": error.message[:_MAX_MESSAGE]})
    return RootKeyResult(action=result.action, error=short)


def line(result: RootKeyResult) -> bytes:
    """``result`` as one line."""
    return result.model_dump_json(exclude_none=True).encode() + b"\n"


async def _act(request: RootKeyRequest, provider: RootKeyProvider) -> tuple[RootKeyRef | None, bool]:
    if request.action is RootKeyAction.PROBE:
        return None, False
    if not request.key_id:
        raise CustodyError(CustodyErrorKind.CONFIGURATION, f"action {request.action} needs key_id; give one")
    # Also for Adopt: a key that was created under this id keeps it, and with it the records that name it.
    found = await provider.find(request.key_id)
    created = False
    if found and request.action is RootKeyAction.CREATE:
        newest = found[-1].key.version
        again = await provider.create(request.key_id, newest, request.label or "", request.length)
        found = (*found[:-1], again)
    elif not found and request.action is RootKeyAction.CREATE:
        found, created = (await provider.create(request.key_id, 1, request.label or "", request.length),), True
    elif not found:
        found = (await provider.adopt(request.key_id),)
    for note in filter(None, (one.note for one in found)):
        _log.warning("rootkey.note", note=note)
    await provider.self_test(_newest_active(found).key)
    versions = tuple(RootKeyVersion(version=one.key.version, handle=one.key.handle, state=one.state) for one in found)
    return RootKeyRef(key_id=found[0].key.key_id, versions=versions), created


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


def crashed(request: RootKeyRequest, what: str) -> RootKeyResult:
    """The result of a job whose process ended without one."""
    module = getattr(request.connection, "module", None)
    error = CustodyFailure(
        kind=CustodyErrorKind.UNAVAILABLE,
        message=f"the job's process ended with {what}, probably in the key manager's module{f' {module}' if module else ''}; "
        "check the module's version and configuration, and ask its vendor",
    )
    return RootKeyResult(action=request.action, error=error)
