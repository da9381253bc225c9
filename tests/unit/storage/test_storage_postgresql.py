"""What is special to PostgreSQL: replicas that start together, lost connections, roles, secrets in messages."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.objects import an_object, named
from support.postgresql import Cluster, free_port

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import Durability, LocateQuery, StorageError, StorageUnavailable
from kmipd.storage.postgresql.database import PostgresqlStorage
from kmipd.storage.postgresql.durability import Observation, judge
from kmipd.storage.postgresql.uri import single_host_uris

pytestmark = pytest.mark.postgresql

END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'kmip' AND pid <> pg_backend_pid()"
)


async def test_replicas_that_start_together_agree_on_one_keyspace(
    postgresql_database: contract.PostgresqlStorage,
) -> None:
    stores = await asyncio.gather(*(storage.open(postgresql_database, None) for _ in range(6)))
    assert len({store.keyspace for store in stores}) == 1
    await stores[0].insert(an_object("u"), [named("n")])
    for store in stores:
        assert await store.get("u") is not None
        await store.aclose()


async def test_two_schemas_of_a_database_are_two_keyspaces(
    postgresql_database: contract.PostgresqlStorage, cluster: Cluster
) -> None:
    other = postgresql_database.model_copy(update={"database_schema": "user"})
    first, second = await storage.open(postgresql_database, None), await storage.open(other, None)
    assert first.keyspace != second.keyspace
    await first.insert(an_object("u"), [])
    assert await second.get("u") is None
    await first.aclose()
    await second.aclose()
    cluster.primary.sql('DROP SCHEMA "user" CASCADE', database="kmip")


async def test_lost_connections_are_replaced_without_a_failed_read(
    postgresql_database: contract.PostgresqlStorage, cluster: Cluster
) -> None:
    store = await storage.open(postgresql_database, None)
    await asyncio.gather(*(store.insert(an_object(f"u{number}"), []) for number in range(20)))
    for _ in range(5):
        cluster.primary.sql(END_SESSIONS)
        assert await store.get("u1") is not None
    await store.ping()
    await store.aclose()


async def test_a_request_that_is_no_task_yet_may_use_the_database(
    postgresql_database: contract.PostgresqlStorage,
) -> None:
    """The server runs a request's coroutine by hand until it first suspends, and as a task from then on."""
    store = await storage.open(postgresql_database, None)
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[object] = loop.create_future()

    async def request() -> None:
        await store.insert(an_object("u"), [])
        finished.set_result(await store.get("u"))

    def begin() -> None:
        assert asyncio.current_task() is None
        coroutine = request()
        waiting = coroutine.send(None)

        async def rest() -> None:
            waiting._asyncio_future_blocking = False
            await asyncio.wait([waiting])
            try:
                while True:
                    following = coroutine.send(None)
                    following._asyncio_future_blocking = False
                    await asyncio.wait([following])
            except StopIteration:
                pass

        tasks.append(loop.create_task(rest()))

    tasks: list[asyncio.Task[None]] = []
    loop.call_soon(begin)
    assert await finished is not None
    await asyncio.gather(*tasks)
    await store.aclose()


async def test_commits_are_synchronous_whatever_the_role_prefers(
    postgresql_database: contract.PostgresqlStorage, cluster: Cluster
) -> None:
    cluster.primary.sql("ALTER ROLE kmip SET synchronous_commit = off")
    try:
        store = await PostgresqlStorage.open(postgresql_database)
        assert [tuple(row) for row in await store._pool.read("SHOW synchronous_commit")] == [("on",)]
        await store.aclose()
    finally:
        cluster.primary.sql("ALTER ROLE kmip RESET synchronous_commit")


async def test_one_server_is_one_copy(postgresql_database: contract.PostgresqlStorage) -> None:
    store = await storage.open(postgresql_database, None)
    assert await store.durability() == Durability(
        False, "One copy, without a synchronous standby: keys are lost if the server's volume is lost."
    )
    await store.aclose()


async def test_a_newer_schema_is_used_as_far_as_it_allows(
    postgresql_database: contract.PostgresqlStorage, cluster: Cluster
) -> None:
    schema = postgresql_database.database_schema
    await (await storage.open(postgresql_database, None)).aclose()
    cluster.primary.sql(f"INSERT INTO {schema}.migrations VALUES (2, 1)", database="kmip")
    await (await storage.open(postgresql_database, None)).aclose()
    cluster.primary.sql(f"INSERT INTO {schema}.migrations VALUES (3, 3)", database="kmip")
    with pytest.raises(StorageError, match="needs a kmipd of schema 3 or newer"):
        await storage.open(postgresql_database, None)


