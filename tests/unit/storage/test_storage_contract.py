"""What the operations rely on, the same for every database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from support.objects import an_object, named

from kmipd.storage.api import IndexEntry, LocateQuery, ObjectExists, Storage, StorageError, StoredObject

OpenStorage = Callable[[UUID | None], AbstractAsyncContextManager[Storage]]


async def located(store: Storage, *entries: IndexEntry, **columns: int) -> list[str]:
    page = await store.locate(LocateQuery(entries=entries, **columns), offset=0, limit=None)
    assert page.total == len(page.uids)
    return page.uids


async def test_an_object_comes_back_as_it_was_stored(store: Storage) -> None:
    stored = an_object(
        "uid-1",
        object_type=7,
        state=0,
        algorithm=0x80000001,
        length=0,
        usage_mask=2**31,
        initial_date=-5,
        last_change_date=2**40,
        attributes=bytes(range(256)) * 10,
        material=None,
        root_key_id="r\u00fcck",
        root_key_version=3,
        generation=4,
        revision=5,
    )
    await store.insert(stored, [])
    assert await store.get("uid-1") == stored


@pytest.mark.parametrize("uid", ["missing", "", "nul\0byte", "\N{GRINNING FACE}", "x" * 5000])
async def test_an_unknown_object_is_none(store: Storage, uid: str) -> None:
    assert await store.get(uid) is None
    assert await store.get_many([uid]) == []


async def test_many_objects_come_in_the_order_asked(store: Storage) -> None:
    objects = [an_object(f"u{number}") for number in range(5)]
    for stored in objects:
        await store.insert(stored, [])
    asked = ["u3", "missing", "u0", "u3", "u4"]
    assert [found.uid for found in await store.get_many(asked)] == ["u3", "u0", "u3", "u4"]
    assert await store.get_many([]) == []
    assert len(await store.get_many([f"u{number}" for number in range(1200)])) == 5


async def test_an_identifier_is_stored_once(store: Storage) -> None:
    first = an_object("u")
    await store.insert(first, [named("first")])
    with pytest.raises(ObjectExists, match="u"):
        await store.insert(an_object("u", state=2), [named("second")])
    assert await store.get("u") == first
    assert await located(store, named("first")) == ["u"]
    assert await located(store, named("second")) == []


async def test_a_replacement_needs_the_revision_it_was_made_from(store: Storage) -> None:
    first = an_object("u")
    await store.insert(first, [])
    second = replace(first, state=2, attributes=b"new", material=None, last_change_date=9, generation=2, usage_mask=1)
    assert await store.replace(second, None) is True
    assert await store.get("u") == replace(second, revision=2)
    assert await store.replace(replace(second, state=3), None) is False
    assert await store.get("u") == replace(second, revision=2)
    assert await store.replace(an_object("missing"), []) is False
    assert await store.get("missing") is None


async def test_index_entries_are_replaced_or_left(store: Storage) -> None:
    stored = an_object("u")
    await store.insert(stored, [named("a"), named("b"), named("b")])
    assert await store.replace(stored, None)
    assert await located(store, named("a"), named("b")) == ["u"]
    assert await store.replace(replace(stored, revision=2), [named("b"), named("c")])
    assert await located(store, named("a")) == []
    assert await located(store, named("b"), named("c")) == ["u"]
    assert await store.replace(replace(stored, revision=3), [])
    assert await located(store, named("b")) == []
    assert await store.replace(replace(stored, revision=99), [named("z")]) is False
    assert await located(store, named("z")) == []


async def test_entries_differ_by_attribute_and_value(store: Storage) -> None:
    await store.insert(an_object("1"), [IndexEntry("x-a", b"bc")])
    await store.insert(an_object("2"), [IndexEntry("x-ab", b"c")])
    await store.insert(an_object("3"), [IndexEntry("x-a", b"b" * 100_000)])
    assert await located(store, IndexEntry("x-a", b"bc")) == ["1"]
    assert await located(store, IndexEntry("x-ab", b"c")) == ["2"]
    assert await located(store, IndexEntry("x-a", b"b" * 100_000)) == ["3"]


async def test_locate_is_a_conjunction(store: Storage) -> None:
    for number in range(12):
        stored = an_object(
            f"u{number:02}",
            object_type=2 + number % 2,
            state=1 + number % 3,
            algorithm=3 + number % 4,
            length=128 * (1 + number % 2),
            usage_mask=number,
            initial_date=100 + number,
        )
        await store.insert(stored, [named(f"n{number}"), IndexEntry("Object Group", b"g%d" % (number % 2))])
    group = IndexEntry("Object Group", b"g1")
    assert await located(store) == [f"u{number:02}" for number in reversed(range(12))]
    assert await located(store, named("n7")) == ["u07"]
    assert await located(store, group, named("n7")) == ["u07"]
    assert await located(store, named("n8"), group) == []
    assert await located(store, group, state=2) == ["u07", "u01"]
    assert await located(store, state=2) == ["u10", "u07", "u04", "u01"]
    assert await located(store, object_type=3, algorithm=4) == ["u09", "u05", "u01"]
    assert await located(store, length=256, state=1) == ["u09", "u03"]
    assert await located(store, usage_mask=5) == ["u07", "u05"]
    assert await located(store, usage_mask=0, state=3) == ["u11", "u08", "u05", "u02"]
    assert await located(store, initial_date_from=103, initial_date_to=105) == ["u05", "u04", "u03"]
    assert await located(store, group, initial_date_from=106) == ["u11", "u09", "u07"]
    assert await located(store, object_type=2, initial_date_to=103) == ["u02", "u00"]
    assert await located(store, state=9) == []


async def test_newest_first_and_of_one_second_the_last_stored_first(store: Storage) -> None:
    for uid, date in (("a", 5), ("b", 7), ("c", 5), ("d", 6)):
        await store.insert(an_object(uid, initial_date=date), [named("n")])
    assert await located(store) == ["b", "d", "c", "a"]
    assert await located(store, named("n")) == ["b", "d", "c", "a"]


async def test_pages_know_the_total(store: Storage) -> None:
    for number in range(10):
        await store.insert(an_object(f"u{number}", initial_date=number), [named("n")])
    for query in (LocateQuery(), LocateQuery(entries=(named("n"),)), LocateQuery(entries=(named("n"),), state=1)):
        pages = [await store.locate(query, offset=offset, limit=4) for offset in (0, 4, 8, 12)]
        assert [page.total for page in pages] == [10, 10, 10, 10]
        assert [uid for page in pages for uid in page.uids] == [f"u{number}" for number in reversed(range(10))]
        assert (await store.locate(query, offset=0, limit=0)) == ([], 10)
        assert (await store.locate(query, offset=3, limit=None)).total == 10
        assert (await store.locate(query, offset=30, limit=None)) == ([], 10)


async def test_objects_are_counted_by_state(store: Storage) -> None:
    assert await store.counts() == {}
    for state in (1, 2, 2, 4):
        await store.insert(an_object(state=state), [])
    assert await store.counts() == {1: 1, 2: 2, 4: 1}


async def test_values_that_do_not_fit_disturb_no_other_write(store: Storage) -> None:
    good = [an_object(f"good{number}") for number in range(20)]
    bad = an_object("bad", length=2**70)
    results = await asyncio.gather(
        *(store.insert(stored, [named("n")]) for stored in [*good[:10], bad, *good[10:]]), return_exceptions=True
    )
    assert [result for result in results if result is not None] == [results[10]]
    assert isinstance(results[10], StorageError)
    assert len(await located(store, named("n"))) == 20
    assert await store.get("bad") is None


async def test_no_update_is_lost_among_400_at_once(store: Storage) -> None:
    """Each of 400 clients adds one to a counter that 50 objects share out, and repeats until its update counts."""
    for number in range(50):
        await store.insert(an_object(f"u{number}", length=0), [])
    lost = 0

    async def add_one(uid: str) -> None:
        nonlocal lost
        while True:
            found = await store.get(uid)
            assert found is not None
            if await store.replace(replace(found, length=found.length + 1), [named(f"{found.length + 1}")]):
                return
            lost += 1

    async with asyncio.timeout(120):
        await asyncio.gather(*(add_one(f"u{number % 50}") for number in range(400)))
    objects = await store.get_many([f"u{number}" for number in range(50)])
    assert [found.length for found in objects] == [8] * 50
    assert [found.revision for found in objects] == [9] * 50
    assert lost > 0, "the updates were meant to meet"
    assert len(await located(store, named("8"))) == 50
    assert await located(store, named("7")) == []


async def test_one_of_many_equal_inserts_wins(store: Storage) -> None:
    results = await asyncio.gather(
        *(store.insert(an_object("u", length=number), [named(str(number))]) for number in range(40)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert all(result is None or isinstance(result, ObjectExists) for result in results)
    winner = await store.get("u")
    assert winner is not None
    assert results[winner.length] is None
    assert await located(store, named(str(winner.length))) == ["u"]


async def test_a_cancelled_writer_leaves_the_database_usable(store: Storage) -> None:
    tasks = [asyncio.create_task(store.insert(an_object(f"u{number}"), [])) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.ping()
    for number in range(1, 20, 2):
        assert await store.get(f"u{number}") is not None


async def test_content_and_keyspace_survive_reopening(open_storage: OpenStorage) -> None:
    stored = an_object("u")
    async with open_storage(None) as store:
        keyspace = store.keyspace
        assert keyspace.version == 4
        await store.insert(stored, [named("n")])
    for expected in (None, keyspace):
        async with open_storage(expected) as store:
            assert store.keyspace == keyspace
            assert await store.get("u") == stored
            assert await located(store, named("n")) == ["u"]


async def test_another_keyspace_is_refused(open_storage: OpenStorage) -> None:
    async with open_storage(None) as store:
        keyspace = store.keyspace
    other = uuid4()
    with pytest.raises(StorageError, match=f"{keyspace}.*{other}"):
        async with open_storage(other):
            pass
    async with open_storage(keyspace) as store:
        await store.ping()


async def test_an_empty_database_is_refused_where_keys_are_expected(open_storage: OpenStorage) -> None:
    expected = uuid4()
    with pytest.raises(StorageError, match=f"empty.*{expected}"):
        async with open_storage(expected):
            pass
    async with open_storage(None) as store:  # and was not made one of keys by the refusal
        assert store.keyspace != expected


async def test_reads_and_pings_work_while_hundreds_write(store: Storage) -> None:
    stored: list[StoredObject] = [an_object(f"u{number}") for number in range(300)]

    async def write_and_read(one: StoredObject) -> None:
        await store.insert(one, [named("n")])
        assert await store.get(one.uid) == one
        assert one.uid in (await store.locate(LocateQuery(entries=(named("n"),)), offset=0, limit=None)).uids

    await asyncio.gather(*(write_and_read(one) for one in stored), *(store.ping() for _ in range(5)))
    assert sum((await store.counts()).values()) == 300
