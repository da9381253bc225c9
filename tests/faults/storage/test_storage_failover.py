"""A PostgreSQL that stops, hangs, fails over, or whose standby is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest
from support.objects import an_object
from support.postgresql import Cluster

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import Storage, StorageUnavailable
from kmipd.storage.postgresql.pool import ACQUIRE_SECONDS, COMMAND_SECONDS

pytestmark = pytest.mark.postgresql

MakeSettings = Callable[..., contract.PostgresqlStorage]


async def succeed(store: Storage, uid: str, *, seconds: float = 40.0) -> None:
    """Insert objects (each under another identifier) until one is acknowledged."""
    async with asyncio.timeout(seconds):
        for attempt in range(100_000):
            try:
                await store.insert(an_object(f"{uid}-{attempt}"), [])
            except StorageUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_stopped_server_is_unavailable_at_once_and_found_again(
    single: Cluster, settings_for: MakeSettings
) -> None:
    store = await storage.open(settings_for(single.primary.dsn()), None)
    await store.insert(an_object("u"), [])
    single.primary.stop()
    for call in (store.get("u"), store.insert(an_object("v"), []), store.ping(), store.durability(), store.counts()):
        with pytest.raises(StorageUnavailable):
            async with asyncio.timeout(COMMAND_SECONDS):
                await call
    single.primary.start()
    await succeed(store, "w")
    assert await store.get("u") is not None
    await store.aclose()


async def test_a_hanging_server_is_unavailable_within_the_time_limits(
    single: Cluster, settings_for: MakeSettings
) -> None:
    settings = settings_for(single.primary.dsn(), pool_size=2)
    store = await storage.open(settings, None)
    await store.insert(an_object("u"), [])
    processes = [single.primary.pid, *single.primary.children()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        results = await asyncio.gather(*(store.get("u") for _ in range(6)), return_exceptions=True)
        assert all(isinstance(result, StorageUnavailable) for result in results)
        assert time.monotonic() - begun < ACQUIRE_SECONDS + COMMAND_SECONDS + 10
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    await succeed(store, "v")
    await store.aclose()


async def test_a_synchronous_standby_makes_writes_durable(pair: Cluster, settings_for: MakeSettings) -> None:
    store = await storage.open(settings_for(pair.primary.dsn(user="postgres")), None)
    durability = await store.durability()
    assert durability.durable
    assert "standby" in durability.message
    await store.insert(an_object("u"), [])
    limited = await storage.open(settings_for(pair.primary.dsn()), None)
    assert (await limited.durability()).durable, "a role that may not see standbys still sees that commits wait for one"
    await limited.aclose()

    assert pair.standby is not None
    pair.standby.stop()
    with pytest.raises(StorageUnavailable):
        await store.insert(an_object("v"), [])
    assert await store.get("u") is not None
    durability = await store.durability()
    assert not durability.durable
    assert "none follows" in durability.message
    pair.standby.start()
    await succeed(store, "w")
    await store.aclose()


async def test_a_commit_whose_wait_for_the_standby_is_cancelled_is_not_acknowledged(
    pair: Cluster, settings_for: MakeSettings
) -> None:
    """PostgreSQL calls such a commit a success, with a warning."""
    store = await storage.open(settings_for(pair.primary.dsn()), None)
    assert pair.standby is not None
    pair.standby.stop()
    insert = asyncio.create_task(store.insert(an_object("u"), []))
    waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    while await asyncio.to_thread(pair.primary.sql, waiting) == "0":
        assert not insert.done()
    with pytest.raises(StorageUnavailable, match="synchronous replication"):
        await insert
    assert await store.get("u") is not None, "committed on the primary alone"
    pair.standby.start()
    await succeed(store, "v")
    await store.aclose()


async def test_after_a_failover_the_promoted_standby_is_used_and_nothing_is_lost(
    pair: Cluster, settings_for: MakeSettings
) -> None:
    assert pair.standby is not None
    primary, standby = pair.primary, pair.standby
    hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
    store = await storage.open(settings_for(f"postgresql://kmip:{primary.password}@{hosts}/kmip"), None)
    acknowledged: list[str] = []
    stop = False

    async def write_on(name: str) -> None:
        number = 0
        while not stop:
            number += 1
            try:
                await store.insert(an_object(f"{name}-{number}"), [])
                acknowledged.append(f"{name}-{number}")
            except StorageUnavailable:
                await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write_on(f"w{number}")) for number in range(8)]
    async with asyncio.timeout(30):
        while len(acknowledged) < 100:
            await asyncio.sleep(0.01)
    primary.kill(everything=True)
    await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
    await asyncio.to_thread(standby.sql, "ALTER SYSTEM SET synchronous_standby_names = ''")
    await asyncio.to_thread(standby.sql, "SELECT pg_reload_conf()")
    before = len(acknowledged)
    async with asyncio.timeout(60):
        while len(acknowledged) < before + 50:
            await asyncio.sleep(0.01)
    stop = True
    await asyncio.gather(*writers)
    assert {stored.uid for stored in await store.get_many(acknowledged)} == set(acknowledged)
    assert not (await store.durability()).durable
    await store.aclose()
