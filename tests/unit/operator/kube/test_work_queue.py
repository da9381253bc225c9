"""The work queue: coalescing, one worker per key, appointments and back-off, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from kmip_operator.kube.queue import Backoff, RetryError, WorkQueue

Result = TypeVar("Result")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting until a timer is due, moves the clock there."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for something that no timer brings")
        self.moment += max(timeout, 0.0)
        return super().select(0)


class FakeClockLoop(asyncio.SelectorEventLoop):
    """``time()`` is the selector's moment."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.moment


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end on a loop of its own."""
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


async def finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_many_adds_of_a_key_are_one_turn() -> None:
    async def scenario() -> list[str]:
        done: list[str] = []

        async def handle(key: str) -> None:
            done.append(key)

        queue = WorkQueue(handle, workers=2)
        for _ in range(100):
            queue.add("a")
            queue.add("b")
        task = asyncio.create_task(queue.run())
        await asyncio.sleep(1)
        await finish(task)
        return done

    assert run(scenario()) == ["a", "b"]


def test_a_key_added_while_worked_on_gets_one_more_turn_afterwards() -> None:
    async def scenario() -> tuple[int, int]:
        turns = parallel = most = 0

        async def handle(key: str) -> None:
            nonlocal turns, parallel, most
            turns, parallel = turns + 1, parallel + 1
            most = max(most, parallel)
            if turns == 1:
                for _ in range(5):
                    queue.add(key)
            await asyncio.sleep(1)
            parallel -= 1

        queue = WorkQueue(handle, workers=4)
        queue.add("a")
        task = asyncio.create_task(queue.run())
        await asyncio.sleep(10)
        await finish(task)
        return turns, most

    assert run(scenario()) == (2, 1)


def test_failures_back_off_exponentially_and_a_success_forgets_them() -> None:
    async def scenario() -> list[float]:
        times: list[float] = []

        async def handle(key: str) -> None:
            times.append(now())
            if len(times) != 4:
                raise RetryError("not yet")

        queue = WorkQueue(handle, workers=1, backoff=Backoff(base=1, ceiling=3, jitter=0))
        queue.add("a")
        task = asyncio.create_task(queue.run())
        await asyncio.sleep(20)
        queue.add("a")
        await asyncio.sleep(1.5)
        await finish(task)
        return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]

    gaps = run(scenario())
    assert gaps[:3] == [1, 2, 3]
    assert gaps[-1] == 1


def test_the_last_appointment_stands() -> None:
    async def scenario() -> list[float]:
        begin = now()
        times: list[float] = []
        answers = iter([100.0, 5.0, None])

        async def handle(key: str) -> float | None:
            times.append(now() - begin)
            return next(answers)

        queue = WorkQueue(handle, workers=1)
        queue.add("a")
        task = asyncio.create_task(queue.run())
        await asyncio.sleep(10)
        queue.add("a")  # earlier than the appointment; its answer (5 s) replaces it
        await asyncio.sleep(500)
        await finish(task)
        return [round(moment, 6) for moment in times]

    assert run(scenario()) == [0, 10, 15]


def test_a_delayed_add_keeps_the_earlier_of_two() -> None:
    async def scenario() -> list[float]:
        begin = now()
        times: list[float] = []

        async def handle(key: str) -> None:
            times.append(now() - begin)

        queue = WorkQueue(handle, workers=1)
        task = asyncio.create_task(queue.run())
        queue.add("a", 3)
        queue.add("a", 8)
        queue.add("a", 2)
        await asyncio.sleep(50)
        await finish(task)
        return [round(moment, 6) for moment in times]

    assert run(scenario()) == [2]


def test_oldest_counts_from_when_the_key_became_due() -> None:
    async def scenario() -> tuple[float, float, int]:
        async def handle(key: str) -> None:
            await asyncio.sleep(30)

        queue = WorkQueue(handle, workers=1)
        queue.add("a")
        queue.add("b")
        task = asyncio.create_task(queue.run())
        await asyncio.sleep(12)
        oldest, depth = queue.oldest(), queue.depth
        await asyncio.sleep(60)
        idle = queue.oldest()
        await finish(task)
        return round(oldest, 6), idle, depth

    assert run(scenario()) == (12, 0, 2)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(), keys=st.integers(1, 6), workers=st.integers(1, 5), adds=st.integers(1, 80))
def test_every_key_has_a_turn_after_its_last_add_and_never_two_at_a_time(
    seed: int, keys: int, workers: int, adds: int
) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        running: Counter[int] = Counter()
        started_at: dict[int, float] = {}
        added_at: dict[int, float] = {}

        async def handle(key: int) -> float | None:
            running[key] += 1
            assert running[key] == 1
            assert sum(running.values()) <= workers
            started_at[key] = now()
            await asyncio.sleep(chance.choice([0, 0.1, 1.0]))
            running[key] -= 1
            if chance.random() < 0.3:
                raise RetryError("again")
            return chance.choice([None, None, 0.5])

        queue = WorkQueue(handle, workers=workers, backoff=Backoff(base=0.1, ceiling=1))
        task = asyncio.create_task(queue.run())
        for _ in range(adds):
            key = chance.randrange(keys)
            queue.add(key)
            added_at[key] = now()
            await asyncio.sleep(chance.choice([0, 0.01, 0.7]))
        await asyncio.sleep(400)
        for key, moment in added_at.items():
            assert started_at[key] >= moment
        await finish(task)

    run(scenario())


@given(failures=st.integers(1, 1000), spread=st.floats(-1, 1))
def test_back_off_stays_within_its_ceiling(failures: int, spread: float) -> None:
    backoff = Backoff(base=0.5, ceiling=60, jitter=0.2)
    assert 0 < backoff.delay(failures, spread) <= 72
