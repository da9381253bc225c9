"""A fake custody and the parts that speak to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from support.custody_server import CustodyServer

from kmip_contract.kmipd import KeyCache
from kmipd.keys.service import KeyService

MakeService = Callable[..., Awaitable[KeyService]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that kmipd runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def custody(tmp_path: Path) -> AsyncIterator[CustodyServer]:
    server = CustodyServer(tmp_path / "custody.sock")
    await server.start()
    yield server
    server.answer.set()
    await server.stop()


@pytest.fixture
async def make_service(custody: CustodyServer) -> AsyncIterator[MakeService]:
    """Services whose intervals are an hour unless given: a test that waits for a poll says so."""
    services: list[KeyService] = []

    async def make(
        *,
        timeout: float = 5.0,
        max_age: float = 60.0,
        max_entries: int = 100,
        healthy: float = 3600.0,
        unhealthy: float = 3600.0,
    ) -> KeyService:
        service = KeyService(
            custody.path,
            timeout=timeout,
            cache=KeyCache(max_age=max_age, max_entries=max_entries),
            healthy_interval=healthy,
            unhealthy_interval=unhealthy,
        )
        services.append(service)
        await service.start()
        return service

    yield make
    for service in services:
        await service.aclose()
