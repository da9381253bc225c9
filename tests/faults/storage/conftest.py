"""PostgreSQL clusters to be killed: one each for single servers, and for a primary with a standby."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from support.postgresql import Cluster, postgresql

from kmip_contract import kmipd as contract

MakeSettings = Callable[..., contract.PostgresqlStorage]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that kmipd runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """A primary and its synchronous standby, for one test: it may not survive it."""
    with postgresql(synchronous_standby=True) as running:
        yield running


@pytest.fixture
def settings_for(tmp_path: Path) -> MakeSettings:
    def make(dsn: str, *, pool_size: int = 8) -> contract.PostgresqlStorage:
        name = secrets.token_hex(6)
        dsn_file = tmp_path / name
        dsn_file.write_text(dsn)
        return contract.PostgresqlStorage(dsn_file=dsn_file, database_schema=f"kmip_{name}", pool_size=pool_size)

    return make
