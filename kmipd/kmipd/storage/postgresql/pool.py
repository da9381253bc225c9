"""Connections to PostgreSQL: where they lead, how they are set up, how long they may take, and what their failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from kmip_contract.kmipd import PostgresqlStorage as Settings
from kmipd.storage.api import StorageError, StorageUnavailable
from kmipd.storage.postgresql.uri import read_uri, single_host_uris

CONNECT_SECONDS = 3.0
"""For one host to accept and authenticate; several hosts are tried in turn after a failover."""

COMMAND_SECONDS = 5.0
"""For one statement, its commit on the standby included: vCenter gives a server 10 s, and an answer must still fit."""

ACQUIRE_SECONDS = 8.0
"""For a free connection: a dead host and a living one, one after the other."""

RELEASE_SECONDS = 2.0
"""For the server to acknowledge the cancellation of a late statement; then the connection is dropped."""

_SERVER_SETTINGS = {
    "application_name": "kmipd",
    # Whatever the server's default: an acknowledged commit is on disk here and on the synchronous standby.
    "synchronous_commit": "on",
    # A little longer than the client waits, so that a statement that nobody waits for ends.
    "statement_timeout": "8s",
    # A row is locked for one commit; longer means a commit that waits for a standby.
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "30s",
}

_TRANSIENT_CLASSES = {"08", "25", "28", "40", "53", "55", "57", "58", "F0", "XX"}
"""SQLSTATE classes that are about the server's state, not about the statement or its values (PostgreSQL, appendix A)."""

_T = TypeVar("_T")


class ConnectionLost(StorageUnavailable):
    """The connection ended before the answer came; another one may work at once."""


class Pool:
    """At most ``pool_size`` connections to the server that accepts writes, made when needed, replaced when lost.

    The URI is read again for each connection, so that a changed password needs no restart. It appears in no message.
    """

    def __init__(self, settings: Settings) -> None:
        self.where = f"PostgreSQL of {settings.dsn_file}, schema {settings.database_schema}"
        self._settings = settings
        self._good_host = 0
        self._pool: asyncpg.Pool[asyncpg.Record] = asyncpg.create_pool(
            connect=self._connect,
            reset=_keep,
            min_size=0,
            max_size=settings.pool_size,
        )

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """A pool that has no connection yet."""
        pool = cls(settings)
        await pool._pool
        return pool

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection of the caller's own. Raises :class:`StorageError`."""
        try:
            return await self._connect()
        except Exception as error:
            raise meaning(error, self.where) from None

    async def read(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """The rows of a query; asked once more, on another connection, when the first was lost."""
        try:
            return await _in_task(self._fetch(statement, arguments))
        except ConnectionLost:
            return await _in_task(self._fetch(statement, arguments))

    async def write(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """The rows of a statement that was committed, on the standby too if one is configured; it is never tried twice.

        Raises:
            StorageUnavailable: it was not committed, or it is not known whether it was.
        """
        return await _in_task(self._fetch_committed(statement, arguments))

    async def aclose(self) -> None:
        """Wait for what is under way, and hang up."""
        try:
            async with asyncio.timeout(COMMAND_SECONDS + RELEASE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _fetch(self, statement: str, arguments: Sequence[object]) -> Sequence[asyncpg.Record]:
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                await self._pool.release(connection, timeout=RELEASE_SECONDS)
        except Exception as error:
            raise await self._failed(error) from None

    async def _fetch_committed(self, statement: str, arguments: Sequence[object]) -> Sequence[asyncpg.Record]:
        unreplicated: list[str] = []

        def heed(_: object, message: asyncpg.PostgresLogMessage) -> None:
            # A wait for the standby that someone cancels ends in success and this warning; its text may be translated.
            if getattr(message, "server_source_function", None) == "SyncRepWaitForLSN":
                unreplicated.append(str(message))

        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
            try:
                connection.add_log_listener(heed)
                rows = await connection.fetch(statement, *arguments)
            finally:
                if not connection.is_closed():
                    connection.remove_log_listener(heed)
                await self._pool.release(connection, timeout=RELEASE_SECONDS)
        except Exception as error:
            raise await self._failed(error) from None
        if unreplicated:
            raise StorageUnavailable(f"{self.where}: {unreplicated[0]}")
        return rows

    async def _connect(self, *_: object, **__: object) -> asyncpg.Connection[asyncpg.Record]:
        """A connection to the first host that accepts writes, beginning with the one that did so last."""
        uris = single_host_uris(read_uri(self._settings.dsn_file))
        settings = {**_SERVER_SETTINGS, "search_path": f'"{self._settings.database_schema}", pg_temp'}
        start = self._good_host
        for turn in range(len(uris)):
            host = (start + turn) % len(uris)
            try:
                connection = await asyncpg.connect(
                    uris[host],
                    timeout=CONNECT_SECONDS,
                    command_timeout=COMMAND_SECONDS,
                    target_session_attrs=SessionAttribute.read_write,
                    server_settings=settings,
                )
            except (OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched):
                if turn == len(uris) - 1:
                    raise
            except ValueError:
                raise StorageError(f"{self._settings.dsn_file}: it does not hold a usable PostgreSQL URI") from None
            else:
                self._good_host = host
                return connection
        raise AssertionError("a URI names at least one host")

    async def _failed(self, error: Exception) -> StorageError:
        if isinstance(error, TimeoutError | asyncpg.ReadOnlySQLTransactionError):
            # The server is gone without a word, or was demoted: the pool's other connections lead to it too.
            await self._pool.expire_connections()
        return meaning(error, self.where)


def meaning(error: Exception, where: str) -> StorageError:
    """What an error of the driver means, without the values that it may repeat (of the URI, or of an argument)."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{where}: it did not answer in time")
    if isinstance(error, OSError | asyncpg.PostgresConnectionError):
        return ConnectionLost(f"{where}: {error}")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StorageUnavailable(f"{where}: no server of the URI accepts writes now")
    if isinstance(error, asyncpg.PostgresError):
        transient = (error.sqlstate or "")[:2] in _TRANSIENT_CLASSES
        return (StorageUnavailable if transient else StorageError)(f"{where}: {error}")
    if isinstance(error, ValueError | OverflowError):
        return StorageError(f"{where}: the values do not fit the schema")
    return ConnectionLost(f"{where}: {type(error).__name__}")


async def _keep(_: object) -> None:
    """Nothing in a session is ever changed, so nothing needs to be reset: it would cost a round trip."""


async def _in_task(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run the driver in a task: its time limits need one, and a request is not one before it first suspends."""
    if asyncio.current_task() is None:
        return await asyncio.get_running_loop().create_task(coroutine)
    return await coroutine
