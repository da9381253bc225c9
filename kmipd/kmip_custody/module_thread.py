"""One thread for all calls into a vendor's module, and the knowledge of how long the present call has taken.

A call into a module cannot be cancelled and many modules are not safe under threads, so exactly one thread makes them, in
order. Work whose deadline has passed is not begun. A call past ``call_deadline`` means the module hangs: everything waiting
fails at once, and nothing new is taken until the call returns.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Any, TypeVar

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.logs import defect

R = TypeVar("R")
T = TypeVar("T")

MAX_QUEUED = 2048
"""Requests waiting for the module; more than the slowest HSM (hundreds of operations per second) does in any sane deadline."""

_NO_DEADLINE = 3600.0


class _Work:
    """One request: ``steps`` run in order, each giving a result or an error of its own."""

    __slots__ = ("deadline", "future", "results", "steps", "timer")

    def __init__(self, steps: list[Callable[[], Any]], deadline: float, future: asyncio.Future[list[Any]]) -> None:
        self.steps = steps
        self.deadline = deadline
        self.future = future
        self.results: list[Any] = []
        self.timer: asyncio.TimerHandle | None = None


class ModuleThread:
    """Made on, and answering to, one event loop."""

    def __init__(self, name: str, call_deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._call_deadline = call_deadline
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._pending: set[_Work] = set()
        self._done: deque[_Work] = deque()
        self._scheduled = False
        self._call_started: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def hung_for(self) -> float:
        """Seconds the present call is past the call deadline; 0 if it is not."""
        started = self._call_started
        return 0.0 if started is None else max(0.0, monotonic() - started - self._call_deadline)

    def submit(self, steps: list[Callable[[], R]], deadline: float) -> asyncio.Future[list[R | CustodyError]]:
        """Run ``steps`` together: each one's result or CustodyError; DeadlineExceeded where ``deadline`` (monotonic) was first.

        Raises:
            CustodyError: the module hangs (DeadlineExceeded), or too much is waiting for it (Throttled).
        """
        if self.closed:
            raise CustodyError(CustodyErrorKind.UNAVAILABLE, "custody is shutting down")
        if self.hung_for:
            raise self._hung_error()
        if len(self._pending) >= MAX_QUEUED:
            raise CustodyError(
                CustodyErrorKind.THROTTLED,
                f"{MAX_QUEUED} requests are waiting for the key manager's module; try again later",
            )
        future: asyncio.Future[list[R | CustodyError]] = self._loop.create_future()
        work = _Work(list(steps), deadline, future)
        work.timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._expire, work)
        self._pending.add(work)
        self._queue.put(work)
        if self._watch is None:
            self._watch = self._loop.call_later(self._call_deadline, self._look)
        return future

    async def call(self, function: Callable[[], T]) -> T:
        """Run one function on the thread; only the call deadline limits it.

        Raises:
            CustodyError: ``function`` did, or :meth:`submit` would.
        """
        (result,) = await self.submit([function], monotonic() + _NO_DEADLINE)
        if isinstance(result, CustodyError):
            raise result
        return result

    def mark(self) -> None:
        """Called on the thread between two calls into the module, so that many short ones do not count as one long one."""
        self._call_started = monotonic()

    def close(self) -> None:
        """Let the thread end after what is queued. A hung call is not waited for."""
        self.closed = True
        self._queue.put(None)
        if self._watch is not None:
            self._watch.cancel()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            for step in work.steps:
                self._call_started = started = monotonic()
                if started >= work.deadline:
                    break
                work.results.append(_outcome(step))
            self._call_started = None
            self._done.append(work)
            if not self._scheduled:
                self._scheduled = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed: nobody waits
                    return

    def _deliver(self) -> None:
        self._scheduled = False
        while self._done:
            self._finish(self._done.popleft())

    def _expire(self, work: _Work) -> None:
        self._finish(work)

    def _finish(self, work: _Work, error: CustodyError | None = None) -> None:
        if work not in self._pending:
            return
        self._pending.discard(work)
        if work.timer is not None:
            work.timer.cancel()
        if work.future.done():
            return
        results = list(work.results)
        missing = len(work.steps) - len(results)
        if missing:
            late = error or CustodyError(
                CustodyErrorKind.DEADLINE_EXCEEDED,
                "the key manager did not answer within the request's deadline; try again",
            )
            results += [late] * missing
        work.future.set_result(results)

    def _look(self) -> None:
        """Runs while work is pending: fails all of it once the module hangs."""
        self._watch = None
        if self.hung_for:
            for work in list(self._pending):
                self._finish(work, self._hung_error())
        if self._pending or self._call_started is not None:
            self._watch = self._loop.call_later(self._call_deadline / 8, self._look)

    def _hung_error(self) -> CustodyError:
        return CustodyError(
            CustodyErrorKind.DEADLINE_EXCEEDED,
            f"a call into the key manager's module has not returned for {self.hung_for + self._call_deadline:.0f} s; "
            "custody is restarted if it does not return",
        )


def _outcome(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except CustodyError as error:
        return error
    except Exception as error:  # a defect must fail its item alone, and not end the thread
        defect("module.defect", error)
        return CustodyError(
            CustodyErrorKind.UNAVAILABLE, f"unexpected {type(error).__name__} in the key manager's module"
        )
