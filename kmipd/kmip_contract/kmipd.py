"""kmipd's configuration file and its answer to ``GET /status``."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from kmip_contract.allowlist import Serving
from kmip_contract.custody import RootKeyState
from kmip_contract.model import Model
from kmip_contract.rootkey import ProviderFacts

KMIP_PORT = 5696
"""The port IANA assigned to KMIP."""


class TlsProfile(StrEnum):
    """Which suites the KMIP port offers. ``VSphere7`` adds AES128-SHA256 and AES256-SHA256 (RSA key exchange)."""

    MODERN = "Modern"
    VSPHERE7 = "VSphere7"


class ServerTls(Model):
    """A PEM chain and its key; both files may be replaced at any time and are then served to new connections."""

    certificate_file: Path
    key_file: Path
    profile: TlsProfile = TlsProfile.MODERN


class Listen(Model):
    """Where to listen. An empty host means every address, IPv4 and IPv6."""

    host: str = ""
    port: int = Field(ge=0, le=65535)


class StatusEndpoint(Model):
    """The mutual-TLS port of /status: only certificates issued by ``client_ca_file`` are answered."""

    listen: Listen
    certificate_file: Path
    key_file: Path
    client_ca_file: Path


class SqliteStorage(Model):
    """One database file on a volume that one process may hold."""

    type: Literal["SQLite"] = "SQLite"
    path: Path


class PostgresqlStorage(Model):
    """A PostgreSQL database; ``dsn_file`` holds its connection URI (RFC 3986, libpq's ``postgresql://``)."""

    type: Literal["PostgreSQL"] = "PostgreSQL"
    dsn_file: Path
    database_schema: str = Field(default="kmip", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    pool_size: int = Field(default=8, ge=1, le=64)


Storage = Annotated[SqliteStorage | PostgresqlStorage, Field(discriminator="type")]


class KeyCache(Model):
    """Plaintext keys in memory: at most ``max_age`` seconds (absolute; 0 = never) and ``max_entries`` keys.

    The age bounds how long a key is served after its root key was revoked without kmipd hearing of it.
    """

    max_age: float = Field(default=60.0, ge=0, le=60)
    max_entries: int = Field(default=10_000, ge=0)


class Limits(Model):
    """Bounds on clients, each generous to every client measured and far below what would hurt the process.

    Seconds and bytes. Clients keep idle connections for minutes (health checks every 300 s open new ones), so ``idle`` is long;
    a handshake needs milliseconds; the largest documented client message is below 300 kB.
    """

    connections: int = Field(default=2000, ge=1)
    connections_per_address: int = Field(default=1000, ge=1)
    handshake: float = Field(default=10.0, gt=0)
    idle: float = Field(default=600.0, gt=0)
    frame: float = Field(default=30.0, gt=0)
    message_bytes: int = Field(default=1024 * 1024, ge=1024)
    batch_items: int = Field(default=256, ge=1)


class KmipdConfig(Model):
    """The configuration file of ``kmipd serve``.

    ``keyspace``: when given, a database of another keyspace is refused; when absent, an empty database gets a new one.
    ``config_id``: an opaque mark of this content that /status repeats, so that the operator sees what a pod runs with.
    ``audit_file``: where the audit lines go; standard output when absent.
    """

    version: Literal[1] = 1
    instance: str
    region: str = ""
    config_id: str = ""
    keyspace: UUID | None = None
    listen: Listen = Listen(port=KMIP_PORT)
    admin: Listen = Listen(port=8080)
    status: StatusEndpoint | None = None
    tls: ServerTls
    allowlist_file: Path
    storage: Storage
    custody_socket: Path
    custody_timeout: float = Field(default=5.0, gt=0)
    cache: KeyCache = KeyCache()
    limits: Limits = Limits()
    drain: float = Field(default=20.0, ge=0)
    audit_file: Path | None = None


class ClientSeen(Model):
    """A ClientCertificate that made a request to this process, and the last day (UTC) it did."""

    name: str
    last_seen: date


class StorageStatus(Model):
    """``durable``: an acknowledged write survives the loss of one machine (or volume, for one copy: always false)."""

    type: str
    durable: bool
    message: str


class KmipdStatus(Model):
    """The answer to ``GET /status``."""

    version: Literal[1] = 1
    program_version: str
    instance: str
    region: str
    config_id: str
    keyspace: UUID
    serving: Serving
    allowlist_revision: int
    allowlist_error: str | None = None
    root_key_id: str = ""
    root_key_version: int = 0
    root_key_state: RootKeyState
    root_key_message: str = ""
    root_key_checked_at: datetime | None = None
    key_manager: ProviderFacts = ProviderFacts()
    storage: StorageStatus
    objects: dict[str, int] = {}
    connections: int = 0
    clients: tuple[ClientSeen, ...] = ()
    server_certificate_sha256: str = ""
    server_certificate_not_after: datetime | None = None
