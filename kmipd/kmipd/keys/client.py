"""The client of custody's socket: pipelined, batched, with a deadline on every call, and reconnecting by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from secrets import SystemRandom
from typing import NamedTuple

from pydantic import ValidationError

from kmip_contract.custody import (
    FRAME,
    CustodyDescription,
    CustodyItem,
    CustodyOperation,
    CustodyRequest,
    CustodyResponse,
    WrapContext,
)
from kmip_contract.rootkey import CustodyErrorKind
from kmipd.keys.api import KeyUnavailable
from kmipd.keys.frames import FrameError, FrameProtocol

MAX_ITEMS = 32
"""Keys in one frame: beyond it the saving per key is nil, and a key waits for the slowest of its frame."""

MAX_BODY = 1024 * 1024
"""Bytes of keys or records in one frame, a quarter of what the protocol allows; one larger item travels alone."""

MAX_CALLS = 4096
"""Calls that may wait for answers: twice the default limit of connections, each of which waits for one."""

BACK_OFF_SECONDS = (0.05, 1.0)
"""First and longest wait between attempts to connect: custody restarts within a second, and a local connect is cheap."""


class Outcome(NamedTuple):
    """One item's bytes (a record, or plain text), the root-key version, and the connection (counted from 1) that gave it."""

    data: bytes
    root_key_version: int
    connection: int


class Described(NamedTuple):
    """The root key as custody described it, and the connection that gave it."""

    description: CustodyDescription
    connection: int


@dataclass(slots=True)
class _Call:
    context: WrapContext
    data: bytes | bytearray
    future: asyncio.Future[Outcome]


@dataclass(slots=True, eq=False)
class _Batch:
    """One request frame. ``sent`` counts how often: a request that was lost with its connection is repeated once."""

    operation: CustodyOperation
    calls: list[_Call]
    described: asyncio.Future[Described] | None = None
    due: float = 0.0
    timer: asyncio.TimerHandle | None = None
    sent: int = 0

    def fail(self, kind: CustodyErrorKind, message: str) -> None:
        """Refuse every call, each with an error of its own."""
        for call in self.calls:
            if not call.future.done():
                call.future.set_exception(KeyUnavailable(kind, message))
        if self.described is not None and not self.described.done():
            self.described.set_exception(KeyUnavailable(kind, message))


