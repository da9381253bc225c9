"""The keys layer against a custody that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

import pytest
from support.custody_server import CustodyServer
from support.waiting import eventually

from kmip_contract.allowlist import Serving
from kmip_contract.custody import CustodyOperation, RootKeyState, WrapContext
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure
from kmipd.keys.api import KeyUnavailable, WrappedKey
from kmipd.keys.service import KeyService

MakeService = Callable[..., Awaitable[KeyService]]

KEYSPACE = UUID("6f6b8dc4-8d0e-4d3b-9d5c-1f4a0a4f4b4e")
KEY = bytes(range(32))


def context(uid: str = "key-1", **changes: int) -> WrapContext:
    return WrapContext(keyspace=KEYSPACE, uid=uid, object_type=2, algorithm=3, length=256).model_copy(update=changes)


def drive(coroutine: Coroutine[Any, Any, bytes]) -> bytes | None:
    """The result of a coroutine that does not suspend; ``None`` when it does."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: bytes = done.value
        return result
    coroutine.close()
    return None


def state_of(service: KeyService) -> RootKeyState:
    return service.root_key_state


async def refused(awaitable: Coroutine[Any, Any, Any]) -> CustodyErrorKind:
    with pytest.raises(KeyUnavailable) as caught:
        await awaitable
    return caught.value.kind


