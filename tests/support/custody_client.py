"""Speaks to a real custody over its socket as kmipd does, and starts one as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from kmip_contract.custody import (
    FRAME,
    CustodyConfig,
    CustodyDescription,
    CustodyItem,
    CustodyOperation,
    CustodyOutcome,
    CustodyRequest,
    CustodyResponse,
    RootKeyState,
    WrapContext,
)
from kmip_contract.rootkey import CustodyFailure, RootKeyRequest, RootKeyResult

KEYSPACE = UUID("0b5f5c0e-6a52-4f0c-9a57-2c7f1d2f8a11")
Answer = bytes | CustodyFailure
Serve = Callable[..., contextlib.AbstractAsyncContextManager["CustodyProcess"]]
"""A fixture's function: configuration and further arguments → a process for a block."""


def context(uid: str = "1", keyspace: UUID = KEYSPACE, generation: int = 1) -> WrapContext:
    """What a 256-bit AES key with the identifier ``uid`` is bound to."""
    return WrapContext(keyspace=keyspace, uid=uid, object_type=2, algorithm=3, length=256, generation=generation)


class CustodyClient:
    """One connection; requests may be made concurrently."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 0
        self._waiting: dict[int, asyncio.Future[tuple[CustodyResponse, bytes]]] = {}
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path) -> CustodyClient:
        return cls(*await asyncio.open_unix_connection(str(path)))

    async def wrap(self, items: Sequence[tuple[WrapContext, bytes]], deadline: float = 5.0) -> list[Answer]:
        return await self._keys(CustodyOperation.WRAP, items, deadline)

    async def unwrap(self, items: Sequence[tuple[WrapContext, bytes]], deadline: float = 5.0) -> list[Answer]:
        return await self._keys(CustodyOperation.UNWRAP, items, deadline)

    async def describe(self) -> CustodyDescription:
        response, _ = await self.request(CustodyOperation.DESCRIBE, (), b"")
        assert response.description is not None
        return response.description

    async def request(
        self, operation: CustodyOperation, items: Sequence[CustodyItem], body: bytes, deadline: float = 5.0
    ) -> tuple[CustodyResponse, bytes]:
        self._next += 1
        request = CustodyRequest(id=self._next, operation=operation, deadline=deadline, items=tuple(items))
        answer = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        header = request.model_dump_json().encode()
        self._writer.write(FRAME.pack(len(header), len(body)) + header + body)
        return await answer  # type: ignore[no-any-return]

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def closed(self) -> None:
        """Wait until custody has hung up; fail when it has not in 20 seconds."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                await asyncio.shield(self._task)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _keys(
        self, operation: CustodyOperation, items: Sequence[tuple[WrapContext, bytes]], deadline: float
    ) -> list[Answer]:
        heads = [CustodyItem(context=bound, size=len(data)) for bound, data in items]
        response, body = await self.request(operation, heads, b"".join(data for _, data in items), deadline)
        assert response.error is None, response.error
        return list(_split(response.items, body))

    async def _read(self) -> None:
        try:
            while True:
                head, size = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                response = CustodyResponse.model_validate_json(await self._reader.readexactly(head))
                body = await self._reader.readexactly(size)
                self._waiting.pop(response.id).set_result((response, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("custody hung up"))


async def until(check: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
    """Wait until ``check`` holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while not await check():
            await asyncio.sleep(0.02)


async def until_state(client: CustodyClient, state: RootKeyState, within: float = 20.0) -> CustodyDescription:
    """Wait until DESCRIBE answers ``state``."""
    last: list[CustodyDescription] = []

    async def check() -> bool:
        last[:] = [await client.describe()]
        return last[0].state is state

    await until(check, within)
    return last[0]


def _split(outcomes: Sequence[CustodyOutcome], body: bytes) -> Iterator[Answer]:
    at = 0
    for outcome in outcomes:
        yield outcome.error or body[at : at + outcome.size]
        at += outcome.size
    assert at == len(body)


def run_job(
    request: RootKeyRequest, environment: Mapping[str, str] | None = None, *arguments: str
) -> tuple[int, RootKeyResult, str]:
    """``kmip-custody job``: exit code, result and log."""
    done = subprocess.run(
        [sys.executable, "-m", "kmip_custody", "job", "--request-json", request.model_dump_json(), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, RootKeyResult.model_validate_json(done.stdout.splitlines()[-1]), done.stderr


class CustodyProcess:
    """``kmip-custody serve`` as a child, its log in ``log``."""

    def __init__(
        self, config: CustodyConfig, directory: Path, environment: Mapping[str, str] | None = None, *arguments: str
    ) -> None:
        self.config = config
        self.config_path = directory / "custody.json"
        self.log = directory / "custody.log"
        self._environment = {**os.environ, **(environment or {})}
        self._arguments = arguments
        self.config_path.write_bytes(config.to_json())
        self._clients: list[CustodyClient] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kmip_custody", "serve", "--config", str(self.config_path), *self._arguments],
                env=self._environment,
                stderr=log,
                stdout=log,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    async def exited(self, within: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, within)

    async def hang_up(self) -> None:
        """Close every connection made here."""
        for client in self._clients:
            await client.close()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log's events, or those called ``name``."""
        events = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in events if name is None or event["event"] == name]

    async def connect(self, within: float = 20.0) -> CustodyClient:
        """A connection, as soon as custody listens."""
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    self._clients.append(await CustodyClient.connect(self.config.socket))
                    return self._clients[-1]
                assert self.process is not None
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def event(self, name: str, within: float = 20.0, count: int = 1) -> dict[str, Any]:
        """The ``count``-th event called ``name``, as soon as it is logged."""
        async with asyncio.timeout(within):
            while len(found := self.events(name)) < count:
                await asyncio.sleep(0.02)
        return found[count - 1]

    async def health(self, path: str) -> tuple[int, str]:
        """GET ``path`` on the health port."""
        port = (await self.event("health.listening"))["port"]
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{port}{path}")


@contextlib.asynccontextmanager
async def serving(
    config: CustodyConfig, directory: Path, environment: Mapping[str, str] | None = None, *arguments: str
) -> AsyncIterator[CustodyProcess]:
    """A custody process for the block."""
    process = CustodyProcess(config, directory, environment, *arguments)
    process.start()
    try:
        yield process
    finally:
        if process.process is not None and process.process.poll() is None:
            process.kill()
        await process.hang_up()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