class CustodyClient:
    """Wraps, unwraps and describes through custody. Calls made before a connection stands wait for it until their deadline.

    ``timeout`` in seconds bounds each call. ``on_connected`` is called whenever a connection stands.
    """

    def __init__(self, socket: Path, *, timeout: float, on_connected: Callable[[], None] | None = None) -> None:
        self._socket = socket
        self._timeout = timeout
        self._on_connected = on_connected
        self._loop = asyncio.get_running_loop()
        self._ids = count(1)
        self._batches: dict[int, _Batch] = {}
        self._pending: dict[CustodyOperation, list[_Call]] = {}
        self._outstanding = 0
        self._transport: asyncio.Transport | None = None
        self._connection = 0
        self._complaint = "not connected yet"
        self._answered = False
        self._closed = False
        self._task = self._loop.create_task(self._stay_connected())

    def wrap(self, context: WrapContext, plaintext: bytes | bytearray) -> asyncio.Future[Outcome]:
        """Wrap ``plaintext``. The future may raise :class:`KeyUnavailable`."""
        return self._call(CustodyOperation.WRAP, context, plaintext)

    def unwrap(self, context: WrapContext, record: bytes) -> asyncio.Future[Outcome]:
        """Unwrap ``record``. The future may raise :class:`KeyUnavailable`."""
        return self._call(CustodyOperation.UNWRAP, context, record)

    def describe(self) -> asyncio.Future[Described]:
        """Ask for the root key's state. The future may raise :class:`KeyUnavailable`."""
        described: asyncio.Future[Described] = self._loop.create_future()
        if self._closed:
            described.set_exception(self._refusal())
        else:
            self._submit(_Batch(CustodyOperation.DESCRIBE, [], described))
        return described

    async def aclose(self) -> None:
        """Hang up, and refuse what is outstanding."""
        self._closed = True
        self._complaint = "kmipd is stopping"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for calls in self._pending.values():
            _Batch(CustodyOperation.WRAP, calls).fail(CustodyErrorKind.UNAVAILABLE, self._complaint)
        self._pending.clear()
        for identifier in list(self._batches):
            self._drop(identifier).fail(CustodyErrorKind.UNAVAILABLE, self._complaint)

    def _call(
        self, operation: CustodyOperation, context: WrapContext, data: bytes | bytearray
    ) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if self._closed:
            future.set_exception(self._refusal())
            return future
        if self._outstanding >= MAX_CALLS:
            future.set_exception(
                KeyUnavailable(CustodyErrorKind.THROTTLED, f"{self._outstanding} keys wait for the key manager already")
            )
            return future
        self._outstanding += 1
        future.add_done_callback(self._settled)
        calls = self._pending.get(operation)
        if calls is None:
            calls = self._pending[operation] = []
            self._loop.call_soon(self._flush, operation)
        calls.append(_Call(context, data, future))
        return future

    def _settled(self, _: asyncio.Future[Outcome]) -> None:
        self._outstanding -= 1

    def _flush(self, operation: CustodyOperation) -> None:
        for calls in _portions(self._pending.pop(operation, [])):
            self._submit(_Batch(operation, calls))

    def _submit(self, batch: _Batch) -> None:
        identifier = next(self._ids)
        batch.due = self._loop.time() + self._timeout
        batch.timer = self._loop.call_at(batch.due, self._expire, identifier)
        self._batches[identifier] = batch
        if self._transport is not None:
            self._send(identifier, batch)

    def _send(self, identifier: int, batch: _Batch) -> None:
        batch.sent += 1
        request = CustodyRequest.model_construct(
            id=identifier,
            operation=batch.operation,
            deadline=max(batch.due - self._loop.time(), 0.001),
            items=tuple(CustodyItem.model_construct(context=call.context, size=len(call.data)) for call in batch.calls),
        )
        header = request.model_dump_json().encode()
        body = b"".join(call.data for call in batch.calls)
        if self._transport is not None:
            self._transport.write(FRAME.pack(len(header), len(body)) + header + body)

    def _expire(self, identifier: int) -> None:
        batch = self._drop(identifier)
        if batch.sent:
            batch.fail(CustodyErrorKind.DEADLINE_EXCEEDED, f"the key manager did not answer within {self._timeout:g} s")
        else:
            batch.fail(CustodyErrorKind.UNAVAILABLE, f"custody at {self._socket} cannot be reached: {self._complaint}")

    def _drop(self, identifier: int) -> _Batch:
        batch = self._batches.pop(identifier)
        if batch.timer is not None:
            batch.timer.cancel()
        return batch

    def _refusal(self) -> KeyUnavailable:
        return KeyUnavailable(CustodyErrorKind.UNAVAILABLE, f"custody at {self._socket}: {self._complaint}")

    async def _stay_connected(self) -> None:
        shortest, longest = BACK_OFF_SECONDS
        wait = shortest
        while True:
            self._answered = False
            try:
                transport, protocol = await self._loop.create_unix_connection(
                    lambda: FrameProtocol(self._received), str(self._socket)
                )
            except OSError as error:
                self._complaint = error.strerror or str(error)
            else:
                try:
                    self._connected(transport)
                    self._complaint = await protocol.closed
                finally:
                    transport.abort()
                    self._transport = None
                self._disconnected()
            wait = shortest if self._answered else wait
            await asyncio.sleep(wait * SystemRandom().uniform(0.5, 1.0))
            wait = min(wait * 2, longest)

    def _connected(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._connection += 1
        for identifier, batch in list(self._batches.items()):
            self._send(identifier, batch)
        if self._on_connected is not None:
            self._on_connected()

    def _disconnected(self) -> None:
        for identifier, batch in list(self._batches.items()):
            if batch.sent > 1:
                self._drop(identifier).fail(
                    CustodyErrorKind.UNAVAILABLE, f"custody at {self._socket} hung up twice: {self._complaint}"
                )

    def _received(self, header: bytes, body: memoryview) -> None:
        try:
            response = CustodyResponse.model_validate_json(header)
        except ValidationError:
            raise FrameError("custody's answer does not fit the protocol") from None
        if response.id not in self._batches:
            return  # answered after its deadline
        self._answered = True
        batch = self._drop(response.id)
        try:
            self._settle(batch, response, body)
        except FrameError as error:
            batch.fail(CustodyErrorKind.UNAVAILABLE, str(error))
            raise

    def _settle(self, batch: _Batch, response: CustodyResponse, body: memoryview) -> None:
        if response.error is not None:
            batch.fail(response.error.kind, response.error.message)
            return
        if batch.described is not None:
            if response.description is None:
                raise FrameError("custody's answer lacks the description that was asked for")
            if not batch.described.done():
                batch.described.set_result(Described(response.description, self._connection))
            return
        if len(response.items) != len(batch.calls) or sum(item.size for item in response.items) != len(body):
            raise FrameError("custody's answer is of another size than its header says")
        start = 0
        for call, item in zip(batch.calls, response.items, strict=True):
            end = start + item.size
            if call.future.done():
                pass  # the caller was cancelled
            elif item.error is not None:
                call.future.set_exception(KeyUnavailable(item.error.kind, item.error.message))
            else:
                call.future.set_result(Outcome(bytes(body[start:end]), item.root_key_version, self._connection))
            start = end


def _portions(calls: list[_Call]) -> Iterator[list[_Call]]:
    """``calls`` in portions of at most ``MAX_ITEMS`` items and, unless a single item is larger, ``MAX_BODY`` bytes."""
    portion: list[_Call] = []
    size = 0
    for call in calls:
        if portion and (len(portion) == MAX_ITEMS or size + len(call.data) > MAX_BODY):
            yield portion
            portion, size = [], 0
        portion.append(call)
        size += len(call.data)
    if portion:
        yield portion
