"""``/status``: what the operator and a person want to know of this process, in the contract's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from kmip_contract.allowlist import Serving
from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import ClientSeen, KmipdConfig, KmipdStatus, StorageStatus
from kmip_contract.rootkey import ProviderFacts
from kmipd.admin.http import Response
from kmipd.storage.api import Storage, StorageUnavailable
from kmipd.wire.enums import State

STATELESS = "None"
"""What objects without a life cycle are counted under."""


@dataclass(frozen=True, slots=True)
class PortState:
    """The KMIP port's part."""

    serving: Serving
    allowlist_revision: int
    allowlist_error: str | None
    connections: int
    last_seen: Mapping[str, date]
    certificate_sha256: str
    certificate_not_after: datetime


@dataclass(frozen=True, slots=True)
class RootKeyStatus:
    """The root key's part."""

    key_id: str
    version: int
    state: RootKeyState
    message: str
    checked_at: datetime | None
    facts: ProviderFacts


def by_state(counts: Mapping[int, int]) -> dict[str, int]:
    """Counts under the names of their states."""
    named = {State(number).name if number else STATELESS: count for number, count in counts.items()}
    return dict(sorted(named.items()))


class StatusPage:
    """``/status``. What the database does not answer now is left at its last value, and its message says so."""

    def __init__(
        self,
        config: KmipdConfig,
        version: str,
        storage: Storage,
        port: Callable[[], PortState],
        root_key: Callable[[], RootKeyStatus],
    ) -> None:
        self._config = config
        self._version = version
        self._storage = storage
        self._port = port
        self._root_key = root_key
        self.objects: dict[str, int] = {}

    async def page(self) -> Response:
        """The answer."""
        storage = await self._storage_status()
        port, root_key = self._port(), self._root_key()
        status = KmipdStatus(
            program_version=self._version,
            instance=self._config.instance,
            region=self._config.region,
            config_id=self._config.config_id,
            keyspace=self._storage.keyspace,
            serving=port.serving,
            allowlist_revision=port.allowlist_revision,
            allowlist_error=port.allowlist_error,
            root_key_id=root_key.key_id,
            root_key_version=root_key.version,
            root_key_state=root_key.state,
            root_key_message=root_key.message,
            root_key_checked_at=root_key.checked_at,
            key_manager=root_key.facts,
            storage=storage,
            objects=self.objects,
            connections=port.connections,
            clients=tuple(ClientSeen(name=name, last_seen=day) for name, day in sorted(port.last_seen.items())),
            server_certificate_sha256=port.certificate_sha256,
            server_certificate_not_after=port.certificate_not_after,
        )
        return Response(200, "application/json", status.to_json())

    async def _storage_status(self) -> StorageStatus:
        try:
            self.objects = by_state(await self._storage.counts())
            durability = await self._storage.durability()
        except StorageUnavailable as error:
            return StorageStatus(type=self._storage.type, durable=False, message=str(error))
        return StorageStatus(type=self._storage.type, durable=durability.durable, message=durability.message)
