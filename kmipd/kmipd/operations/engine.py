"""The engine: one request message in, one response message out."""

from __future__ import annotations

import time
from collections.abc import Callable

from kmip_contract.kmipd import Limits
from kmipd.keys.api import Keys
from kmipd.operations.api import AuditEvent, Client, Reply, ServerInformation
from kmipd.storage.api import Storage


class Engine:
    """Runs the operations of one keyspace."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        *,
        audit: Callable[[AuditEvent], None],
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        server_information: ServerInformation | None = None,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._audit = audit
        self._clock = clock
        self._limits = limits or Limits()
        self._information = server_information or ServerInformation()

    async def handle(self, message: bytes, client: Client) -> Reply:
        """Answer one whole request message (header included). Never raises; suspends only where storage or keys do."""
        raise NotImplementedError
