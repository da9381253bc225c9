"""The health port: /livez, /readyz and /metrics over plain HTTP/1.1, one answer a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import generate_latest

from kmip_custody.metrics import REGISTRY

_MAX_REQUEST = 8 * 1024
_REQUEST_TIMEOUT = 5.0
"""Seconds for a request head: a probe sends it at once."""

_log = structlog.get_logger("kmip_custody.health")

Check = Callable[[], str | None]
"""What is wrong, or ``None``."""


async def serve(port: int, live: Check, ready: Check) -> asyncio.Server:
    """Listen on every address (the kubelet probes the pod's), port ``port``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = _respond(head, live, ready)
            fields = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
            writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, None, port, limit=_MAX_REQUEST)
    _log.info("health.listening", port=server.sockets[0].getsockname()[1])
    return server


def _respond(head: bytes, live: Check, ready: Check) -> tuple[str, str, bytes]:
    text = "text/plain; charset=utf-8"
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET":
        return "405 Method Not Allowed", text, b"only GET\n"
    if path == b"/metrics":
        return "200 OK", "text/plain; version=0.0.4; charset=utf-8", generate_latest(REGISTRY)
    if path not in {b"/livez", b"/readyz"}:
        return "404 Not Found", text, b"/livez, /readyz or /metrics\n"
    problem = live() if path == b"/livez" else ready()
    if problem is None:
        return "200 OK", text, b"ok\n"
    return "503 Service Unavailable", text, problem.encode() + b"\n"
