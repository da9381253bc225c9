"""Any sequence of operations behaves as on a dictionary, also across reopening, on every database."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.objects import an_object
from support.postgresql import Cluster

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import IndexEntry, LocateQuery, ObjectExists, StoredObject

T = TypeVar("T")

ENTRIES = [IndexEntry("Name", b"a"), IndexEntry("Name", b"b"), IndexEntry("x-c", b"a"), IndexEntry("x-c", b"")]
entry_sets = st.lists(st.sampled_from(ENTRIES), max_size=4)
small = st.integers(0, 2)
objects = st.builds(
    an_object,
    st.sampled_from(["u0", "u1", "u2", "u3", "u4"]),
    object_type=small,
    state=small,
    algorithm=small,
    length=small,
    usage_mask=st.integers(0, 7),
    initial_date=st.integers(-1, 2),
    last_change_date=small,
    attributes=st.binary(max_size=4),
    material=st.none() | st.binary(max_size=4),
    generation=st.integers(1, 3),
)
queries = st.builds(
    LocateQuery,
    entries=st.lists(st.sampled_from(ENTRIES), max_size=3).map(tuple),
    object_type=st.none() | small,
    state=st.none() | small,
    algorithm=st.none() | small,
    length=st.none() | small,
    usage_mask=st.none() | st.integers(0, 7),
    initial_date_from=st.none() | st.integers(-1, 2),
    initial_date_to=st.none() | st.integers(-1, 2),
)


def matches(query: LocateQuery, stored: StoredObject, entries: frozenset[IndexEntry]) -> bool:
    columns = ("object_type", "state", "algorithm", "length")
    return (
        entries.issuperset(query.entries)
        and all(getattr(query, name) in {None, getattr(stored, name)} for name in columns)
        and (query.usage_mask is None or stored.usage_mask & query.usage_mask == query.usage_mask)
        and (query.initial_date_from is None or stored.initial_date >= query.initial_date_from)
        and (query.initial_date_to is None or stored.initial_date <= query.initial_date_to)
    )


class StorageModel(RuleBasedStateMachine):
    """A database beside a dictionary: identifier to object, entries, and place in the order of storing."""

    database: contract.Storage
    seen = Bundle("seen")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[str, tuple[StoredObject, frozenset[IndexEntry]]] = {}
        self.store = self.run(storage.open(self.fresh_database(), None))

    def fresh_database(self) -> contract.Storage:
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()

    @initialize(target=seen)
    def nothing_seen(self) -> StoredObject:
        return an_object("never stored")

    @rule(target=seen, stored=objects, entries=entry_sets)
    def insert(self, stored: StoredObject, entries: list[IndexEntry]) -> StoredObject:
        try:
            self.run(self.store.insert(stored, entries))
            assert stored.uid not in self.model
            self.model[stored.uid] = (stored, frozenset(entries))
        except ObjectExists:
            assert stored.uid in self.model
        return stored

    @rule(target=seen, old=seen, new=objects, entries=st.none() | entry_sets)
    def update(self, old: StoredObject, new: StoredObject, entries: list[IndexEntry] | None) -> StoredObject:
        """``old`` may be stale; the initial date never changes."""
        wanted = replace(new, uid=old.uid, revision=old.revision, initial_date=old.initial_date)
        held = self.model.get(old.uid)
        expected = held is not None and held[0].revision == old.revision
        if held is not None:
            wanted = replace(wanted, initial_date=held[0].initial_date)
        assert self.run(self.store.replace(wanted, entries)) is expected
        after = replace(wanted, revision=wanted.revision + 1)
        if held is not None and expected:
            self.model[old.uid] = (after, held[1] if entries is None else frozenset(entries))
        return after

    @rule(query=queries, offset=st.integers(0, 3), limit=st.none() | st.integers(0, 3))
    def locate(self, query: LocateQuery, offset: int, limit: int | None) -> None:
        page = self.run(self.store.locate(query, offset=offset, limit=limit))
        order = list(self.model)
        found = sorted(
            (uid for uid, (stored, entries) in self.model.items() if matches(query, stored, entries)),
            key=lambda uid: (self.model[uid][0].initial_date, order.index(uid)),
            reverse=True,
        )
        assert page.total == len(found)
        assert page.uids == found[offset : None if limit is None else offset + limit]

    @rule()
    def reopen(self) -> None:
        keyspace = self.store.keyspace
        self.run(self.store.aclose())
        self.store = self.run(storage.open(self.database, keyspace))

    @invariant()
    def every_object_is_as_last_written(self) -> None:
        found = self.run(self.store.get_many(sorted(self.model)))
        assert found == [self.model[uid][0] for uid in sorted(self.model)]
        states = [stored.state for stored, _ in self.model.values()]
        assert self.run(self.store.counts()) == {state: states.count(state) for state in set(states)}


@pytest.fixture
def run_settings() -> settings:
    return settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_sqlite_behaves_as_a_dictionary(tmp_path: Path, run_settings: settings) -> None:
    class SqliteModel(StorageModel):
        def fresh_database(self) -> contract.Storage:
            self.database = contract.SqliteStorage(path=Path(tempfile.mkdtemp(dir=tmp_path)) / "db")
            return self.database

    run_state_machine_as_test(SqliteModel, settings=run_settings)


@pytest.mark.postgresql
def test_postgresql_behaves_as_a_dictionary(cluster: Cluster, tmp_path: Path, run_settings: settings) -> None:
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(cluster.primary.dsn())
    numbers: Iterator[int] = iter(range(1_000_000))

    class PostgresqlModel(StorageModel):
        def fresh_database(self) -> contract.Storage:
            self.database = contract.PostgresqlStorage(dsn_file=dsn_file, database_schema=f"model_{next(numbers)}")
            return self.database

    run_state_machine_as_test(PostgresqlModel, settings=settings(run_settings, max_examples=10))
