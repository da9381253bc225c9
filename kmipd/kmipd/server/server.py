"""The KMIP port: accepts connections with the TLS context of the moment, holds them to their limits, drains at the end."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from typing import Any, Protocol

import structlog

from kmip_contract.kmipd import Limits, Listen
from kmipd.operations.api import Client, Reply
from kmipd.server.access import AccessList
from kmipd.server.audit import AuditLog, AuditUnavailable
from kmipd.server.counters import Counters
from kmipd.server.session import Session
from kmipd.server.trust import Trust
from kmipd.server.watch import INTERVAL

_log = structlog.get_logger(__name__)

# Connections the kernel holds while the loop is busy with handshakes. A rack that boots after a power cut comes all at once; a
# connection that does not fit waits a second for its SYN to be sent again.
_BACKLOG = 4096

# Connections accepted in a row before those already open get their turn.
_ACCEPT_TURN = 16

# Seconds without accepting after the process ran out of descriptors.
_ACCEPT_PAUSE = 0.1

# Seconds a connection that has asked nothing yet is kept while draining.
_FIRST_REQUEST_GRACE = 1.0

# Refused handshakes written to the audit per second; the rest are counted and summed up in the next line.
_REFUSALS_PER_SECOND = 20


class Handler(Protocol):
    """The engine, as far as this layer knows it."""

    def handle(self, message: bytes, client: Client) -> Coroutine[Any, Any, Reply]:
        """Answer one message; never raises."""


class KmipServer:
    """Serves one KMIP port.

    ``eager``: begin requests without a task. Only for a storage that answers reads without suspending and uses no time-outs of
    asyncio's before it first suspends.
    """

    def __init__(
        self,
        engine: Handler,
        trust: Trust,
        audit: AuditLog,
        counters: Counters,
        limits: Limits,
        *,
        eager: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.trust = trust
        self.audit = audit
        self.counters = counters
        self.limits = limits
        self.eager = eager
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.running: set[asyncio.Task[Reply]] = set()
        self.draining = False
        self.last_seen: dict[str, date] = {}
        self._sessions: set[Session] = set()
        self._by_host: Counter[str] = Counter()
        self._listeners: list[socket.socket] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._poll_timer: asyncio.TimerHandle | None = None
        self._refusals = 0
        self._refusals_second = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: host and port."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    async def start(self, listen: Listen) -> None:
        """Bind and serve. Raises ``OSError``."""
        self._listeners = await listening_sockets(listen)
        for listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)
        self._sweep()
        self._poll()

    # ---- accepting

    def _accept(self, listener: socket.socket, turn: int = _ACCEPT_TURN) -> None:
        for _ in range(turn):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise
                _log.error("cannot accept connections now", error=error.strerror)
                self.loop.remove_reader(listener.fileno())
                self.loop.call_later(_ACCEPT_PAUSE, self._accept_again, listener)
                return
            self._welcome(sock, peer[0].removeprefix("::ffff:"), peer[1])

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _welcome(self, sock: socket.socket, host: str, port: int) -> None:
        if len(self._sessions) >= self.limits.connections or self._by_host[host] >= self.limits.connections_per_address:
            self.counters.handshakes["connection_limit"] += 1
            sock.close()
            return
        sock.setblocking(False)
        try:
            tls = self.trust.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            self.counters.handshakes["connection_lost"] += 1
            sock.close()
            return
        self._by_host[host] += 1
        self._sessions.add(Session(self, tls, host, port))
        self.counters.connections = len(self._sessions)

    def forget(self, session: Session) -> None:
        """A session has closed."""
        self._sessions.discard(session)
        self.counters.connections = len(self._sessions)
        remaining = self._by_host[session.host] - 1
        if remaining > 0:
            self._by_host[session.host] = remaining
        else:
            del self._by_host[session.host]

    def handshake_failed(self, address: str, reason: str) -> None:
        """Count a failed handshake; an untrusted certificate is audited too, so far as nobody floods the audit with them."""
        self.counters.handshakes[reason] += 1
        _log.debug("handshake failed", address=address, reason=reason)
        if reason != "certificate_not_trusted":
            return
        second = int(self.clock())
        if second != self._refusals_second:
            suppressed = self._refusals - _REFUSALS_PER_SECOND
            self._refusals, self._refusals_second = 0, second
            if suppressed > 0:
                self.audit.refused("", "", f"{suppressed} more handshakes with untrusted certificates")
        self._refusals += 1
        if self._refusals <= _REFUSALS_PER_SECOND:
            self.audit.refused(address, "", "the certificate is not in the allowlist, is blocked, or has expired")

    # ---- while serving

    def seen(self, name: str) -> None:
        """A client made its first request of a day on a connection."""
        self.last_seen[name] = datetime.fromtimestamp(self.clock(), UTC).date()

    def audit_flush(self) -> None:
        """Write the audit of a request whose client has gone."""
        try:
            self.audit.flush()
        except AuditUnavailable as error:
            _log.critical("audit", error=str(error))

    def allowlist_changed(self, access: AccessList) -> None:
        """Hold every open connection to the new allowlist now."""
        for session in list(self._sessions):
            session.recheck()
        self.last_seen = {name: day for name, day in self.last_seen.items() if access.knows(name)}

    def _poll(self) -> None:
        # First of all the next look: whatever goes wrong in this one, revocations must go on being noticed.
        self._poll_timer = self.loop.call_later(INTERVAL, self._poll)
        self.trust.poll()

    def _sweep(self) -> None:
        now = self.loop.time()
        for session in [session for session in self._sessions if session.deadline <= now]:
            session.expire()
        shortest = min(self.limits.handshake, self.limits.idle, self.limits.frame)
        self._sweep_timer = self.loop.call_later(min(1.0, shortest / 4), self._sweep)

    # ---- the end

    async def drain(self, seconds: float) -> None:
        """Stop accepting, answer what was sent, close what is idle; after ``seconds`` close everything."""
        end = self.loop.time() + seconds
        grace = self.loop.time() + min(seconds, _FIRST_REQUEST_GRACE)
        self.draining = True
        while self._listeners:
            listener = self._listeners.pop()
            self.loop.remove_reader(listener.fileno())
            self._accept(listener, _BACKLOG)
            listener.close()
        while self._sessions and (now := self.loop.time()) < end:
            for session in list(self._sessions):
                session.drain(hurry=now >= grace)
            await asyncio.sleep(0.02)
        for session in list(self._sessions):
            session.close("draining")
        if self.running:
            await asyncio.wait(self.running, timeout=max(0.0, end - self.loop.time()))
        for timer in (self._sweep_timer, self._poll_timer):
            if timer is not None:
                timer.cancel()


async def listening_sockets(listen: Listen) -> list[socket.socket]:
    """Bind ``listen``: each address of its host, or every address of the machine. Raises ``OSError``."""
    if not listen.host:
        try:
            return [_bind(socket.AF_INET6, ("::", listen.port), dual=True)]
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
            return [_bind(socket.AF_INET, ("0.0.0.0", listen.port))]  # noqa: S104 - asked for
    found = await asyncio.get_running_loop().getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    unique = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    return [_bind(family, address) for family, address in unique]


def _bind(family: int, address: tuple[Any, ...], *, dual: bool = False) -> socket.socket:
    # With protocol 0 nothing that looks at the socket knows that it is TCP; accepted sockets inherit TCP_NODELAY, without which
    # a first answer after a TLS 1.3 handshake can wait 40 ms for a delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
