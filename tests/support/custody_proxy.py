"""Stands between custody and a key manager that speaks HTTP: cuts, delays, throttles, lies and counts when told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from aiohttp import web

Forge = Callable[[str, int, bytes], tuple[int, bytes]]
"""Path, status and body of a real answer → those that custody gets."""


class FaultyProxy:
    """Plain HTTP on loopback in front of ``upstream``."""

    def __init__(self, upstream: str, ca_file: Path | None) -> None:
        self._upstream = upstream
        self._ca_file = ca_file
        self.address = ""
        self.cut = False
        self.held = asyncio.Event()
        self.held.set()
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        """Given, in order, in place of the upstream's, to requests that ``matches``."""
        self.matches: Callable[[str], bool] = lambda _: True
        self.forge: Forge | None = None
        self.requests: Counter[str] = Counter()

    def hold(self) -> None:
        """Let nothing through until ``release``."""
        self.held.clear()

    def release(self) -> None:
        """Let everything through."""
        self.held.set()

    def answer(self, status: int, body: bytes = b"{}", times: int = 1, **headers: str) -> None:
        """Give this to the next ``times`` requests that match."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers += [(status, fields, body)] * times

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path}"] += 1
        if self.cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        await self.held.wait()
        if self.answers and self.matches(request.path):
            status, fields, body = self.answers.pop(0)
            return web.Response(status=status, headers=fields, body=body)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._session.request(
            request.method, f"{self._upstream}{request.path_qs}", headers=headers, data=await request.read()
        ) as answer:
            status, body = answer.status, await answer.read()
            if self.forge is not None:
                status, body = self.forge(request.path, status, body)
            return web.Response(status=status, body=body, content_type=answer.content_type)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultyProxy]:
        """Serve for the block."""
        trust = ssl.create_default_context(cafile=str(self._ca_file)) if self._ca_file else True
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust), auto_decompress=False
        ) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                self.release()
                await runner.cleanup()


_HOP = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
