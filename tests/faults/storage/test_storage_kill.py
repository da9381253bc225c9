"""kill -9 at random moments: whatever was acknowledged is there, whole, afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.objects import an_object, named
from support.postgresql import Cluster
from support.storage_victim import content

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import LocateQuery, Storage, StorageUnavailable

TESTS = Path(__file__).resolve().parents[2]
SQLITE_KILLS = 150
CLIENT_KILLS = 60
SERVER_KILLS = 20

Acknowledged = dict[str, int]
"""The last acknowledged revision of each object."""


class Victim:
    """The program of :mod:`support.storage_victim`."""

    def __init__(self, settings: contract.Storage) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.storage_victim", settings.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TESTS,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the victim's parent died"
        return line.strip()

    def killed_after(self, seed: str, answers: int) -> Acknowledged:
        """Let it write until it said ``answers`` acknowledgements, kill it, and return all that it said."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        word, pid = self._line().split()
        assert word == "pid"
        acknowledged: Acknowledged = {}
        heard = 0
        if answers == 0:
            os.kill(int(pid), signal.SIGKILL)
        while (line := self._line()) != "gone":
            _, uid, *revision = line.split()
            acknowledged[uid] = int(revision[0]) if revision else 1
            heard += 1
            if heard == answers:
                os.kill(int(pid), signal.SIGKILL)
        return acknowledged

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(timeout=30) == 0


@contextmanager
def victim(settings: contract.Storage) -> Iterator[Victim]:
    started = Victim(settings)
    try:
        yield started
    finally:
        started.end()


async def verify(store: Storage, acknowledged: Acknowledged) -> None:
    """Every acknowledged write is there, later ones may be, and each object and its index are of one and the same write."""
    found = {stored.uid: stored for stored in await store.get_many(list(acknowledged))}
    assert found.keys() == acknowledged.keys(), acknowledged.keys() - found.keys()
    for uid, revision in acknowledged.items():
        stored = found[uid]
        assert stored.revision >= revision
        assert stored.attributes == content(uid, stored.revision)
        assert stored.state == stored.revision
        for other in (2, 3):
            page = await store.locate(LocateQuery(entries=(named(f"{uid}/{other}"),)), offset=0, limit=2)
            assert page.uids == ([uid] if other == stored.revision else [])


async def kill_repeatedly(settings: contract.Storage, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    everything: Acknowledged = {}
    with victim(settings) as process:
        for turn in range(kills):
            acknowledged = process.killed_after(f"s{turn}", chance.choice([0, 1, chance.randrange(1, 60)]))
            store = await storage.open(settings, None)
            await verify(store, acknowledged)
            everything.update(acknowledged)
            if turn == kills - 1:
                await verify(store, everything)
                total = await store.locate(LocateQuery(entries=(named("all"),)), offset=0, limit=1)
                assert total.total == sum((await store.counts()).values()) >= len(everything)
            await store.aclose()
    print(f"{kills} kills, {len(everything)} objects acknowledged")


@pytest.fixture
def seed() -> int:
    """A new seed each run; printed, and so shown when a test fails."""
    chosen = random.SystemRandom().randrange(10**9)
    print(f"seed {chosen}")
    return chosen


async def test_sqlite_loses_nothing_when_its_process_is_killed(tmp_path: Path, seed: int) -> None:
    await kill_repeatedly(contract.SqliteStorage(path=tmp_path / "db"), SQLITE_KILLS, seed)


@pytest.mark.postgresql
async def test_postgresql_loses_nothing_when_its_client_is_killed(
    single: Cluster, settings_for: Callable[..., contract.PostgresqlStorage], seed: int
) -> None:
    await kill_repeatedly(settings_for(single.primary.dsn()), CLIENT_KILLS, seed)


@pytest.mark.postgresql
async def test_postgresql_loses_nothing_when_the_server_is_killed(
    single: Cluster, settings_for: Callable[..., contract.PostgresqlStorage], seed: int
) -> None:
    chance = random.Random(seed)
    store = await storage.open(settings_for(single.primary.dsn()), None)
    acknowledged: Acknowledged = {}
    stop = False
    refused = 0

    async def write_on(name: str) -> None:
        nonlocal refused
        number = 0
        while not stop:
            uid = f"{name}-{number}"
            number += 1
            try:
                await store.insert(an_object(uid, attributes=content(uid, 1)), [named(uid)])
                acknowledged[uid] = 1
            except StorageUnavailable:
                refused += 1
                await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write_on(f"w{number}")) for number in range(8)]
    for turn in range(SERVER_KILLS):
        enough = len(acknowledged) + chance.randrange(1, 100)
        async with asyncio.timeout(60):
            while len(acknowledged) < enough:
                await asyncio.sleep(0.001)
        single.primary.kill(everything=bool(turn % 2))
        await asyncio.to_thread(single.primary.start)
    stop = True
    await asyncio.gather(*writers)
    found = {stored.uid for stored in await store.get_many(list(acknowledged))}
    assert found == acknowledged.keys()
    assert refused >= SERVER_KILLS
    await store.aclose()
    print(f"{SERVER_KILLS} kills, {len(acknowledged)} objects acknowledged, {refused} writes refused")
