"""``kmip-custody job``: one root-key action, once, with one log-in."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from kmip_contract.rootkey import (
    CustodyErrorKind,
    CustodyFailure,
    Destruction,
    KeyVersionState,
    RootKeyAction,
    RootKeyFacts,
    RootKeyRef,
    RootKeyRequest,
    RootKeyResult,
)
from kmip_custody import life
from kmip_custody.errors import CustodyError, NotSupportedError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import FoundKey, Options, RootKeyProvider

MAX_RESULT = 4096
"""Bytes of a container's termination message."""

_MAX_MESSAGE = 500
"""Characters of a message that is shortened: six bytes each at most (JSON), so it fits."""

_WRITING = frozenset(RootKeyAction) - {RootKeyAction.PROBE, RootKeyAction.ADOPT, RootKeyAction.DESCRIBE}

_log = structlog.get_logger("kmip_custody.job")


async def run(request: RootKeyRequest, deadline: float) -> RootKeyResult:
    """Do what ``request`` asks within ``deadline`` seconds. Every failure is in the result's ``error``; nothing is raised."""
    result = RootKeyResult(action=request.action)
    try:
        provider, credential = make_provider(
            request.connection,
            request.credential,
            require_confirmed=False,
            options=Options(deadline, writable=request.action in _WRITING),
        )
        async with asyncio.timeout(deadline):
            confirmed = credential.hmac()
            facts = await (provider.probe() if request.action is RootKeyAction.PROBE else provider.open())
            result = result.model_copy(update={"facts": facts})
            done = await _act(request, provider)
            facts = await provider.open() if done.root_key is not None else facts
            await provider.close()
    except TimeoutError:
        error = CustodyFailure(
            kind=CustodyErrorKind.DEADLINE_EXCEEDED,
            message=f"the key manager did not answer within {deadline:g} s; check its connection and its module",
        )
        return result.model_copy(update={"error": error})
    except CustodyError as failed:
        supported = not isinstance(failed, NotSupportedError)
        return result.model_copy(update={"error": failed.failure(), "supported": supported})
    return result.model_copy(update={**done._asdict(), "facts": facts, "credential_hmac": confirmed})


def fit(result: RootKeyResult) -> RootKeyResult:
    """``result``, or one that says less, so that its line is at most 4096 bytes."""
    if len(line(result)) <= MAX_RESULT:
        return result
    if result.destruction is not None and result.destruction.canary is not None:
        # What was proved matters more than the means to prove it again.
        return fit(result.model_copy(update={"destruction": result.destruction.model_copy(update={"canary": None})}))
    error = result.error or CustodyFailure(
        kind=CustodyErrorKind.CONFIGURATION,
        message=f"the result does not fit {MAX_RESULT} bytes: the root key has too many versions or too long an identifier",
    )
    short = error.model_copy(update={"message": error.message[:_MAX_MESSAGE]})
    return RootKeyResult(action=result.action, error=short)


def line(result: RootKeyResult) -> bytes:
    """``result`` as one line."""
    return result.model_dump_json(exclude_none=True).encode() + b"\n"


class _Done(NamedTuple):
    """Fields of the result."""

    root_key: RootKeyRef | None = None
    created: bool = False
    root_key_facts: RootKeyFacts | None = None
    destruction: Destruction | None = None


async def _act(request: RootKeyRequest, provider: RootKeyProvider) -> _Done:
    match request.action:
        case RootKeyAction.PROBE:
            return _Done()
        case RootKeyAction.CREATE | RootKeyAction.ADOPT:
            return await _obtain(request, provider)
        case _:
            known = await life.known_versions(request, provider)
            destruction = await life.act(request, provider, known)
            versions, facts = await life.describe(provider, known)
            root_key = RootKeyRef(key_id=known[0].key.key_id, versions=versions)
            return _Done(root_key, root_key_facts=facts, destruction=destruction)


async def _obtain(request: RootKeyRequest, provider: RootKeyProvider) -> _Done:
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
    described = await provider.describe([one.key for one in found])
    return _Done(life.reference(found), created, described.facts)


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
