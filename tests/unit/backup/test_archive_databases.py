"""Backup of databases in use, and restore into either kind."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.archives import a_key, a_tombstone, content, fill, read_archive, write_archive

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.backup.archive import Archive, ArchiveError
from kmipd.backup.merge import Decision
from kmipd.backup.restore import Summary, plan, restore
from kmipd.backup.take import back_up
from kmipd.objects.index import index_entry, index_of
from kmipd.objects.managed import ManagedObject, encode_attributes, from_stored
from kmipd.objects.values import Instance
from kmipd.storage.api import LocateQuery, StorageError, StoredObject
from kmipd.wire import tags
from kmipd.wire.ttlv import ItemType

NewDatabase = Callable[[], contract.Storage]

_positive = st.integers(0, 2**31 - 1)
_large = st.integers(0, 2**62)


def _named(row: StoredObject, name: str) -> StoredObject:
    value = [
        (tags.NAME_VALUE << 8 | ItemType.TEXT_STRING, name),
        (tags.NAME_TYPE << 8 | ItemType.ENUMERATION, 1),
    ]
    managed = from_stored(row)
    managed.attributes["Name"] = [Instance(0, ItemType.STRUCTURE, value)]
    return dataclasses.replace(row, attributes=encode_attributes(managed))


def _located_by(name: str) -> LocateQuery:
    managed: ManagedObject = from_stored(_named(a_key(), name))
    entry = index_entry("Name", ItemType.STRUCTURE, managed.attributes["Name"][0].value)
    assert entry is not None
    return LocateQuery(entries=(entry,))


@st.composite
def _rows(draw: st.DrawFn) -> list[StoredObject]:
    rows = []
    for number in range(draw(st.integers(0, 12))):
        row = a_key(
            str(uuid.UUID(int=draw(st.integers(0, 2**100)) * 16 + number)),
            object_type=draw(st.sampled_from([1, 2, 3, 4, 7, 8])),
            length=draw(_positive),
            usage_mask=draw(st.integers(-(2**31), 2**31 - 1)),
            initial_date=draw(_large),
            last_change_date=draw(_large),
            root_key_id=draw(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)),
            root_key_version=draw(_positive),
            generation=draw(_positive),
            revision=draw(_positive),
            material=draw(st.binary(max_size=100)),
        )
        if draw(st.booleans()):
            row = _named(row, f"name {number}")
        if draw(st.booleans()):
            row = dataclasses.replace(row, state=5, material=None)
        rows.append(row)
    return rows


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows())
def test_rows_survive_the_way_through_an_archive(
    new_database: NewDatabase, other_database: NewDatabase, rows: list[StoredObject]
) -> None:
    async def there_and_back(directory: Path) -> None:
        first, second = new_database(), other_database()
        keyspace = await fill(first, rows)
        taken = await back_up(first, directory / "archive", program_version="1")
        assert taken.header.keyspace == keyspace
        assert taken.header.objects == len(rows)
        assert taken.trailer.destroyed == sum(row.material is None for row in rows)
        with Archive.open(taken.path) as archive:
            done = await restore(archive, second, expected=None, apply_destroyed=False)
            assert done == ({Decision.ADD: len(rows)} if rows else {})
        assert await content(second) == await content(first) == rows
        opened = await storage.open(second, keyspace)
        try:
            for row in rows:
                if "Name" in from_stored(row).attributes and row.material is not None:
                    name = f"name {rows.index(row)}"
                    assert (await opened.locate(_located_by(name), offset=0, limit=2)).uids == [row.uid]
        finally:
            await opened.aclose()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(there_and_back(Path(directory)))


async def test_a_backup_under_writes_is_of_one_instant(new_database: NewDatabase, tmp_path: Path) -> None:
    """Two counters are raised in turn; no archive has them further apart than one step, and none lacks an older object."""
    settings_ = new_database()
    await fill(settings_, [a_key(f"old {number}") for number in range(1500)])
    opened = await storage.open(settings_, None)
    acknowledged: list[str] = []
    stop = False

    async def count() -> None:
        rows = [a_key("left"), a_key("right")]
        for row in rows:
            await opened.insert(row, [])
        number = 0
        while not stop:
            for place in (0, 1):
                assert await opened.replace(rows[place], None)
                rows[place] = dataclasses.replace(rows[place], revision=rows[place].revision + 1)
            await opened.insert(a_key(f"new {number}"), [])
            acknowledged.append(f"new {number}")
            number += 1

    writing = asyncio.create_task(count())
    try:
        for turn in range(5):
            while len(acknowledged) < 5 * (turn + 1):
                await asyncio.sleep(0.005)
                assert not writing.done()
            before = list(acknowledged)
            taken = await back_up(settings_, tmp_path / "archive", program_version="1")
            rows = {row.uid: row for row in read_archive(taken.path)}
            assert len(rows) == taken.header.objects
            assert set(before) < rows.keys()
            assert {f"old {number}" for number in range(1500)} < rows.keys()
            assert 0 <= rows["left"].revision - rows["right"].revision <= 1
            steps = sum(uid.startswith("new") for uid in rows)
            assert steps <= rows["right"].revision - 1 <= steps + 1
    finally:
        stop = True
        await writing
        await opened.aclose()


NEWER = {"revision": 3, "last_change_date": 1_700_000_100, "usage_mask": 4}
LIVE, CHANGED, GONE = a_key("x"), a_key("x", **NEWER), a_tombstone("x", revision=5, last_change_date=1_700_000_200)
OLD_GONE = a_tombstone("x")

CASES: dict[str, tuple[StoredObject | None, StoredObject, bool, Decision, StoredObject]] = {
    "missing is added": (None, LIVE, False, Decision.ADD, LIVE),
    "missing and destroyed is added as destroyed": (None, GONE, False, Decision.ADD, GONE),
    "same": (LIVE, LIVE, False, Decision.SAME, LIVE),
    "older is replaced": (LIVE, CHANGED, False, Decision.REPLACE, CHANGED),
    "newer is kept": (CHANGED, LIVE, False, Decision.KEEP, CHANGED),
    "more often but earlier changed is kept": (
        CHANGED, a_key("x", revision=9), False, Decision.KEEP, CHANGED,
    ),
    "destroyed never returns": (GONE, CHANGED, False, Decision.KEEP_DESTROYED, GONE),
    "destroyed never returns whatever the revisions": (
        OLD_GONE, a_key("x", revision=99, last_change_date=1_800_000_000), True, Decision.KEEP_DESTROYED, OLD_GONE,
    ),
    "destroyed in both": (GONE, OLD_GONE, True, Decision.KEEP_DESTROYED, GONE),
    "destroyed in the archive only": (LIVE, GONE, False, Decision.DESTROYED_IN_ARCHIVE, LIVE),
    "destroyed in the archive, applied": (LIVE, GONE, True, Decision.DESTROY, GONE),
    "destroyed in the archive, applied to a newer one": (CHANGED, OLD_GONE, True, Decision.DESTROY, OLD_GONE),
    "another object": (LIVE, a_key("x", object_type=7, revision=9), False, Decision.FOREIGN, LIVE),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_restore_merges(new_database: NewDatabase, tmp_path: Path, case: str) -> None:
    held, archived, apply_destroyed, decision, after = CASES[case]
    settings_ = new_database()
    bystander = a_key("bystander")
    keyspace = await fill(settings_, [bystander] if held is None else [bystander, held])
    path = write_archive(tmp_path / "archive", [archived], keyspace)
    with Archive.open(path) as archive:
        planned = await plan(archive, settings_, expected=keyspace, apply_destroyed=apply_destroyed)
        assert planned == Summary({decision: 1})
        assert await content(settings_) == ([bystander] if held is None else [bystander, held])
        for turn in range(2):
            done = await restore(archive, settings_, expected=None, apply_destroyed=apply_destroyed)
            assert turn or done == planned
            assert await content(settings_) == [bystander, after]


async def test_another_keyspace_is_refused(new_database: NewDatabase, tmp_path: Path) -> None:
    settings_ = new_database()
    await fill(settings_, [a_key("here")])
    with Archive.open(write_archive(tmp_path / "archive", [a_key("there")])) as archive:
        for act in (plan, restore):
            with pytest.raises(StorageError, match="keyspace"):
                await act(archive, settings_, expected=None, apply_destroyed=False)
            with pytest.raises(StorageError, match="configuration"):
                await act(archive, new_database(), expected=uuid.uuid4(), apply_destroyed=False)
    assert [row.uid for row in await content(settings_)] == ["here"]


async def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kmip.db"
    with Archive.open(write_archive(tmp_path / "archive", [a_key()])) as archive:
        planned = await plan(archive, contract.SqliteStorage(path=path), expected=None, apply_destroyed=False)
    assert planned == Summary({Decision.ADD: 1})
    assert not path.parent.exists()


async def test_a_destroyed_object_is_not_found_by_what_it_was(new_database: NewDatabase, tmp_path: Path) -> None:
    settings_ = new_database()
    row = _named(a_key("x"), "disk")
    keyspace = await fill(settings_, [row])
    gone = dataclasses.replace(row, state=5, material=None, revision=2)
    with Archive.open(write_archive(tmp_path / "archive", [gone], keyspace)) as archive:
        await restore(archive, settings_, expected=None, apply_destroyed=True)
    opened = await storage.open(settings_, keyspace)
    assert index_of(from_stored(gone), 0) != index_of(from_stored(row), 0)
    assert (await opened.locate(_located_by("disk"), offset=0, limit=2)).total == 0
    assert await opened.get("x") == gone
    await opened.aclose()


async def test_only_an_older_archive_is_replaced(tmp_path: Path) -> None:
    settings_ = contract.SqliteStorage(path=tmp_path / "kmip.db")
    await fill(settings_, [a_key("x")])
    with pytest.raises(ArchiveError, match="no archive"):
        await back_up(settings_, settings_.path, program_version="1")
    assert [row.uid for row in await content(settings_)] == ["x"]
    for _ in range(2):
        await back_up(settings_, tmp_path / "archive", program_version="1")
    assert (await back_up(settings_, tmp_path, program_version="1")).path.suffix == ".kmiparchive"
    assert not list(tmp_path.glob(".*"))


async def test_an_empty_place_is_no_database(new_database: NewDatabase, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no database yet"):
        await back_up(new_database(), tmp_path / "archive", program_version="1")
    assert not (tmp_path / "archive").exists()
