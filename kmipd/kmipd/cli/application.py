"""kmipd put together: storage, keys, engine, ports; from start to drained end."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version as distribution_version

import structlog

from kmip_contract.kmipd import KmipdConfig
from kmipd import storage as storages
from kmipd.admin.health import Readiness, livez
from kmipd.admin.metrics import KmipdMetrics, MetricsPage, Readings
from kmipd.admin.ports import MutualTlsPort, PlainPort
from kmipd.admin.status import PortState, RootKeyStatus, StatusPage, by_state
from kmipd.keys.service import KeyService
from kmipd.operations.api import ServerInformation
from kmipd.operations.engine import Engine
from kmipd.server.access import AccessList
from kmipd.server.audit import AuditLog
from kmipd.server.counters import DURATION_BOUNDS, Counters
from kmipd.server.server import KmipServer
from kmipd.server.trust import Trust
from kmipd.storage.api import Storage, StorageUnavailable

_log = structlog.get_logger(__name__)

# Seconds between attempts to open a database that does not answer yet.
_STORAGE_RETRY = 1.0

# Seconds for which a scrape or probe may be answered with the last count of objects: counting reads the whole table.
_COUNT_AGE = 15.0

VERSION = distribution_version("kmip-operator")


class Application:
    """One kmipd. ``on_serving`` is called with the KMIP port's and the admin port's addresses once clients are served.

    ``read_only``: clients make and change nothing.
    """

    def __init__(
        self,
        config: KmipdConfig,
        on_serving: Callable[[tuple[str, int], tuple[str, int]], None] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self._config = config
        self._read_only = read_only
        self._on_serving = on_serving
        self._stop = asyncio.Event()
        self._readiness = Readiness(
            {"storage": self._check_storage, "allowlist": self._check_allowlist, "audit": self._check_audit}
        )
        self._storage: Storage
        self._keys: KeyService
        self._counters = Counters()
        self._audit: AuditLog
        self._trust: Trust
        self._server: KmipServer
        self._objects: dict[str, int] = {}
        self._counted_at = float("-inf")

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`, SIGTERM or SIGINT.

        Raises:
            StorageError: the database cannot be used.
            TlsError: the server's certificate cannot be used.
            OSError: a port or the audit file cannot be opened.
        """
        config = self._config
        _raise_descriptor_limit()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reopen_audit)
        async with AsyncExitStack() as cleanup:
            routes = {"/livez": livez, "/readyz": self._readiness.readyz, "/metrics": self._metrics_page().page}
            plain = PlainPort(routes)
            [admin_address, *_] = await plain.start(config.admin)
            cleanup.callback(plain.close)
            self._audit = AuditLog(config.instance, config.region, self._counters, config.audit_file)
            cleanup.callback(self._audit.close)
            storage = await self._open_storage()
            if storage is None:
                return
            self._storage = storage
            cleanup.push_async_callback(storage.aclose)
            self._keys = KeyService(config.custody_socket, timeout=config.custody_timeout, cache=config.cache)
            cleanup.push_async_callback(self._keys.aclose)
            self._trust = Trust(config.tls, config.allowlist_file, self._allowlist_changed)
            self._keys.set_serving(self._trust.access.serving)
            await self._keys.start()
            engine = Engine(
                storage,
                self._keys,
                audit=self._audit.record,
                limits=config.limits,
                server_information=ServerInformation(version=VERSION, instance=config.instance),
                read_only=self._read_only,
            )
            self._server = KmipServer(
                engine, self._trust, self._audit, self._counters, config.limits, eager=storage.type == "SQLite"
            )
            await self._start_status(cleanup)
            await self._server.start(config.listen)
            self._readiness.started = True
            [address, *_] = self._server.addresses
            _log.info(
                "serving", instance=config.instance, keyspace=str(storage.keyspace), listen=address, admin=admin_address
            )
            if self._on_serving is not None:
                self._on_serving(address, admin_address)
            await self._stop.wait()
            self._readiness.draining = True
            _log.info("draining", seconds=config.drain, connections=self._counters.connections)
            await self._server.drain(config.drain)
        _log.info("ended")

    async def _open_storage(self) -> Storage | None:
        """The database, waited for while it is out of reach; ``None`` when told to stop meanwhile."""
        complaint = ""
        while not self._stop.is_set():
            try:
                return await storages.open(self._config.storage, self._config.keyspace)
            except StorageUnavailable as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.error("waiting for the database", error=complaint)
                try:
                    async with asyncio.timeout(_STORAGE_RETRY):
                        await self._stop.wait()
                except TimeoutError:
                    continue
        return None

    async def _start_status(self, cleanup: AsyncExitStack) -> None:
        if self._config.status is None:
            return
        page = StatusPage(self._config, VERSION, self._storage, self._port_state, self._root_key_status)
        port = MutualTlsPort({"/status": page.page}, self._config.status)
        await port.start()
        cleanup.push_async_callback(port.aclose)

    def _allowlist_changed(self, access: AccessList) -> None:
        self._keys.set_serving(access.serving)
        self._server.allowlist_changed(access)

    def _reopen_audit(self) -> None:
        try:
            self._audit.reopen()
        except OSError as error:
            _log.critical("the audit file cannot be opened again; the old one stays in use", error=str(error))

    # ---- what the admin ports tell

    async def _check_storage(self) -> str:
        await self._storage.ping()
        return ""

    async def _check_allowlist(self) -> str:
        return "" if self._trust.access.revision >= 0 else self._trust.allowlist_error or "none was read"

    async def _check_audit(self) -> str:
        return "" if self._audit.available else "it cannot be written"

    def _port_state(self) -> PortState:
        identity = self._trust.identity
        return PortState(
            serving=self._trust.access.serving,
            allowlist_revision=self._trust.access.revision,
            allowlist_error=self._trust.allowlist_error,
            connections=self._counters.connections,
            last_seen=self._server.last_seen,
            certificate_sha256=identity.sha256,
            certificate_not_after=identity.not_after,
        )

    def _root_key_status(self) -> RootKeyStatus:
        description = self._keys.description
        return RootKeyStatus(
            key_id=description.root_key.key_id,
            version=description.current_version,
            state=self._keys.root_key_state,
            message=description.error.message if description.error else "",
            checked_at=self._keys.checked_at,
            facts=description.facts,
        )

    def _metrics_page(self) -> MetricsPage:
        return MetricsPage(KmipdMetrics(self._counters, DURATION_BOUNDS, VERSION), self._readings)

    async def _readings(self) -> Readings:
        if not self._readiness.started:
            return Readings()
        now = time.monotonic()
        if now - self._counted_at > _COUNT_AGE:
            try:
                self._objects = by_state(await self._storage.counts())
                self._counted_at = now
            except StorageUnavailable as error:
                _log.warning("objects cannot be counted", error=str(error))
        keys, trust = self._keys, self._trust
        return Readings(
            objects=self._objects,
            root_key_state=keys.root_key_state,
            root_key_version=keys.description.current_version,
            allowlist_revision=trust.access.revision,
            allowlist_applied=trust.allowlist_error is None,
            fenced=trust.access.fenced,
            cache_entries=keys.cached,
            cache_hits=keys.hits,
            cache_misses=keys.misses,
            server_certificate_expiry=trust.identity.not_after.timestamp(),
            client_certificate_expiry=trust.access.expiries(),
        )


def _raise_descriptor_limit() -> None:
    """Each connection needs a descriptor, and the usual soft limit is 1024. No core file may hold keys."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
