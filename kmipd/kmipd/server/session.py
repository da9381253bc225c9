"""One client's connection: handshake, frames in, one write per answer out, and nothing left behind.

The session drives a non-blocking ``SSLSocket`` from the loop's readiness callbacks. Against streams and memory buffers this
saves a copy each way, a task per connection and a tenth of a new connection's processor time, and shows why a handshake failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import Coroutine, Generator
from enum import IntEnum
from types import coroutine
from typing import TYPE_CHECKING, Any

import structlog

from kmipd.operations.api import Client, Reply
from kmipd.server.access import AccessList, Grant, Refused
from kmipd.server.audit import AuditUnavailable
from kmipd.server.tls import failure_reason
from kmipd.wire.framing import HEADER_LENGTH, FramingError, message_length

if TYPE_CHECKING:
    from kmipd.server.server import KmipServer

_log = structlog.get_logger(__name__)

# One TLS record holds at most this much (RFC 8446 §5.1): reading less would leave decrypted bytes that no readiness tells of.
_RECORD = 16 * 1024

# Messages of one client answered in a row while others wait: a client that pipelines shares the loop.
_TURN = 8

# Seconds in which a client may read a last answer while it still sends; closing at once would make the kernel reset the
# connection and throw the answer away.
_LINGER = 2.0

_NEVER = float("inf")

_DAY = 86400.0


class Phase(IntEnum):
    """Where a connection is in its life."""

    HANDSHAKE = 0
    OPEN = 1
    LINGER = 2
    CLOSED = 3


async def _resume(running: Coroutine[Any, Any, Reply], awaited: Any) -> Reply:
    """Let a task carry on with a coroutine that was begun by hand and waits for ``awaited``."""
    # A task takes native coroutines only (since Python 3.12), and only a generator can hand on what another one awaits.
    return await _hand_on(running, awaited)


@coroutine
def _hand_on(running: Coroutine[Any, Any, Reply], awaited: Any) -> Generator[Any, Any, Reply]:
    while True:
        try:
            sent = yield awaited
        except BaseException as error:
            raised: BaseException | None = error
        else:
            raised = None
        try:
            awaited = running.send(sent) if raised is None else running.throw(raised)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


class Session:
    """One accepted connection. ``deadline`` is loop time, looked at by the server's sweep: no timer per request."""

    __slots__ = (
        "_access", "_address", "_buffer", "_client", "_closing", "_day", "_der", "_fd", "_grant", "_loop", "_out", "_server",
        "_sock", "_task", "deadline", "host", "phase",
    )  # fmt: skip

    def __init__(self, server: KmipServer, sock: ssl.SSLSocket, host: str, port: int) -> None:
        self._server = server
        self._loop = server.loop
        self._sock = sock
        self._fd = sock.fileno()
        self.host = host
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._buffer = bytearray()
        self._out = b""
        self._task: asyncio.Task[Reply] | None = None
        self._closing = False
        self._der = b""
        self._access: AccessList | None = None
        self._grant: Grant | None = None
        self._client: Client | None = None
        self.phase = Phase.HANDSHAKE
        self._day = -1.0
        self.deadline = self._loop.time() + server.limits.handshake
        self._loop.add_reader(self._fd, self._on_readable)

    # ---- reading

    def _on_readable(self) -> None:
        if self.phase is Phase.OPEN:
            self._read()
        elif self.phase is Phase.HANDSHAKE:
            self._handshake()
        else:
            self._discard()

    def _read(self) -> None:
        """Read until a message can be served or nothing more is there.

        Never only once: after a reset the loop calls back a single time, and what was received before it comes first.
        """
        buffer = self._buffer
        limit = self._server.limits.message_bytes
        while True:
            try:
                data = self._sock.recv(_RECORD)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLWantWriteError:
                # TLS 1.3 answers a KeyUpdate while the socket is full.
                self._wait_writable()
                return
            except OSError:
                self.close("connection_lost")
                return
            if not data:
                self.close("by_client")
                return
            if not buffer and self._task is None and not self._out and len(data) >= HEADER_LENGTH:
                try:
                    whole = message_length(data[:HEADER_LENGTH], limit) == len(data)
                except FramingError:
                    whole = True
                if whole:
                    self._serve(data)
                    return
            buffer += data
            self._serve_buffered()
            if self.phase is not Phase.OPEN or self._out:
                return
            if self._full():
                self._loop.remove_reader(self._fd)
                return

    def _full(self) -> bool:
        """Whether more is buffered than the longest message: the client sends without waiting for answers, so let it wait."""
        return len(self._buffer) > self._server.limits.message_bytes

    def _handshake(self) -> None:
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._wait_writable()
            return
        except (OSError, ValueError) as error:
            self._server.handshake_failed(self._address, failure_reason(error))
            self.close("")
            return
        self._der = self._sock.getpeercert(True) or b""
        self.phase = Phase.OPEN
        self.deadline = self._loop.time() + self._server.limits.idle
        try:
            self._authority()
        except Refused as refusal:
            self._server.counters.handshakes["not_authorized"] += 1
            self._refuse(refusal)
        else:
            self._server.counters.handshakes["ok"] += 1
            self._read()

    def _discard(self) -> None:
        try:
            for _ in range(_TURN):
                if not os.read(self._fd, 4 * _RECORD):
                    break
            else:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close("")

    # ---- serving

    def _serve_buffered(self) -> None:
        """Answer the whole messages in the buffer, in order, until one has to wait."""
        buffer = self._buffer
        limits = self._server.limits
        for _ in range(_TURN):
            if self._task is not None or self._out or self.phase is not Phase.OPEN:
                return
            if len(buffer) < HEADER_LENGTH:
                break
            try:
                length = message_length(bytes(buffer[:HEADER_LENGTH]), limits.message_bytes)
            except FramingError:
                length = len(buffer)
            if len(buffer) < length:
                break
            message = bytes(memoryview(buffer)[:length])
            del buffer[:length]
            self._serve(message)
        else:
            if buffer:
                self._loop.call_soon(self._resume_reading)
            return
        if buffer and self.deadline > (limit := self._loop.time() + limits.frame):
            self.deadline = limit

    def _authority(self) -> Client:
        """Who the client is by the allowlist of this moment. Raises :class:`Refused`."""
        server = self._server
        access = server.trust.access
        client, grant = self._client, self._grant
        if access is not self._access or client is None or grant is None:
            grant = access.decide(self._der)
            client = Client(grant.name, hashlib.sha256(self._der).hexdigest(), self._address, grant.operations)
            self._access, self._grant, self._client = access, grant, client
        grant.check(server.clock())
        return client

    def recheck(self) -> None:
        """Close the connection if its client is not allowed any more."""
        if self.phase is not Phase.OPEN:
            return
        try:
            self._authority()
        except Refused as refusal:
            self._refuse(refusal)

    def _refuse(self, refusal: Refused) -> None:
        self._server.audit.refused(self._address, hashlib.sha256(self._der).hexdigest(), str(refusal))
        self.close("refused")

    def _serve(self, message: bytes) -> None:
        server = self._server
        try:
            client = self._authority()
        except Refused as refusal:
            self._refuse(refusal)
            return
        if not server.audit.available:
            # Nothing is begun that could not be audited: what an operation does cannot be taken back.
            try:
                server.audit.flush()
            except AuditUnavailable:
                self.close("audit_unavailable")
                return
        day = server.clock() // _DAY
        if day != self._day:
            self._day = day
            server.seen(client.name)
        running = server.engine.handle(message, client)
        if not server.eager:
            self._carry_on(self._loop.create_task(running))
            return
        try:
            awaited = running.send(None)
        except StopIteration as done:
            self._answer(done.value)
        except Exception:
            _log.exception("a request failed inside the server")
            self.close("internal_error")
        else:
            self._carry_on(self._loop.create_task(_resume(running, awaited)))

    def _carry_on(self, task: asyncio.Task[Reply]) -> None:
        self._task = task
        self.deadline = _NEVER
        self._server.running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Reply]) -> None:
        self._server.running.discard(task)
        self._task = None
        if task.cancelled():
            self.close("draining")
            return
        error = task.exception()
        if error is not None:
            _log.error("a request failed inside the server", exc_info=error)
            self.close("internal_error")
            return
        if self.phase is not Phase.OPEN:
            self._server.audit_flush()
            return
        try:
            # While the answer was being made the client may have been withdrawn.
            self._authority()
        except Refused as refusal:
            self._refuse(refusal)
            return
        self._answer(task.result())
        if self._buffer:
            self._resume_reading()

    # ---- writing

    def _answer(self, reply: Reply) -> None:
        try:
            self._server.audit.flush()
        except AuditUnavailable as error:
            _log.critical("no answer without its audit line", error=str(error))
            self.close("audit_unavailable")
            return
        data, last = reply
        self._closing = last or (self._server.draining and not self._buffer)
        try:
            sent = self._sock.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError:
            self.close("connection_lost")
            return
        if sent < len(data):
            self._out = data[sent:]
            self._wait_writable()
            return
        self._answered()

    def _answered(self) -> None:
        if self._closing:
            self._hang_up()
        else:
            self.deadline = self._loop.time() + self._server.limits.idle

    def _wait_writable(self) -> None:
        """Read nothing more until the client has taken what it is owed."""
        self._loop.remove_reader(self._fd)
        self._loop.add_writer(self._fd, self._on_writable)
        self.deadline = min(self.deadline, self._loop.time() + self._server.limits.frame)

    def _on_writable(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:
                self.close("connection_lost")
                return
            self._out = self._out[sent:]
            if not self._out:
                self._answered()
        if self.phase in {Phase.HANDSHAKE, Phase.OPEN}:
            self._loop.remove_writer(self._fd)
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._serve_buffered()
        if self.phase in {Phase.HANDSHAKE, Phase.OPEN} and not self._out and not self._full():
            try:
                self._loop.add_reader(self._fd, self._on_readable)
            except RuntimeError:
                # uvloop has closed its handle after a reset that came meanwhile.
                self.close("connection_lost")

    # ---- ending

    def _hang_up(self) -> None:
        """Tell the client that nothing more will come, and wait for it to go."""
        self._server.counters.closed["after_answer"] += 1
        self.phase = Phase.LINGER
        self.deadline = self._loop.time() + _LINGER
        self._loop.remove_writer(self._fd)
        self._loop.add_reader(self._fd, self._on_readable)
        self._say_goodbye()
        try:
            self._sock.shutdown(1)
        except OSError:
            self.close("")

    def _say_goodbye(self) -> None:
        try:
            self._sock.unwrap()
        except (OSError, ValueError):
            # Expected: the peer's own close_notify is not here yet, or never will be.
            return

    def close(self, reason: str) -> None:
        """Close now. ``reason`` is counted unless it is empty."""
        if self.phase is Phase.CLOSED:
            return
        if reason:
            self._server.counters.closed[reason] += 1
        if self.phase is Phase.OPEN and not self._out:
            self._say_goodbye()
        self.phase = Phase.CLOSED
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._buffer.clear()
        self._out = b""
        self._server.forget(self)

    def expire(self) -> None:
        """The deadline has passed."""
        if self.phase is Phase.HANDSHAKE:
            self._server.handshake_failed(self._address, "timeout")
            self.close("")
        elif self.phase is Phase.LINGER:
            self.close("")
        else:
            self.close("frame_timeout" if self._buffer or self._out else "idle_timeout")

    def drain(self, *, hurry: bool) -> None:
        """Close unless something is being answered, is arriving, or (not in a ``hurry``) may still come on a new connection."""
        if self.phase is not Phase.OPEN or self._task is not None or self._out:
            return
        served = self._day >= 0
        if served:
            # What the client sent before it could know is read and answered; then the connection ends.
            self._on_readable()
        if self.phase is Phase.OPEN and self._task is None and not self._out and not self._buffer and (served or hurry):
            self.close("draining")
