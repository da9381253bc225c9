"""An engine over a real SQLite file and AES-GCM, and a client that speaks to it in bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support import kmip_wire as f

from kmip_contract.custody import WrapContext
from kmip_contract.kmipd import Limits
from kmip_contract.permissions import OPERATIONS
from kmip_contract.rootkey import CustodyErrorKind
from kmipd.keys.api import KeyUnavailable, WrappedKey
from kmipd.operations.api import AuditEvent, Client
from kmipd.operations.engine import Engine
from kmipd.storage.sqlite.database import SqliteStorage

ADMIN = Client("admin", "ab" * 32, "127.0.0.1:40000", OPERATIONS)


class GcmKeys:
    """Keys wrapped by AES-256-GCM in this process; ``away`` makes it refuse."""

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(32))
        self.away: CustodyErrorKind | None = None
        self.unwrapped = 0

    def _check(self) -> None:
        if self.away is not None:
            raise KeyUnavailable(self.away, "told to refuse")

    async def wrap(self, context: WrapContext, plaintext: bytes | bytearray) -> WrappedKey:
        self._check()
        nonce = os.urandom(12)
        return WrappedKey(nonce + self._cipher.encrypt(nonce, bytes(plaintext), context.aad()), "root", 1)

    async def unwrap(self, context: WrapContext, record: bytes) -> bytes:
        self._check()
        self.unwrapped += 1
        return self._cipher.decrypt(record[:12], record[12:], context.aad())


@dataclass
class Kmip:
    """An engine under test: its parts, what it audited, and a clock that the test moves."""

    storage: SqliteStorage
    keys: GcmKeys
    engine: Engine
    audit: list[AuditEvent]
    time: list[float]
    client: Client = ADMIN
    closed: list[bool] = field(default_factory=list)

    @property
    def now(self) -> int:
        return int(self.time[0])

    def pass_time(self, seconds: float) -> None:
        self.time[0] += seconds

    async def send(self, data: bytes, client: Client | None = None) -> f.Response:
        reply = await self.engine.handle(data, client or self.client)
        self.closed.append(reply.close)
        return f.response(reply.data)

    async def call(
        self, operation: int, payload: bytes, *, at: tuple[int, int] = (1, 4), client: Client | None = None
    ) -> f.Item:
        """One operation in a message of its own."""
        answer = await self.send(f.message(f.batch_item(operation, payload), at=at), client)
        assert answer.version == at
        return answer.items[0]

    async def ok(self, operation: int, payload: bytes, *, at: tuple[int, int] = (1, 4)) -> f.Node:
        """The payload of an operation that must succeed."""
        item = await self.call(operation, payload, at=at)
        assert item.status == 0, item
        assert item.payload is not None
        return item.payload

    async def create(self, *more: bytes, bits: int = 256) -> str:
        """A new AES key's identifier."""
        payload = await self.ok(1, f.create_payload(bits, *more))
        return str(payload.one(0x420094).value)

    async def attributes(self, uid: str, *names: str, at: tuple[int, int] = (1, 4)) -> dict[str, list[f.Node]]:
        """GetAttributes' answer: values by name."""
        payload = await self.ok(11, f.uid(uid) + b"".join(f.text(0x42000A, name) for name in names), at=at)
        found: dict[str, list[f.Node]] = {}
        for node in payload.all(0x420008):
            found.setdefault(node.one(0x42000A).value, []).append(node.one(0x42000B))
        return found

    async def state(self, uid: str) -> int:
        return int((await self.attributes(uid, "State"))["State"][0].value)

    async def locate(self, *conditions: bytes, at: tuple[int, int] = (1, 4)) -> list[str]:
        payload = await self.ok(8, b"".join(conditions), at=at)
        return [node.value for node in payload.all(0x420094)]


async def open_kmip(
    path: Path, *, limits: Limits | None = None, audit: Callable[[AuditEvent], None] | None = None
) -> Kmip:
    """A new engine over the database at ``path``."""
    storage = await SqliteStorage.open(path)
    keys = GcmKeys()
    events: list[AuditEvent] = []
    time = [1_700_000_000.5]
    engine = Engine(storage, keys, audit=audit or events.append, clock=lambda: time[0], limits=limits)
    return Kmip(storage, keys, engine, events, time)
