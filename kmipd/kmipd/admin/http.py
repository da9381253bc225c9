"""Just enough HTTP/1.1 (RFC 9112) to be probed and scraped: GET and HEAD, no body, a few fixed paths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, cast

import structlog

_log = structlog.get_logger(__name__)

# Probes and scrapers send some hundred bytes.
_MAX_HEAD = 8 * 1024

# Seconds a connection may take to send a request, and may stay idle between two: Prometheus scrapes at least once a minute.
_IDLE = 75.0

# Seconds until the first request: probes send it at once.
_FIRST = 5.0

# More connections than any number of probes and scrapers opens at once. One more takes the place of the longest idle: whoever
# opens connections and says nothing must not keep the kubelet from its probes.
_MAX_CONNECTIONS = 64

_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Error",
    503: "Service Unavailable",
}


class Response(NamedTuple):
    """What a handler answers."""

    status: int
    content_type: str
    body: bytes


Handler = Callable[[], Awaitable[Response]]
Routes = Mapping[str, Handler]


def text(status: int, message: str) -> Response:
    """A plain-text answer."""
    return Response(status, "text/plain; charset=utf-8", message.encode() + b"\n")


class HttpProtocol(asyncio.Protocol):
    """One connection; ``open_connections`` is shared by those of one port."""

    def __init__(self, routes: Routes, open_connections: set[HttpProtocol]) -> None:
        self._routes = routes
        self._open = open_connections
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.since = self._loop.time()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._open) >= _MAX_CONNECTIONS:
            idle = min((each for each in self._open if not each.busy), key=lambda each: each.since, default=None)
            if idle is None:
                self._transport.abort()
                return
            self._open.discard(idle)
            idle.close()
        self._open.add(self)
        self._timer = self._loop.call_later(_FIRST, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        if len(self._buffer) > _MAX_HEAD:
            self._send(text(400, "too long"), keep=False, body=True)
        elif self._task is None:
            self._next()

    def _next(self) -> None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        self._buffer = rest
        self._task = self._loop.create_task(self._answer(head.decode("latin-1")))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and not self._transport.is_closing():
            self._next()

    async def _answer(self, head: str) -> None:
        request, *fields = head.split("\r\n")
        try:
            method, target, version = request.split(" ")
        except ValueError:
            self._send(text(400, "not HTTP"), keep=False, body=True)
            return
        connection = {
            field.partition(":")[0].strip().lower(): field.partition(":")[2].strip().lower() for field in fields
        }
        keep = version == "HTTP/1.1" and connection.get("connection") != "close"
        has_body = connection.get("content-length", "0") != "0" or "transfer-encoding" in connection
        handler = self._routes.get(target.partition("?")[0])
        if method not in {"GET", "HEAD"} or has_body:
            response, keep = text(405, "GET or HEAD, without a body"), False
        elif handler is None:
            response = text(404, "not here")
        else:
            try:
                response = await handler()
            except Exception:
                _log.exception("an administrative request failed", path=target)
                response = text(500, "see the log")
        self._send(response, keep=keep, body=method != "HEAD")

    def _send(self, response: Response, *, keep: bool, body: bool) -> None:
        status, content_type, content = response
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
            f"Cache-Control: no-store\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + (content if body else b""))
        if not keep:
            self._transport.close()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(_IDLE, self.close)
