"""What /livez and /readyz say. Alive means that watch events still arrive and work gets done, not that HTTP is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kmip_operator.metrics import Metrics

LAG_LIMIT = 5.0
"""Seconds a timer may be late: the Lease is renewed in this event loop, and 10 s late is lost."""

OLDEST_LIMIT = 300.0
"""Seconds an object may be due or in work. One round is a few requests of at most 15 s each."""

CENSUS_FAILURES = 3
"""Failed comparisons in a row, half a minute apart, that mean a dead watch; one may fall into an API server's restart."""


class Health:
    """Collected by the tasks of the process, read by its HTTP server."""

    def __init__(self, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._beat = monotonic()
        self.role = "candidate"
        self.synced = False
        self.behind = 0  # failed comparisons in a row
        self.oldest: Callable[[], float] = lambda: 0.0

    async def measure_lag(self) -> None:
        """Keep the event loop's lag. Runs until cancelled."""
        while True:
            before = self._monotonic()
            await asyncio.sleep(1.0)
            self._beat = self._monotonic()
            self._metrics.loop_lag.set(max(0.0, self._beat - before - 1.0))

    def problems(self) -> tuple[str, ...]:
        """Why the process should be started again; empty when it is well."""
        lag = self._monotonic() - self._beat - 1.0
        oldest = self.oldest()
        return tuple(
            text
            for failed, text in (
                (lag > LAG_LIMIT, f"the event loop is {lag:.0f} s late"),
                (oldest > OLDEST_LIMIT, f"an object has been waiting for {oldest:.0f} s"),
                (self.behind >= CENSUS_FAILURES, "watch events do not arrive: the caches are behind the API"),
            )
            if failed
        )

    @property
    def ready(self) -> bool:
        """A candidate is ready to take over; a leader when its caches are complete."""
        return self.role != "leader" or self.synced