async def test_a_wrapped_key_comes_back(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(max_age=0)
    wrapped = await service.wrap(context(), KEY)
    assert (wrapped.root_key_id, wrapped.root_key_version) == ("root-1", 1)
    assert KEY not in wrapped.record
    assert await service.unwrap(context(), wrapped.record) == KEY


async def test_a_cached_key_is_served_without_suspending_or_asking(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service()
    wrapped = await service.wrap(context(), bytearray(KEY))
    custody.calls.clear()
    assert drive(service.unwrap(context(), wrapped.record)) == KEY
    assert not custody.calls
    assert (service.hits, service.misses, service.cached) == (1, 0, 1)


async def test_a_cached_key_is_not_served_for_another_object_or_generation(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service()
    wrapped = await service.wrap(context(), KEY)
    for wrong in (context("key-2"), context(generation=2), context(length=128)):
        assert await refused(service.unwrap(wrong, wrapped.record)) is CustodyErrorKind.INTEGRITY


async def test_concurrent_misses_share_one_call(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(max_age=0)
    record = (await service.wrap(context(), KEY)).record
    custody.calls.clear()
    results = await asyncio.gather(*(service.unwrap(context(), record) for _ in range(50)))
    assert set(results) == {KEY}
    assert custody.calls["key-1"] == 1


async def test_a_cancelled_waiter_does_not_take_the_others_along(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(max_age=0)
    record = (await service.wrap(context(), KEY)).record
    custody.answer.clear()
    waiters = [asyncio.create_task(service.unwrap(context(), record)) for _ in range(3)]
    await eventually(lambda: bool(custody.frames[CustodyOperation.UNWRAP]))
    waiters[0].cancel()
    custody.answer.set()
    assert await asyncio.gather(*waiters[1:]) == [KEY, KEY]


async def test_calls_of_one_iteration_travel_in_few_frames(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(max_age=0)
    wrapped = await asyncio.gather(*(service.wrap(context(str(number)), KEY) for number in range(100)))
    assert custody.frames[CustodyOperation.WRAP] == [32, 32, 32, 4]
    again = await asyncio.gather(*(service.unwrap(context(str(number)), w.record) for number, w in enumerate(wrapped)))
    assert set(again) == {KEY}


async def test_large_objects_travel_whole(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(max_age=0)
    large = bytes(700_000)
    wrapped = await asyncio.gather(*(service.wrap(context(str(number)), large) for number in range(4)))
    assert custody.frames[CustodyOperation.WRAP] == [1, 1, 1, 1]
    for number, one in enumerate(wrapped):
        assert await service.unwrap(context(str(number)), one.record) == large


async def test_one_items_error_is_its_own(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(max_age=0)
    custody.item_failures["bad"] = CustodyFailure(kind=CustodyErrorKind.THROTTLED, message="slow down")
    good, bad = await asyncio.gather(
        service.wrap(context("good"), KEY), service.wrap(context("bad"), KEY), return_exceptions=True
    )
    assert isinstance(good, WrappedKey)
    assert await service.unwrap(context("good"), good.record) == KEY
    assert isinstance(bad, KeyUnavailable)
    assert bad.kind is CustodyErrorKind.THROTTLED
    assert service.root_key_state is RootKeyState.USABLE


async def test_every_call_has_a_deadline(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service(timeout=0.2)
    custody.answer.clear()
    assert await refused(service.wrap(context(), KEY)) is CustodyErrorKind.DEADLINE_EXCEEDED
    custody.answer.set()
    wrapped = await service.wrap(context(), KEY)  # the late answer disturbs nothing
    assert await service.unwrap(context(), wrapped.record) == KEY


async def test_a_restart_of_custody_is_not_noticed_by_clients(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(max_age=0)
    record = (await service.wrap(context(), KEY)).record
    custody.answer.clear()
    before = asyncio.create_task(service.unwrap(context(), record))
    await eventually(lambda: bool(custody.frames[CustodyOperation.UNWRAP]))
    await custody.stop()
    during = asyncio.create_task(service.unwrap(context("key-1", generation=1), record))
    custody.answer.set()
    await custody.start()
    assert await before == await during == KEY


async def test_a_restarted_custody_with_another_root_key_is_not_mistaken_for_the_old(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service()
    await custody.stop()
    custody.key_id, custody.version = "root-2", 7
    await custody.start()
    wrapped = await service.wrap(context(), KEY)
    assert (wrapped.root_key_id, wrapped.root_key_version) == ("root-2", 7)


async def test_without_custody_cached_keys_are_served_and_others_refused(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(timeout=0.2, healthy=0.1, unhealthy=0.1)
    wrapped = await service.wrap(context(), KEY)
    await custody.stop()
    await eventually(lambda: service.root_key_state is RootKeyState.UNREACHABLE)
    assert drive(service.unwrap(context(), wrapped.record)) == KEY
    assert await refused(service.unwrap(context("other"), wrapped.record)) is CustodyErrorKind.UNAVAILABLE
    assert service.description.error is not None
    assert str(custody.path) in service.description.error.message
    await custody.start()
    await eventually(lambda: service.root_key_state is RootKeyState.USABLE)
    assert service.description.error is None


async def test_a_throttled_or_slow_key_manager_is_unreachable_not_revoked(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(healthy=0.05, unhealthy=0.05)
    wrapped = await service.wrap(context(), KEY)
    custody.fail(CustodyErrorKind.THROTTLED)
    await eventually(lambda: service.root_key_state is RootKeyState.UNREACHABLE)
    assert drive(service.unwrap(context(), wrapped.record)) == KEY


@pytest.mark.parametrize("kind", [kind for kind in CustodyErrorKind if kind.revoked])
async def test_the_watcher_fences_when_the_root_key_is_revoked(
    custody: CustodyServer, make_service: MakeService, kind: CustodyErrorKind
) -> None:
    service = await make_service(healthy=0.05, unhealthy=0.05)
    wrapped = await service.wrap(context(), KEY)
    checked = service.checked_at
    custody.fail(kind)
    await eventually(lambda: service.root_key_state is RootKeyState.REVOKED)
    assert service.cached == 0
    assert service.checked_at is not None
    assert checked is not None
    assert service.checked_at > checked
    assert await refused(service.unwrap(context(), wrapped.record)) is kind
    assert await refused(service.wrap(context("new"), KEY)) is kind
    custody.failure = None
    await eventually(lambda: service.root_key_state is RootKeyState.USABLE)
    assert await service.unwrap(context(), wrapped.record) == KEY


async def test_a_revoked_root_key_stays_fenced_while_custody_is_away(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(timeout=0.1, healthy=0.05, unhealthy=0.05)
    await service.wrap(context(), KEY)
    custody.fail(CustodyErrorKind.ROOT_KEY_DISABLED)
    await eventually(lambda: service.root_key_state is RootKeyState.REVOKED)
    await custody.stop()
    await eventually(lambda: service.description.state is RootKeyState.UNREACHABLE)
    assert service.root_key_state is RootKeyState.REVOKED
    assert await refused(service.wrap(context(), KEY)) is CustodyErrorKind.ROOT_KEY_DISABLED


async def test_one_refused_unwrap_fences_at_once(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service()
    cached = await service.wrap(context(), KEY)
    custody.fail(CustodyErrorKind.ROOT_KEY_DESTROYED)
    assert drive(service.unwrap(context(), cached.record)) == KEY
    assert await refused(service.unwrap(context("cold"), cached.record)) is CustodyErrorKind.ROOT_KEY_DESTROYED
    assert service.cached == 0
    assert await refused(service.unwrap(context(), cached.record)) is CustodyErrorKind.ROOT_KEY_DESTROYED


async def test_one_record_of_a_lost_version_fences_only_until_the_root_key_is_seen_usable(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service()
    good = await service.wrap(context(), KEY)
    lost = await service.wrap(context("lost"), KEY)
    service.set_serving(Serving.FENCED)  # empties the cache
    service.set_serving(Serving.ENABLED)
    custody.item_failures["lost"] = CustodyFailure(
        kind=CustodyErrorKind.ROOT_KEY_DESTROYED, message="version 0 is gone"
    )
    assert await refused(service.unwrap(context("lost"), lost.record)) is CustodyErrorKind.ROOT_KEY_DESTROYED
    assert state_of(service) is RootKeyState.REVOKED
    await eventually(lambda: state_of(service) is RootKeyState.USABLE)
    assert await service.unwrap(context(), good.record) == KEY
    for _ in range(3):
        assert await refused(service.unwrap(context("lost"), lost.record)) is CustodyErrorKind.ROOT_KEY_DESTROYED
        assert state_of(service) is RootKeyState.USABLE
        assert drive(service.unwrap(context(), good.record)) == KEY


async def test_a_key_that_was_asked_for_before_the_revocation_is_not_handed_out_after_it(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service(max_age=0)
    record = (await service.wrap(context(), KEY)).record
    custody.answer.clear()
    waiting = asyncio.create_task(service.unwrap(context(), record))
    await eventually(lambda: bool(custody.frames[CustodyOperation.UNWRAP]))
    service.set_serving(Serving.FENCED)
    custody.answer.set()
    assert await refused(_value(waiting)) is CustodyErrorKind.AUTHORIZATION_LOST
    assert service.cached == 0


async def test_the_red_button_withholds_every_key_until_it_is_released(
    custody: CustodyServer, make_service: MakeService
) -> None:
    service = await make_service()
    wrapped = await service.wrap(context(), KEY)
    service.set_serving(Serving.FENCED)
    assert service.serving is Serving.FENCED
    assert service.cached == 0
    with pytest.raises(KeyUnavailable, match="fenced"):
        await service.unwrap(context(), wrapped.record)
    with pytest.raises(KeyUnavailable, match="fenced"):
        await service.wrap(context("new"), KEY)
    service.set_serving(Serving.ENABLED)
    assert await service.unwrap(context(), wrapped.record) == KEY


async def test_closing_refuses_what_waits(custody: CustodyServer, make_service: MakeService) -> None:
    service = await make_service()
    custody.answer.clear()
    waiting = asyncio.create_task(service.wrap(context(), KEY))
    await eventually(lambda: bool(custody.frames[CustodyOperation.WRAP]))
    await service.aclose()
    assert await refused(_value(waiting)) is CustodyErrorKind.UNAVAILABLE
    assert await refused(service.wrap(context(), KEY)) is CustodyErrorKind.UNAVAILABLE


async def _value(task: asyncio.Task[Any]) -> Any:
    return await task
