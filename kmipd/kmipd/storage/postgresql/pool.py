"""Connections to PostgreSQL: where they lead, how they are set up, how long they may take, and what their failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from kmip_contract.kmipd import PostgresqlStorage as Settings
from kmipd.storage.api import StorageError, StorageUnavailable
from kmipd.storage.postgresql.uri import read_uris, unusable

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
    # A wait for the standby that was cancelled is told as a warning, and only so.
    "client_min_messages": "warning",
    # A little longer than the client waits, so that a statement that nobody waits for ends.
    "statement_timeout": "8s",
    # A row is locked for one commit; longer means a commit that waits for a standby.
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "30s",
}

_TRANSIENT_CLASSES = {"08", "25", "28", "40", "53", "55", "57", "58", "F0", "XX"}
"""SQLSTATE classes that are about the server's state, not about the statement or its values (PostgreSQL, appendix A)."""

_T = TypeVar("_T")

_Work = Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[Sequence[asyncpg.Record]]]


class ConnectionLost(StorageUnavailable):
    """The connection ended before the answer came; another one may work at once."""


@dataclass(slots=True, eq=False)
class _Session:
    """A connection, the pool's generation when it was made, and what the server said of commits that no standby confirmed."""

    connection: asyncpg.Connection[asyncpg.Record]
    generation: int
    unreplicated: list[str] = field(default_factory=list)

    def heed(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        """A wait for the standby that someone cancels ends in success and a warning, whose text may be translated."""
        if getattr(message, "server_source_function", None) == "SyncRepWaitForLSN":
            self.unreplicated.append(str(message))


class Pool:
    """At most ``pool_size`` connections to the server that accepts writes, made when needed, replaced when lost.

    Nothing in a session is ever changed, so a connection is used again without a round trip to reset it. The URI is read
    again for each connection: a changed password needs no restart. It appears in no message.
    """

    def __init__(self, settings: Settings) -> None:
        self.where = f"PostgreSQL of {settings.dsn_file}, schema {settings.database_schema}"
        self._settings = settings
        self._good_host = 0
        self._generation = 0
        self._idle: list[_Session] = []
        self._free = asyncio.Semaphore(settings.pool_size)
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

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
        return await _in_task(self._fetch(statement, arguments))

    async def write_many(self, statement: str, arguments: Sequence[Sequence[object]]) -> Sequence[asyncpg.Record]:
        """The rows of one statement for each of ``arguments``, in one transaction; otherwise as :meth:`write`."""
        return await _in_task(self._use(lambda connection: connection.fetchmany(statement, arguments)))

    async def aclose(self) -> None:
        """Wait for what is under way, and hang up."""
        self._closed = True
        for _ in range(self._settings.pool_size):
            await self._free.acquire()  # each is given back within the time limits of its user
        for session in self._idle:
            self._hang_up(session)
        self._idle.clear()
        await asyncio.gather(*self._closing)

    async def _fetch(self, statement: str, arguments: Sequence[object]) -> Sequence[asyncpg.Record]:
        return await self._use(lambda connection: connection.fetch(statement, *arguments))

    async def _use(self, work: _Work) -> Sequence[asyncpg.Record]:
        """Rows, and the certainty that what was committed is so on the standby too."""
        if self._closed:
            raise StorageUnavailable(f"{self.where}: the database is closed")
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise StorageUnavailable(f"{self.where}: all {self._settings.pool_size} connections are busy") from None
        session: _Session | None = None
        healthy = False
        try:
            session = self._take_idle() or await self._new_session()
            rows = await work(session.connection)
            healthy = True
        except Exception as error:
            failure = meaning(error, self.where)
            healthy = not isinstance(failure, StorageUnavailable)
            if isinstance(failure, ConnectionLost) or isinstance(
                error, TimeoutError | asyncpg.ReadOnlySQLTransactionError
            ):
                # The server is gone, perhaps without a word, or was demoted: the other connections lead to it too.
                self._generation += 1
            raise failure from None
        finally:
            self._give_back(session, healthy)
        if session.unreplicated:
            said = session.unreplicated.pop()
            session.unreplicated.clear()
            raise StorageUnavailable(f"{self.where}: {said}")
        return rows

    def _take_idle(self) -> _Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.generation == self._generation and not session.connection.is_closed():
                return session
            self._hang_up(session)
        return None

    async def _new_session(self) -> _Session:
        async with asyncio.timeout(ACQUIRE_SECONDS):
            session = _Session(await self._connect(), self._generation)
        session.connection.add_log_listener(session.heed)
        return session

    def _give_back(self, session: _Session | None, healthy: bool) -> None:
        if session is not None and healthy:
            self._idle.append(session)
            self._free.release()
        elif session is not None:
            self._hang_up(session).add_done_callback(lambda _: self._free.release())
        else:
            self._free.release()

    def _hang_up(self, session: _Session) -> asyncio.Task[None]:
        """Close in the background; a statement that was cancelled or late is first cancelled at the server."""
        task = asyncio.get_running_loop().create_task(_close(session.connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection to the first host that accepts writes, beginning with the one that did so last."""
        uris = read_uris(self._settings.dsn_file)
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
                raise unusable(self._settings.dsn_file) from None
            else:
                self._good_host = host
                return connection
        raise AssertionError("a URI names at least one host")


def meaning(error: Exception, where: str) -> StorageError:
    """What an error of the driver means, without the values that it may repeat (of the URI, or of an argument)."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{where}: it did not answer in time")
    if isinstance(
        error, OSError | asyncpg.PostgresConnectionError | asyncpg.AdminShutdownError | asyncpg.CrashShutdownError
    ):
        return ConnectionLost(f"{where}: {error}")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StorageUnavailable(f"{where}: no server of the URI accepts writes now")
    if isinstance(error, asyncpg.PostgresError):
        transient = (error.sqlstate or "")[:2] in _TRANSIENT_CLASSES
        return (StorageUnavailable if transient else StorageError)(f"{where}: {error}")
    if isinstance(error, ValueError | OverflowError):
        return StorageError(f"{where}: the values do not fit the schema")
    return ConnectionLost(f"{where}: the connection was lost in the middle of an answer ({type(error).__name__})")


async def _close(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    try:
        await connection.close(timeout=RELEASE_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.terminate()


async def _in_task(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run the driver in a task: its time limits need one, and a request is not one before it first suspends."""
    if asyncio.current_task() is None:
        return await asyncio.get_running_loop().create_task(coroutine)
    return await coroutine
