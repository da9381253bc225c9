"""The operator's plain HTTP port: /livez, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from kmip_operator.health import Health
from kmip_operator.metrics import Metrics


class HttpServer:
    """Serves until :meth:`stop`. ``refresh`` brings gauges up to date before they are shown."""

    def __init__(self, health: Health, metrics: Metrics, refresh: Callable[[], None]) -> None:
        self._health = health
        self._metrics = metrics
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was taken.

        Raises:
            OSError: the port is not free.
        """
        application = web.Application()
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._show_metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host or None, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        problems = self._health.problems()
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ("ok",)) + "\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._health.ready
        return web.Response(
            status=200 if ready else 503, text=f"{self._health.role}: {'ready' if ready else 'listing'}\n"
        )

    async def _show_metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})
