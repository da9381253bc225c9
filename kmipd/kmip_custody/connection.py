"""One connection of kmipd: frames in, answers out, in any order, with bounds on what may wait."""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from time import monotonic
from typing import Protocol, cast

import structlog
from pydantic import ValidationError

from kmip_contract.custody import (
    FRAME,
    MAX_FRAME,
    CustodyDescription,
    CustodyOperation,
    CustodyRequest,
    CustodyResponse,
)
from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.hardening import wipe
from kmip_custody.metrics import CONNECTIONS, ITEMS, PEERS_REFUSED, REQUESTS, SECONDS
from kmip_custody.rootkey import Outcomes, RootKey

MAX_UNANSWERED = 256
"""Requests of one connection that may be unanswered before it is no longer read."""

_FIRST_BUFFER = 64 * 1024
_UCRED = struct.Struct("3i")
_log = structlog.get_logger("kmip_custody.connection")

_DESCRIBED = REQUESTS.labels(operation="describe")
_COUNTERS = {
    operation: (
        REQUESTS.labels(operation=operation.value),
        SECONDS.labels(operation=operation.value),
        ITEMS.labels(operation=operation.value, outcome="ok"),
    )
    for operation in (CustodyOperation.WRAP, CustodyOperation.UNWRAP)
}


class Owner(Protocol):
    """What a connection needs of the server."""

    root_key: RootKey
    peer_uid: int
    connections: set[Connection]

    async def describe(self) -> CustodyDescription:
        """Answer DESCRIBE."""


class Connection(asyncio.BufferedProtocol):
    """Reads into a buffer of its own, which is overwritten as soon as a frame is dealt with."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_FIRST_BUFFER)
        self._end = 0
        self._out: list[bytes] = []
        self._flushing = False
        self._full = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.unanswered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the connection unless the peer's uid is the one configured."""
        stream = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour alone
        peer: socket.socket = stream.get_extra_info("socket")
        pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != self._owner.peer_uid:
            PEERS_REFUSED.inc()
            _log.warning("peer.refused", uid=uid, pid=pid, allowed_uid=self._owner.peer_uid)
            stream.abort()
            return
        self._transport = stream
        self._owner.connections.add(self)
        CONNECTIONS.inc()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers still to come are dropped."""
        if self._transport is None:
            return
        self._transport = None
        self._owner.connections.discard(self)
        CONNECTIONS.dec()
        wipe(self._buffer)
        for task in self._tasks:
            task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The free part of the buffer."""
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Deal with every whole frame in the buffer."""
        self._end += nbytes
        self._flushing = True
        start = 0
        needed = FRAME.size
        while self._end - start >= FRAME.size and self._transport is not None:
            header, body = FRAME.unpack_from(self._buffer, start)
            if header > MAX_FRAME or body > MAX_FRAME:
                self._abort("a frame is larger than allowed")
                return
            needed = FRAME.size + header + body
            if self._end - start < needed:
                break
            first = start + FRAME.size
            self._receive(
                bytes(self._buffer[first : first + header]), memoryview(self._buffer)[first + header : start + needed]
            )
            start += needed
            needed = FRAME.size
        self._compact(start, needed)
        self._flush()

    def pause_writing(self) -> None:
        """The peer does not read: stop reading from it."""
        self._full = True
        self._regulate()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._full = False
        self._regulate()

    def close(self) -> None:
        """Close after what is written has been sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _compact(self, start: int, needed: int) -> None:
        """Wipe ``start`` bytes of finished frames, keep the rest, and have room for a frame of ``needed`` bytes."""
        rest = self._end - start
        if needed > len(self._buffer):
            larger = bytearray(needed)
            larger[:rest] = memoryview(self._buffer)[start : self._end]
            wipe(self._buffer)
            self._buffer = larger
        elif start:
            self._buffer[:rest] = self._buffer[start : self._end]
            wipe(memoryview(self._buffer)[rest : self._end])
        self._end = rest

    def _receive(self, header: bytes, body: memoryview) -> None:
        try:
            request = CustodyRequest.model_validate_json(header)
        except ValidationError:
            self._abort("a request header does not fit the contract")
            return
        self.unanswered += 1
        self._regulate()
        received = monotonic()
        deadline = received + request.deadline
        if request.operation is CustodyOperation.DESCRIBE:
            task = self._loop.create_task(self._describe(request.id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if sum(item.size for item in request.items) != len(body):
            self._refuse(request.id, "the sizes of the items do not add up to the body")
            return
        items, at = [], 0
        for item in request.items:
            items.append((item.context, body[at : at + item.size]))
            at += item.size
        root_key = self._owner.root_key
        act = root_key.wrap if request.operation is CustodyOperation.WRAP else root_key.unwrap
        future = act(items, deadline)
        if future.done():
            self._answer(request, received, future)
        else:
            future.add_done_callback(partial(self._answer, request, received))

    def _answer(self, request: CustodyRequest, received: float, future: asyncio.Future[Outcomes]) -> None:
        requests, seconds, succeeded = _COUNTERS[request.operation]
        outcomes, parts, good = [], [], 0
        for outcome in future.result():
            if isinstance(outcome, CustodyError):
                outcomes.append(f'{{"error":{outcome.failure().model_dump_json()}}}')
                ITEMS.labels(operation=request.operation.value, outcome=outcome.kind.value).inc()
            else:
                good += 1
                data, version = outcome
                outcomes.append(f'{{"size":{len(data)},"root_key_version":{version}}}')
                parts.append(data)
        requests.inc()
        succeeded.inc(good)
        seconds.observe(monotonic() - received)
        self._send(f'{{"id":{request.id},"items":[{",".join(outcomes)}]}}'.encode(), b"".join(parts))

    async def _describe(self, request_id: int) -> None:
        description = await self._owner.describe()
        _DESCRIBED.inc()
        response = CustodyResponse(id=request_id, description=description)
        self._send(response.model_dump_json(exclude_none=True).encode(), b"")

    def _refuse(self, request_id: int, why: str) -> None:
        error = CustodyError(CustodyErrorKind.CONFIGURATION, f"request refused: {why}").failure()
        self._send(CustodyResponse(id=request_id, error=error).model_dump_json(exclude_none=True).encode(), b"")

    def _send(self, header: bytes, body: bytes) -> None:
        self.unanswered -= 1
        self._out += (FRAME.pack(len(header), len(body)), header, body)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._regulate()

    def _regulate(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._full or self.unanswered >= MAX_UNANSWERED:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _abort(self, why: str) -> None:
        _log.error("connection.aborted", reason=why)
        if self._transport is not None:
            self._transport.abort()