async def test_a_refused_keyspace_leaves_no_trace(
    postgresql_database: contract.PostgresqlStorage, cluster: Cluster
) -> None:
    with pytest.raises(StorageError, match="empty"):
        await storage.open(postgresql_database, UUID(int=1))
    query = f"SELECT to_regnamespace('{postgresql_database.database_schema}') IS NULL"
    assert cluster.primary.sql(query, database="kmip") == "t"


async def test_a_role_that_may_not_create_schemas_needs_one_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    role, password = f"limited_{secrets.token_hex(4)}", secrets.token_hex(8)
    cluster.primary.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(cluster.primary.dsn(user=role, password=password))
    settings = contract.PostgresqlStorage(dsn_file=dsn_file, database_schema=role)
    with pytest.raises(StorageError, match=r"permission denied.*own the schema"):
        await storage.open(settings, None)
    cluster.primary.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}", database="kmip")
    store = await storage.open(settings, None)
    await store.insert(an_object("u"), [named("n")])
    assert (await store.locate(LocateQuery(entries=(named("n"),)), offset=0, limit=None)).uids == ["u"]
    await store.aclose()


async def test_a_changed_password_needs_no_restart(cluster: Cluster, tmp_path: Path) -> None:
    role, dsn_file = f"turning_{secrets.token_hex(4)}", tmp_path / "dsn"
    cluster.primary.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
    cluster.primary.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}", database="kmip")
    dsn_file.write_text(cluster.primary.dsn(user=role, password="first"))
    store = await storage.open(contract.PostgresqlStorage(dsn_file=dsn_file, database_schema=role), None)
    cluster.primary.sql(f"ALTER ROLE {role} PASSWORD 'second'")
    cluster.primary.sql(END_SESSIONS.replace("'kmip'", f"'{role}'"))
    with pytest.raises(StorageUnavailable, match="password authentication failed"):
        await store.get("u")
    dsn_file.write_text(cluster.primary.dsn(user=role, password="second"))
    await store.ping()
    await store.aclose()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://kmip:{secret}@127.0.0.1:{closed}/kmip",
        "postgresql://kmip:{secret}@127.0.0.1:{port}/kmip",
        "postgresql://kmip:{secret}@127.0.0.1:{port}/absent",
        "postgresql://kmip:{secret}@127.0.0.1:notaport/kmip",
        "postgresql://kmip:{secret}@127.0.0.1:{port}/kmip?sslmode={secret}",
        "postgresql://kmip:{secret}@[::1/kmip",
        "mysql://kmip:{secret}@127.0.0.1/kmip",
        "{secret}",
        "",
    ],
)
async def test_no_message_repeats_the_uri(
    dsn: str, cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "Tr0ub4dor-hunter2"
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(dsn.format(secret=secret, port=cluster.primary.port, closed=free_port()))
    with pytest.raises(StorageError) as refusal:
        await storage.open(contract.PostgresqlStorage(dsn_file=dsn_file), None)
    error: BaseException | None = refusal.value
    while error is not None:
        assert secret not in repr(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    assert str(dsn_file) in str(refusal.value)
    assert secret not in caplog.text


async def test_a_missing_uri_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"{tmp_path}/absent: No such file"):
        await storage.open(contract.PostgresqlStorage(dsn_file=tmp_path / "absent"), None)


host = st.sampled_from(["db1", "db1:5433", "[::1]", "[fe80::1]:6432", "10.0.0.1"])


@given(st.lists(host, min_size=1, max_size=4))
def test_a_uri_of_many_hosts_is_many_uris_of_one(hosts: list[str]) -> None:
    whole = f"postgresql://user:p%40,ss@{','.join(hosts)}/db?sslmode=require"
    assert single_host_uris(whole) == [f"postgresql://user:p%40,ss@{one}/db?sslmode=require" for one in hosts]


@pytest.mark.parametrize(
    ("seen", "durable", "says"),
    [
        (Observation("ANY 1 (a, b)", "on", fsync=True, synchronous=("a",), asynchronous=("c",)), True, "standby: a."),
        (Observation("*", "remote_apply", fsync=True, hidden=2), True, "may not see"),
        (Observation("*", "on", fsync=True), False, "none follows"),
        (Observation("*", "on", fsync=True, asynchronous=("c",)), False, "none follows"),
        (Observation("", "on", fsync=True, asynchronous=("c",)), False, "asynchronously"),
        (Observation("", "on", fsync=True), False, "One copy"),
        (Observation("*", "local", fsync=True, synchronous=("a",)), False, "pooler"),
        (Observation("*", "on", fsync=False, synchronous=("a",)), False, "fsync"),
    ],
)
def test_durability_is_judged_by_what_the_server_says(seen: Observation, durable: bool, says: str) -> None:
    judged = judge(seen)
    assert judged.durable is durable
    assert says in judged.message
