"""Both databases: a file in a temporary directory, and a real PostgreSQL that the whole run shares."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import uvloop
from support.postgresql import Cluster, postgresql

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import Storage

OpenStorage = Callable[[UUID | None], AbstractAsyncContextManager[Storage]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that kmipd runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> contract.Storage:
    """The settings of an empty database."""
    if request.param == "sqlite":
        return contract.SqliteStorage(path=tmp_path / "kmip.db")
    cluster: Cluster = request.getfixturevalue("cluster")
    return postgresql_settings(cluster, tmp_path)


@pytest.fixture
def postgresql_database(cluster: Cluster, tmp_path: Path) -> contract.PostgresqlStorage:
    return postgresql_settings(cluster, tmp_path)


def postgresql_settings(cluster: Cluster, directory: Path) -> contract.PostgresqlStorage:
    dsn_file = directory / "dsn"
    dsn_file.write_text(cluster.primary.dsn() + "\n")
    return contract.PostgresqlStorage(dsn_file=dsn_file, database_schema=f"kmip_{secrets.token_hex(6)}")


@pytest.fixture
async def store(database: contract.Storage) -> AsyncIterator[Storage]:
    opened = await storage.open(database, None)
    yield opened
    await opened.aclose()


@pytest.fixture
def open_storage(database: contract.Storage) -> OpenStorage:
    @asynccontextmanager
    async def opened(keyspace: UUID | None) -> AsyncIterator[Storage]:
        handle = await storage.open(database, keyspace)
        try:
            yield handle
        finally:
            await handle.aclose()

    return opened
