"""Servers for the tests of this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kmipd_process import Kmipd, dev, running, start
from support.postgresql import Cluster, postgresql


@pytest.fixture
def kmipd(tmp_path: Path) -> Iterator[Kmipd]:
    with running(dev(tmp_path / "data")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running_cluster:
        yield running_cluster


@pytest.fixture
def serve_on_postgresql(tmp_path: Path, cluster: Cluster) -> Callable[[], Kmipd]:
    """Starts a further kmipd, each with a custody of its own, on a database schema of this test's."""
    first = tmp_path / "first"
    with running(dev(first)):
        pass
    schema = f"kmip_{abs(hash(tmp_path)):x}"
    dsn = tmp_path / "dsn"
    dsn.write_text(cluster.primary.dsn())
    count = 0

    def serve() -> Kmipd:
        nonlocal count
        count += 1
        directory = tmp_path / f"replica-{count}"
        shutil.copytree(first, directory, ignore=shutil.ignore_patterns("*.db*", "audit.log", "*.sock"))
        socket = str(directory / "custody.sock")
        config = json.loads((first / "kmipd.json").read_text())
        config["storage"] = {"type": "PostgreSQL", "dsn_file": str(dsn), "database_schema": schema}
        config |= {"audit_file": str(directory / "audit.log"), "custody_socket": socket}
        (directory / "kmipd.json").write_text(json.dumps(config))
        custody = json.loads((first / "custody.json").read_text())
        (directory / "custody.json").write_text(json.dumps(custody | {"socket": socket}))
        files = ["--config", str(directory / "kmipd.json"), "--with-custody", str(directory / "custody.json")]
        return start(directory, "serve", *files)

    return serve
