"""A disk that is full or does not flush: nothing is acknowledged that is not on it, and SQLite recovers when the disk does."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.objects import an_object, named

from kmipd.storage.api import Storage, StorageUnavailable
from kmipd.storage.sqlite.database import SqliteStorage

TESTS = Path(__file__).resolve().parents[2]

FLUSH_PROGRAM = """
import asyncio, sys
from pathlib import Path
from support.objects import an_object, named
from kmipd.storage.api import StorageUnavailable
from kmipd.storage.sqlite.database import SqliteStorage

async def run(path, flag):
    store = await SqliteStorage.open(path)
    acknowledged = []
    async def write(uid):
        try:
            await store.insert(an_object(uid), [named(uid)])
            acknowledged.append(uid)
        except StorageUnavailable as error:
            assert str(path) in str(error), error
            return False
        return True
    assert await write("before")
    flag.touch()
    assert not any(await asyncio.gather(*(write(f"during-{n}") for n in range(10))))
    assert not await write("during")
    try:
        await store.ping()
    except StorageUnavailable:
        pass
    else:
        raise AssertionError("a disk that does not flush is not ready")
    assert await store.get("before") is not None
    flag.unlink()
    while not await write("after"):
        await asyncio.sleep(0.05)
    await store.ping()
    await store.aclose()
    print(*acknowledged)

asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
"""


async def write_until_unavailable(store: Storage, acknowledged: list[str], name: str) -> StorageUnavailable:
    for number in range(10_000):
        uid = f"{name}-{number}"
        try:
            await store.insert(an_object(uid, material=os.urandom(5000)), [named(uid)])
        except StorageUnavailable as error:
            return error
        acknowledged.append(uid)
    raise AssertionError("the disk was meant to be full")


async def succeed(store: Storage, uid: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.insert(an_object(uid), [named(uid)])
            except StorageUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def check(path: Path, acknowledged: list[str]) -> None:
    store = await SqliteStorage.open(path)  # checks the file's integrity
    assert {stored.uid for stored in await store.get_many(acknowledged)} == set(acknowledged)
    await store.aclose()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes of any file fail (setrlimit(2); Python ignores the signal that comes with it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_volume(directory: Path) -> Iterator[None]:
    """A file system of 2 MiB. Needs root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


async def test_writes_that_the_disk_refuses_are_unavailable_and_later_ones_succeed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = await SqliteStorage.open(path)
    acknowledged: list[str] = []
    with largest_file(400_000):
        error = await write_until_unavailable(store, acknowledged, "first")
        assert str(path) in str(error)
        assert await store.get(acknowledged[0]) is not None
    await succeed(store, "second")
    await store.aclose()
    await check(path, [*acknowledged, "second"])


async def test_a_full_volume_is_unavailable_until_there_is_room(tmp_path: Path) -> None:
    with small_volume(tmp_path):
        path = tmp_path / "db"
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(1024 * 1024))
        store = await SqliteStorage.open(path)
        acknowledged: list[str] = []
        error = await write_until_unavailable(store, acknowledged, "first")
        assert "full" in str(error)
        assert (await store.durability()).message.startswith("One copy, in memory only (tmpfs)")
        results = await asyncio.gather(
            *(store.insert(an_object(f"x{number}", material=bytes(5000)), []) for number in range(20)),
            return_exceptions=True,
        )
        assert all(isinstance(result, StorageUnavailable) for result in results)
        ballast.unlink()
        await succeed(store, "second")
        await store.aclose()
        await check(path, [*acknowledged, "second"])


async def test_a_write_whose_flush_failed_is_never_acknowledged(tmp_path: Path) -> None:
    library = tmp_path / "failing_flush.so"
    source = Path(__file__).with_name("failing_flush.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    path = tmp_path / "db"
    flag = tmp_path / "flag"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FLUSH_PROGRAM, str(path), str(flag)],
        cwd=TESTS,
        env={**os.environ, "LD_PRELOAD": str(library), "FAIL_FLAG": str(flag)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["before", "after"]
    await check(path, ["before", "after"])
