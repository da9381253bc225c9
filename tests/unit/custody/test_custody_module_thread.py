"""Order, deadlines and hangs of the one thread that calls a module."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from time import monotonic

import pytest

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.module_thread import MAX_QUEUED, ModuleThread


@pytest.fixture
async def make_thread() -> AsyncIterator[Callable[[float], ModuleThread]]:
    made: list[ModuleThread] = []

    def make(call_deadline: float = 10.0) -> ModuleThread:
        made.append(ModuleThread("test", call_deadline))
        return made[-1]

    yield make
    for thread in made:
        thread.close()


async def test_results_in_order_and_errors_alone(make_thread: Callable[..., ModuleThread]) -> None:
    def refuse() -> int:
        raise CustodyError(CustodyErrorKind.INTEGRITY, "no")

    def defect() -> int:
        raise ZeroDivisionError

    outcomes = await make_thread().submit([lambda: 1, refuse, defect, lambda: 4], monotonic() + 10)
    assert [outcomes[0], outcomes[3]] == [1, 4]
    kinds = [outcome.kind for outcome in outcomes if isinstance(outcome, CustodyError)]
    assert kinds == [CustodyErrorKind.INTEGRITY, CustodyErrorKind.UNAVAILABLE]


async def test_all_calls_are_made_by_one_thread(make_thread: Callable[..., ModuleThread]) -> None:
    thread = make_thread()
    names = await asyncio.gather(*(thread.call(threading.get_ident) for _ in range(50)))
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()


async def test_deadline_keeps_what_was_done_and_fails_the_rest(make_thread: Callable[..., ModuleThread]) -> None:
    release = threading.Event()
    thread = make_thread()
    begun: list[int] = []
    first = thread.submit([lambda: 1, release.wait, lambda: 3], monotonic() + 0.1)
    queued = thread.submit([lambda: begun.append(1)], monotonic() + 0.1)
    done, late, never = await first
    assert done == 1
    assert isinstance(late, CustodyError)
    assert isinstance(never, CustodyError)
    assert late.kind is never.kind is CustodyErrorKind.DEADLINE_EXCEEDED
    (outcome,) = await queued
    assert isinstance(outcome, CustodyError)
    release.set()
    assert await thread.call(lambda: 5) == 5
    assert not begun, "work past its deadline was begun"
    assert not thread.hung_for


async def test_hang_fails_everything_at_once_and_ends_when_the_call_returns(
    make_thread: Callable[..., ModuleThread],
) -> None:
    release = threading.Event()
    thread = make_thread(0.05)
    outcomes = await asyncio.gather(
        *(thread.submit([release.wait if n == 0 else bool], monotonic() + 3600) for n in range(5))
    )
    assert all(isinstance(o, CustodyError) and o.kind is CustodyErrorKind.DEADLINE_EXCEEDED for (o,) in outcomes)
    assert thread.hung_for > 0
    with pytest.raises(CustodyError) as caught:
        await thread.call(bool)
    assert caught.value.kind is CustodyErrorKind.DEADLINE_EXCEEDED
    release.set()
    async with asyncio.timeout(10):
        while thread.hung_for:
            await asyncio.sleep(0.01)
    assert await thread.call(lambda: 7) == 7


async def test_queue_is_bounded(make_thread: Callable[..., ModuleThread]) -> None:
    release = threading.Event()
    thread = make_thread()
    waiting = [thread.submit([release.wait], monotonic() + 60) for _ in range(MAX_QUEUED)]
    with pytest.raises(CustodyError) as caught:
        thread.submit([bool], monotonic() + 60)
    assert caught.value.kind is CustodyErrorKind.THROTTLED
    release.set()
    assert await asyncio.gather(*waiting) == [[True]] * MAX_QUEUED
