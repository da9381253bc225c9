"""The two administrative ports: one plain, for probes and scrapers, one with mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

import structlog

from kmip_contract.kmipd import Listen, StatusEndpoint
from kmipd.admin.http import HttpProtocol, Routes

_log = structlog.get_logger(__name__)

_HANDSHAKE_SECONDS = 10.0

# The operator opens one connection a pod; handshakes beyond this are a flood, and each would hold a descriptor for 10 s.
_MAX_HANDSHAKES = 64


class PlainPort:
    """``/livez``, ``/readyz`` and ``/metrics`` without TLS: nothing there is secret, and kubelets have no certificate."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._open: set[HttpProtocol] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listen: Listen) -> list[tuple[str, int]]:
        """Listen; returns where. Raises ``OSError``."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpProtocol(self._routes, self._open), listen.host or None, listen.port
        )
        return [sock.getsockname()[:2] for sock in self._server.sockets]

    def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.close()


class MutualTlsPort:
    """``/status``, for certificates that ``client_ca_file`` issued. Replaced files count for the next connection."""

    def __init__(self, routes: Routes, endpoint: StatusEndpoint) -> None:
        self._routes = routes
        self._endpoint = endpoint
        self._open: set[HttpProtocol] = set()
        self._context: ssl.SSLContext | None = None
        self._signature: tuple[tuple[int, int], ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> list[tuple[str, int]]:
        """Listen; returns where. Raises ``OSError`` (also when a certificate cannot be used)."""
        listen = self._endpoint.listen
        loop = asyncio.get_running_loop()
        self._current()
        found = await loop.getaddrinfo(
            listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        addresses = []
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen()
            addresses.append(sock.getsockname()[:2])
            self._spawn(self._accept(sock))
        return addresses

    async def aclose(self) -> None:
        """Stop listening and hang up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._open):
            connection.close()

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, _ = await loop.sock_accept(listener)
                except OSError as error:
                    _log.error("cannot accept status connections now", error=error.strerror)
                    await asyncio.sleep(0.1)
                    continue
                if len(self._tasks) > _MAX_HANDSHAKES:
                    sock.close()
                    continue
                self._spawn(self._welcome(sock))

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: HttpProtocol(self._routes, self._open),
                sock,
                ssl=self._current(),
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            )
        except OSError as error:
            _log.debug("status connection refused", error=str(error))
            sock.close()

    def _current(self) -> ssl.SSLContext:
        files = (self._endpoint.certificate_file, self._endpoint.key_file, self._endpoint.client_ca_file)
        with contextlib.suppress(OSError):
            signature = tuple((status.st_ino, status.st_mtime_ns) for status in map(os.stat, files))
            if signature == self._signature and self._context is not None:
                return self._context
            try:
                self._context = self._build()
                self._signature = signature
            except OSError as error:
                if self._context is None:
                    raise
                _log.error("status certificate not taken up", error=str(error))
        if self._context is None:
            self._context = self._build()
        return self._context

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # A client is told from another by its authority alone: no session may outlive a change of it.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.load_cert_chain(self._endpoint.certificate_file, self._endpoint.key_file)
        context.load_verify_locations(self._endpoint.client_ca_file)
        return context
