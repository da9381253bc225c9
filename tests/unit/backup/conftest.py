"""Databases of both kinds, as many as a test wants."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.postgresql import Cluster, postgresql

from kmip_contract import kmipd as contract

NewDatabase = Callable[[], contract.Storage]

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=KINDS)
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes the settings of an empty database at each call."""
    return _maker(request, str(request.param), tmp_path_factory.mktemp("databases"))


@pytest.fixture(params=KINDS)
def other_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """As ``new_database``, in every combination with it."""
    return _maker(request, str(request.param), tmp_path_factory.mktemp("others"))


def _maker(request: pytest.FixtureRequest, kind: str, directory: Path) -> NewDatabase:
    numbers = itertools.count()
    if kind == "sqlite":
        return lambda: contract.SqliteStorage(path=directory / f"{next(numbers)}.db")
    cluster: Cluster = request.getfixturevalue("cluster")
    dsn = directory / "dsn"
    dsn.write_text(cluster.primary.dsn())
    return lambda: contract.PostgresqlStorage(dsn_file=dsn, database_schema=f"kmip_{secrets.token_hex(8)}", pool_size=4)
