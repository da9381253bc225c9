"""The process: candidate, leader, end. Exit code 0 after a signal, 1 when it must be started again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
import uuid

from kmip_operator.health import Health
from kmip_operator.kube.client import Client
from kmip_operator.kube.lease import LeadershipLostError, Lease
from kmip_operator.kube.transport import Transport, load_configuration
from kmip_operator.leading import Leader
from kmip_operator.metrics import Metrics
from kmip_operator.serving import HttpServer
from kmip_operator.settings import Settings

_log = logging.getLogger(__name__)

LOST = 1
"""Exit code when the Lease was lost or a watch died: the kubelet starts the process again, as a candidate."""


def run(settings: Settings, version: str) -> int:
    """Run until a signal or a failure; the exit code."""
    return asyncio.run(_Process(settings, version).run())


class _Process:
    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._metrics = Metrics(version)
        self._health = Health(self._metrics, time.monotonic)
        self._stop = asyncio.Event()
        self._version = version
        self._leader: Leader | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._listen_to_signals()
        lag = loop.create_task(self._health.measure_lag(), name="event loop lag")
        server = HttpServer(self._health, self._metrics, self._refresh_metrics)
        port = await server.start(self._settings.http_host, self._settings.http_port)
        configuration = await load_configuration(self._settings.kubeconfig)
        transport = Transport(configuration, user_agent=f"kmip-operator/{self._version}")
        # A restarted container has the same pod name: the suffix keeps it from taking its predecessor's Lease for its own.
        identity = f"{self._settings.identity}_{uuid.uuid4().hex[:8]}"
        lease = Lease(
            Client(transport),
            self._settings.namespace,
            self._settings.lease_name,
            identity,
            monotonic=time.monotonic,
        )
        _log.info("started", extra={"version": self._version, "identity": identity, "http_port": port})
        try:
            if not await self._acquire(lease):
                return 0
            client = Client(transport, guard=lease.guard, count=self._metrics.count_write)
            self._leader = Leader(client, configuration, self._settings, self._metrics, self._health)
            return await self._lead(lease, self._leader)
        finally:
            await server.stop()
            await transport.close()
            lag.cancel()

    async def _acquire(self, lease: Lease) -> bool:
        """Wait for the Lease; whether it was got before the end was asked for."""
        acquiring = asyncio.create_task(lease.acquire(), name="acquire lease")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stop.is_set():
            acquiring.cancel()
            await asyncio.gather(acquiring, return_exceptions=True)
            await lease.release()
            return False
        acquiring.result()
        return True

    async def _lead(self, lease: Lease, leader: Leader) -> int:
        self._health.role = "leader"
        self._metrics.leader.set(1)
        _log.info("leading")
        holding = asyncio.create_task(lease.hold(), name="hold lease")
        holding.add_done_callback(_end_at_once)
        try:
            await leader.run(self._stop, self._listen_to_signals)
        except Exception:
            _log.exception("a part of the operator died")
            return LOST
        finally:
            holding.remove_done_callback(_end_at_once)
            holding.cancel()
            self._metrics.leader.set(0)
            await lease.release()
        _log.info("stopped")
        return 0

    def _listen_to_signals(self) -> None:
        """Let signals set the stop flag; also called again after kopf has put its own handlers in."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    def _refresh_metrics(self) -> None:
        if self._leader is not None:
            self._leader.refresh_metrics()


def _end_at_once(holding: asyncio.Task[None]) -> None:
    """Another may lead from now on: no tidying up, every further step could be a write."""
    error = holding.exception() if not holding.cancelled() else None
    if isinstance(error, LeadershipLostError):
        _log.error("leadership lost", extra={"error": str(error)})
    else:
        _log.error("the lease is no longer held", exc_info=error)
    sys.stdout.flush()
    os._exit(LOST)
