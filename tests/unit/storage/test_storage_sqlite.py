"""What is special to SQLite: ownership of the file, its marks, its volume, groups of writes, and speed by index."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.objects import an_object, named

from kmipd.storage.api import LocateQuery, Storage, StorageError, StorageUnavailable
from kmipd.storage.index import index_keys
from kmipd.storage.migration import Migration, pending
from kmipd.storage.sqlite.database import SqliteStorage
from kmipd.storage.sqlite.locate import plan
from kmipd.storage.sqlite.writer import MAX_PENDING
from kmipd.storage.volume import REFUSED_FILE_SYSTEMS, file_system_type, refuse_network_file_system

HOLDER = """
import asyncio, sys
from pathlib import Path
from kmipd.storage.sqlite.database import SqliteStorage

async def hold():
    store = await SqliteStorage.open(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
    await store.aclose()

asyncio.run(hold())
"""


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that must not suspend."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value


async def test_reads_do_not_suspend(tmp_path: Path) -> None:
    store = await SqliteStorage.open(tmp_path / "db")
    stored = an_object("u")
    await store.insert(stored, [named("n")])
    assert finished(store.get("u")) == stored
    assert finished(store.get_many(["u"])) == [stored]
    assert finished(store.locate(LocateQuery(entries=(named("n"),)), offset=0, limit=10)).uids == ["u"]
    await store.aclose()


async def test_a_second_process_is_refused_and_told_who_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=f"in use by process {holder.pid} on "):
            await SqliteStorage.open(path)
        holder.kill()
        holder.wait()
        store = await SqliteStorage.open(path)
        with pytest.raises(StorageError, match=f"process {os.getpid()} on "):
            await SqliteStorage.open(path)
        await store.aclose()
        assert holder.stdin is not None
        holder.stdin.close()


async def test_a_refused_file_is_not_kept_locked(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(StorageError, match="not a database"):
            await SqliteStorage.open(path)


async def test_a_missing_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"{tmp_path}/absent: there is no such directory"):
        await SqliteStorage.open(tmp_path / "absent" / "db")


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StorageError, match="another program"):
        await SqliteStorage.open(path)


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = await SqliteStorage.open(path)
    await asyncio.gather(*(store.insert(an_object(material=bytes(3000)), [named(str(n))]) for n in range(200)))
    await store.aclose()
    with path.open("r+b") as file:
        file.seek(4096 * 20)
        file.write(os.urandom(4096 * 4))
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        await SqliteStorage.open(path)


async def test_a_newer_schema_is_used_as_far_as_it_allows(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = await SqliteStorage.open(path)
    await store.insert(an_object("u"), [])
    await store.aclose()
    change_schema(path, "INSERT INTO migrations VALUES (2, 1, 0)", "PRAGMA user_version = 2")
    store = await SqliteStorage.open(path)
    assert await store.get("u") is not None
    await store.aclose()
    change_schema(path, "INSERT INTO migrations VALUES (3, 3, 0)", "PRAGMA user_version = 3")
    with pytest.raises(StorageError, match="needs a kmipd of schema 3 or newer"):
        await SqliteStorage.open(path)


def change_schema(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as newer:
        for statement in statements:
            newer.execute(statement)
    newer.close()


def test_only_missing_migrations_are_pending() -> None:
    known = [Migration(version, 1, ()) for version in (1, 2, 3)]
    assert [m.version for m in pending(known, current=1, readable_by=1, where="db")] == [2, 3]
    assert pending(known, current=4, readable_by=3, where="db") == []


async def test_the_file_is_private_logged_ahead_and_flushed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = await SqliteStorage.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"KMID", "big"),)
        assert other.execute("PRAGMA user_version").fetchone() == (1,)
    other.close()
    for connection in (store._writer._connection, store._reader):
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]
        assert connection.execute("PRAGMA foreign_keys").fetchall() == [(1,)]
    await store.aclose()


async def test_too_many_waiting_writes_are_refused(tmp_path: Path) -> None:
    store = await SqliteStorage.open(tmp_path / "db")
    tasks = [asyncio.create_task(store.insert(an_object(), [])) for _ in range(MAX_PENDING + 50)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [result for result in results if result is not None]
    assert len(refused) == 50
    assert all(isinstance(result, StorageUnavailable) for result in refused)
    assert sum((await store.counts()).values()) == MAX_PENDING
    await store.ping()
    await store.aclose()
    with pytest.raises(StorageUnavailable, match="closed"):
        await store.insert(an_object(), [])


async def test_closing_finishes_accepted_writes(tmp_path: Path) -> None:
    store = await SqliteStorage.open(tmp_path / "db")
    writes = [asyncio.ensure_future(store.insert(an_object(f"u{number}"), [])) for number in range(100)]
    await asyncio.sleep(0)
    await store.aclose()
    assert await asyncio.gather(*writes) == [None] * 100
    store = await SqliteStorage.open(tmp_path / "db")
    assert sum((await store.counts()).values()) == 100
    await store.aclose()


async def test_one_copy_is_called_one_copy(tmp_path: Path) -> None:
    store = await SqliteStorage.open(tmp_path / "db")
    durability = await store.durability()
    assert not durability.durable
    assert durability.message.startswith("One copy")
    await store.aclose()


def test_network_file_systems_are_refused_with_the_reason() -> None:
    for type_, (name, reason) in REFUSED_FILE_SYSTEMS.items():
        with pytest.raises(StorageError) as refusal:
            refuse_network_file_system(Path("/volume/db"), type_)
        assert name in str(refusal.value)
        assert reason in str(refusal.value)
        assert "PostgreSQL" in str(refusal.value)
    for local in (0xEF53, 0x58465342, 0x9123683E, 0x794C7630, 0x01021994):  # ext4, XFS, Btrfs, overlay, tmpfs
        refuse_network_file_system(Path("/volume/db"), local)


def test_the_file_system_type_is_the_kernels() -> None:
    assert file_system_type(Path("/proc")) == 0x9FA0
    assert file_system_type(Path("/sys")) == 0x62656572


QUERIES = {
    "name": LocateQuery(entries=(named("n"),)),
    "name and columns": LocateQuery(entries=(named("n"),), state=1, object_type=2, usage_mask=4),
    "two entries": LocateQuery(entries=(named("n"), named("m"))),
    "state": LocateQuery(state=3),
    "type": LocateQuery(object_type=1),
    "dates": LocateQuery(initial_date_from=5, initial_date_to=6),
    "state and dates": LocateQuery(state=3, initial_date_from=5),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_every_locate_searches_by_an_index_and_needs_no_sort(tmp_path: Path, name: str) -> None:
    store = await SqliteStorage.open(tmp_path / "db")
    query = QUERIES[name]
    search = plan(query, index_keys(query.entries))
    statement = f"SELECT o.uid FROM {search.source}{search.join_for_uid} WHERE {search.where} ORDER BY {search.order}"
    count = f"SELECT count(*) FROM {search.source} WHERE {search.where}"
    for sql in (statement, count):
        steps = [row[3] for row in store._reader.execute(f"EXPLAIN QUERY PLAN {sql}", search.parameters)]
        assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step], steps
    await store.aclose()


async def test_the_rarest_entry_drives_the_search(tmp_path: Path) -> None:
    store: Storage = await SqliteStorage.open(tmp_path / "db")
    for number in range(80):
        await store.insert(an_object(f"u{number}"), [named("common"), named(f"rare{number}")])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    assert isinstance(store, SqliteStorage)
    store._reader.set_progress_handler(count, 1)
    for entries in ((named("common"), named("rare7")), (named("rare7"), named("common"))):
        steps = 0
        assert (await store.locate(LocateQuery(entries=entries), offset=0, limit=None)).uids == ["u7"]
        assert steps < 80 * 8, "each of the 80 common objects was looked at"
    await store.aclose()
