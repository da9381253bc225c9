"""Receiving custody's frames into memory that is wiped afterwards: bodies hold key bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from kmip_contract.custody import FRAME, MAX_FRAME

_INITIAL = 64 * 1024
"""Bytes of buffer at first: far more than the answer to one batch of keys."""


class FrameError(Exception):
    """The peer does not speak the protocol; the connection is of no more use."""


class FrameProtocol(asyncio.BufferedProtocol):
    """Calls ``on_frame(header, body)`` for each frame; ``body`` is only valid during the call. ``closed`` is set at the end."""

    def __init__(self, on_frame: Callable[[bytes, memoryview], None]) -> None:
        self._on_frame = on_frame
        self._buffer = memoryview(bytearray(_INITIAL))
        self._filled = 0
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reason = "the connection was closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to hang up on a peer that cannot be understood."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Deliver every complete frame, and wipe it."""
        self._filled += nbytes
        start = 0
        try:
            while (size := self._frame_size(start)) and start + size <= self._filled:
                self._deliver(start)
                start += size
        except FrameError as error:
            self._hang_up(str(error))
            return
        self._compact(start, size)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wipe what is left and say why the connection ended."""
        self._wipe(0, len(self._buffer))
        if not self.closed.done():
            self.closed.set_result(str(exc) if exc else self._reason)

    def _frame_size(self, start: int) -> int:
        """Bytes of the frame at ``start``, or 0 when its lengths have not arrived."""
        if self._filled - start < FRAME.size:
            return 0
        header, body = FRAME.unpack_from(self._buffer, start)
        if header > MAX_FRAME or body > MAX_FRAME:
            raise FrameError(f"a frame of {header} and {body} bytes is larger than the protocol allows")
        return FRAME.size + int(header) + int(body)

    def _deliver(self, start: int) -> None:
        header, body = FRAME.unpack_from(self._buffer, start)
        middle = start + FRAME.size + header
        try:
            self._on_frame(bytes(self._buffer[start + FRAME.size : middle]), self._buffer[middle : middle + body])
        finally:
            self._wipe(start, middle + body)

    def _compact(self, start: int, needed: int) -> None:
        """Move the incomplete rest to the front of a buffer that will hold it whole and is never full."""
        fits = needed < len(self._buffer)
        if fits and start == 0:
            return
        rest = bytearray(self._buffer[start : self._filled])
        self._wipe(start, self._filled)
        if not fits:
            self._buffer = memoryview(bytearray(needed + _INITIAL))
        self._filled = len(rest)
        self._buffer[: self._filled] = rest
        rest[:] = bytes(len(rest))

    def _wipe(self, start: int, end: int) -> None:
        self._buffer[start:end] = bytes(end - start)

    def _hang_up(self, reason: str) -> None:
        self._reason = reason
        self._filled = 0
        if self._transport is not None:
            self._transport.abort()
