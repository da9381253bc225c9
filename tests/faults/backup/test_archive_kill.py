"""kill -9 of backup and restore at random moments.

A restore that is run again comes to the same end, and nothing destroyed is back at any time.
"""

from __future__ import annotations

import random
import secrets
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.archives import a_key, a_tombstone, content, fill, read_archive, write_archive
from support.postgresql import Cluster, postgresql

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.backup.archive import Archive
from kmipd.backup.restore import restore
from kmipd.storage.api import DatabaseEmpty, StoredObject

TESTS = Path(__file__).resolve().parents[2]
SQLITE_KILLS = 50
POSTGRESQL_KILLS = 15
BACKUP_KILLS = 30
EACH = 1500


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


def rows() -> tuple[list[StoredObject], list[StoredObject], list[StoredObject]]:
    """What the database holds before, what the archive holds, and what must be there in the end."""
    newer = {"revision": 3, "last_change_date": 1_700_000_100, "state": 3}
    before, archived, after = [], [], []
    for number in range(EACH):
        uid = f"{number:05}"
        old, new, gone = a_key(uid), a_key(uid, **newer), a_tombstone(uid, revision=4)
        held, kept, end = [
            (None, new, new), (old, new, new), (new, old, new), (gone, new, gone), (old, gone, gone), (None, gone, gone)
        ][number % 6]  # fmt: skip
        archived.append(kept)
        after.append(end)
        if held is not None:
            before.append(held)
    return before, archived, after


def begun(archive: Path, settings: contract.Storage) -> subprocess.Popen[bytes]:
    """A restore that has just begun in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.restore_victim", str(archive), settings.model_dump_json()],
        cwd=TESTS,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def undisturbed(archive: Path, settings: contract.Storage) -> float:
    """Seconds a restore takes here and now, so that kills can come at any moment of it."""
    with begun(archive, settings) as process:
        started = time.monotonic()
        assert process.wait(60) == 0
        return time.monotonic() - started


def run_and_kill(archive: Path, settings: contract.Storage, delay: float) -> bool:
    """Whether the kill came before the end."""
    process = begun(archive, settings)
    assert process.stdout is not None
    timer = threading.Timer(delay, process.kill)
    timer.start()
    code = process.wait(60)
    timer.cancel()
    process.stdout.close()
    assert code in {0, -9}
    return code != 0


async def check_meanwhile(settings: contract.Storage, destroyed: set[str]) -> int:
    try:
        found = await content(settings)
    except DatabaseEmpty:
        return 0
    assert not [row.uid for row in found if row.uid in destroyed and row.material is not None]
    return len(found)


async def finish(archive: Path, settings: contract.Storage, after: list[StoredObject]) -> None:
    with Archive.open(archive) as read:
        await restore(read, settings, expected=None, apply_destroyed=True)
    assert sorted(await content(settings), key=lambda row: row.uid) == after


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "empty"])
async def test_a_killed_restore_is_run_again_on_sqlite(tmp_path: Path, merging: bool) -> None:
    before, archived, after = rows()
    keyspace = uuid.uuid4()
    archive = write_archive(tmp_path / "archive", archived, keyspace)
    origin = tmp_path / "origin.db"
    if merging:
        await fill(contract.SqliteStorage(path=origin), before, keyspace)
    else:
        after = archived
    destroyed = {row.uid for row in before if row.material is None} if merging else set()
    scratch = tmp_path / "scratch.db"
    if merging:
        shutil.copy(origin, scratch)
    span = undisturbed(archive, contract.SqliteStorage(path=scratch))
    chance = random.Random()
    killed = half_way = 0
    for turn in range(SQLITE_KILLS):
        path = tmp_path / f"{turn}.db"
        if merging:
            shutil.copy(origin, path)
        settings = contract.SqliteStorage(path=path)
        for _ in range(chance.choice([1, 1, 3])):
            killed += run_and_kill(archive, settings, chance.uniform(0, span))
            there = await check_meanwhile(settings, destroyed)
            half_way += len(before) * merging < there < len(after)
        await finish(archive, settings, after)
        path.unlink()
    print(f"{killed} restores killed, {half_way} found half done")
    assert killed >= SQLITE_KILLS // 4
    assert half_way


@pytest.mark.postgresql
async def test_a_killed_restore_is_run_again_on_postgresql(tmp_path: Path, cluster: Cluster) -> None:
    before, archived, after = rows()
    dsn = tmp_path / "dsn"
    dsn.write_text(cluster.primary.dsn())
    chance = random.Random()
    killed = 0
    span = 0.0
    for turn in range(POSTGRESQL_KILLS):
        settings = contract.PostgresqlStorage(dsn_file=dsn, database_schema=f"kmip_{secrets.token_hex(6)}", pool_size=4)
        keyspace = uuid.uuid4()
        opened = await storage.open(settings, keyspace, accept_empty=True)
        await opened.aclose()
        with Archive.open(write_archive(tmp_path / "before", before, keyspace)) as read:
            await restore(read, settings, expected=None, apply_destroyed=False)
        archive = write_archive(tmp_path / "archive", archived, keyspace)
        if turn == 0:
            span = undisturbed(archive, settings)
        else:
            killed += run_and_kill(archive, settings, chance.uniform(0, span))
        await check_meanwhile(settings, {row.uid for row in before if row.material is None})
        await finish(archive, settings, after)
    print(f"{killed} restores killed")
    assert killed


async def test_a_killed_backup_leaves_the_older_archive_or_a_whole_new_one(tmp_path: Path) -> None:
    settings = contract.SqliteStorage(path=tmp_path / "kmip.db")
    older, newer = [a_key(str(number)) for number in range(10)], [a_key(str(number)) for number in range(4000)]
    keyspace = uuid.uuid4()
    opened = await storage.open(settings, keyspace, accept_empty=True)
    await opened.aclose()
    with Archive.open(write_archive(tmp_path / "all", newer, keyspace)) as read:
        await restore(read, settings, expected=None, apply_destroyed=False)
    archive = tmp_path / "backup" / "archive"
    archive.parent.mkdir()
    chance = random.Random()
    outcomes: set[int] = set()
    unfinished = 0
    for turn in range(BACKUP_KILLS):
        write_archive(archive, older, keyspace)
        command = ["backup", "--data-dir", str(tmp_path), "--to", str(archive)]
        process = subprocess.Popen([sys.executable, "-m", "kmipd", *command], stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(archive.parent.glob(".archive.*.partial")):
            threading.Event().wait(0.002)
        if turn == 0:
            process.wait(60)
        else:
            threading.Event().wait(chance.uniform(0, 0.05) * (turn > 1))
        process.kill()
        process.wait()
        found = read_archive(archive)
        assert found in (older, newer)
        outcomes.add(len(found))
        for left in archive.parent.glob(".archive.*.partial"):
            unfinished += 1
            assert left.stat().st_mode & 0o777 == 0o600
            left.unlink()
    print(f"{unfinished} backups killed before their end, archives of {outcomes} objects left")
    assert outcomes == {10, 4000}
