"""A KMIP port in this process, before an engine that answers with the request's own bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import pki
from support.kmip_socket import ClientFiles, KmipSocket, context

from kmip_contract.allowlist import Allowlist, AllowlistEntry
from kmip_contract.kmipd import Limits, Listen, ServerTls, TlsProfile
from kmipd.operations.api import AuditEvent, Client, Reply
from kmipd.server.audit import AuditLog
from kmipd.server.counters import Counters
from kmipd.server.server import KmipServer
from kmipd.server.trust import Trust

REQUEST = b"\x42\x00\x78\x01\x00\x00\x00\x08" + b"12345678"


def request(body: bytes) -> bytes:
    """A frame with ``body`` (a multiple of eight bytes)."""
    return b"\x42\x00\x78\x01" + len(body).to_bytes(4, "big") + body


@dataclass
class Echo:
    """Answers each message with itself, after ``gate`` if there is one. What cannot be framed ends the connection."""

    audit: AuditLog | None = None
    gate: asyncio.Event | None = None
    seen: list[tuple[bytes, Client]] = field(default_factory=list)

    async def handle(self, message: bytes, client: Client) -> Reply:
        self.seen.append((message, client))
        if self.gate is not None and not self.gate.is_set():
            await self.gate.wait()
        if self.audit is not None:
            self.audit.record(AuditEvent("Get", ("id-1",), "Success", "", "", "1.1", client, 7))
        whole = message[:4] == b"\x42\x00\x78\x01" and int.from_bytes(message[4:8], "big") + 8 == len(message)
        return Reply(message if whole else b"\x42\x00\x7b\x01\x00\x00\x00\x00", not whole)


@dataclass
class Port:
    """The running port and what stands around it."""

    directory: Path
    server: KmipServer
    trust: Trust
    echo: Echo
    counters: Counters
    audit_file: Path
    address: tuple[str, int]
    revision: int = 1

    def allow(self, *entries: AllowlistEntry) -> None:
        """Put a new allowlist in place, as a file that is swapped in."""
        self.revision += 1
        write_allowlist(self.directory, self.revision, entries)

    async def connect(self, client: pki.Identity | None, **options: Any) -> KmipSocket:
        """Connect in a thread. Raises ``OSError``."""
        files = files_of(self.directory, client)
        return await asyncio.to_thread(KmipSocket, self.address, context(files, **options))

    async def ask(self, client: pki.Identity, message: bytes = REQUEST, **options: Any) -> bytes:
        """One connection, one message."""
        with await self.connect(client, **options) as connection:
            return await asyncio.to_thread(connection.ask, message)

    async def refuses(self, client: pki.Identity | None, **options: Any) -> bool:
        """Whether the client gets no answer."""
        try:
            with await self.connect(client, **options) as connection:
                await asyncio.to_thread(connection.ask, REQUEST)
        except OSError:
            return True
        return False

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for ``condition``."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


def files_of(directory: Path, client: pki.Identity | None) -> ClientFiles:
    return ClientFiles() if client is None else ClientFiles(*client.write(directory, client.sha256[:16]))


def write_allowlist(directory: Path, revision: int, entries: tuple[AllowlistEntry, ...]) -> None:
    fresh = directory / "allowlist.new"
    fresh.write_bytes(Allowlist(revision=revision, entries=entries).to_json())
    fresh.replace(directory / "allowlist.json")


@asynccontextmanager
async def open_port(
    directory: Path,
    *entries: AllowlistEntry,
    limits: Limits | None = None,
    profile: TlsProfile = TlsProfile.MODERN,
    rsa_bits: int | None = None,
) -> AsyncIterator[Port]:
    """Serve ``entries`` on a free loopback port."""
    certificate, key = pki.server(pki.authority(), rsa_bits=rsa_bits).write(directory, "server")
    write_allowlist(directory, 1, entries)
    counters = Counters()
    audit_file = directory / "audit.log"
    audit = AuditLog("test", "tok", counters, audit_file)
    servers: list[KmipServer] = []
    trust = Trust(
        ServerTls(certificate_file=certificate, key_file=key, profile=profile),
        directory / "allowlist.json",
        lambda access: servers[0].allowlist_changed(access),
    )
    echo = Echo(audit)
    server = KmipServer(echo, trust, audit, counters, limits or Limits(), eager=True)
    servers.append(server)
    await server.start(Listen(host="127.0.0.1", port=0))
    try:
        yield Port(directory, server, trust, echo, counters, audit_file, server.addresses[0])
    finally:
        await server.drain(0)
        audit.close()
