"""A custody that speaks the real framing over a real UNIX socket, with a root key that a test can take away."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kmip_contract.custody import (
    FRAME,
    CustodyDescription,
    CustodyItem,
    CustodyOperation,
    CustodyOutcome,
    CustodyRequest,
    CustodyResponse,
    RootKeyState,
)
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure, RootKeyRef


class CustodyServer:
    """Wraps with AES-GCM. ``failure`` refuses every item and description; ``item_failures`` only those object ids.

    ``answer`` cleared holds every answer back. ``frames`` are the sizes (items) of the request frames, by operation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_id = "root-1"
        self.version = 1
        self.failure: CustodyFailure | None = None
        self.item_failures: dict[str, CustodyFailure] = {}
        self.answer = asyncio.Event()
        self.answer.set()
        self.frames: dict[CustodyOperation, list[int]] = {operation: [] for operation in CustodyOperation}
        self.calls: Counter[str] = Counter()
        self.connections = 0
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._nonce = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """Hang up on everyone and stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    def fail(self, kind: CustodyErrorKind) -> None:
        self.failure = CustodyFailure(kind=kind, message=f"made to fail: {kind.value}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    sizes = FRAME.unpack(await reader.readexactly(FRAME.size))
                    request = CustodyRequest.model_validate_json(await reader.readexactly(sizes[0]))
                    body = await reader.readexactly(sizes[1])
                    task = asyncio.get_running_loop().create_task(self._respond(request, body, writer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, request: CustodyRequest, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.frames[request.operation].append(len(request.items))
        await self.answer.wait()
        if request.operation is CustodyOperation.DESCRIBE:
            self._write(writer, CustodyResponse(id=request.id, description=self._describe()), b"")
            return
        outcomes: list[CustodyOutcome] = []
        parts: list[bytes] = []
        start = 0
        for item in request.items:
            outcome, data = self._work(request.operation, item, body[start : start + item.size])
            start += item.size
            outcomes.append(outcome)
            parts.append(data)
        self._write(writer, CustodyResponse(id=request.id, items=tuple(outcomes)), b"".join(parts))

    def _describe(self) -> CustodyDescription:
        state = RootKeyState.USABLE
        if self.failure is not None:
            state = RootKeyState.REVOKED if self.failure.kind.revoked else RootKeyState.UNREACHABLE
        return CustodyDescription(
            root_key=RootKeyRef(key_id=self.key_id), current_version=self.version, state=state, error=self.failure
        )

    def _work(self, operation: CustodyOperation, item: CustodyItem, data: bytes) -> tuple[CustodyOutcome, bytes]:
        self.calls[item.context.uid] += 1
        failure = self.failure or self.item_failures.get(item.context.uid)
        if failure is not None:
            return CustodyOutcome(error=failure), b""
        if operation is CustodyOperation.WRAP:
            self._nonce += 1
            nonce = self._nonce.to_bytes(12, "big")
            result = nonce + self._cipher.encrypt(nonce, data, item.context.aad())
        else:
            try:
                result = self._cipher.decrypt(data[:12], data[12:], item.context.aad())
            except InvalidTag:
                failure = CustodyFailure(kind=CustodyErrorKind.INTEGRITY, message="the record is not what was wrapped")
                return CustodyOutcome(error=failure), b""
        return CustodyOutcome(size=len(result), root_key_version=self.version), result

    def _write(self, writer: asyncio.StreamWriter, response: CustodyResponse, body: bytes) -> None:
        header = response.model_dump_json().encode()
        writer.write(FRAME.pack(len(header), len(body)) + header + body)
