"""What Prometheus scrapes, read from the server's plain counters when it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kmip_contract.custody import RootKeyState
from kmipd.admin.http import Response


class DurationHistogram(Protocol):
    """Counts by bucket (not cumulative) and the sum, in microseconds."""

    buckets: list[int]
    total: int


class ServerCounters(Protocol):
    """What the KMIP port counts."""

    @property
    def requests(self) -> Mapping[tuple[str, str, str], int]:
        """Operations by (operation, status, reason)."""

    @property
    def durations(self) -> Mapping[str, DurationHistogram]:
        """Processing times by operation."""

    @property
    def handshakes(self) -> Mapping[str, int]:
        """Handshakes by result."""

    @property
    def closed(self) -> Mapping[str, int]:
        """Ended connections by reason."""

    @property
    def connections(self) -> int:
        """Open connections."""

    @property
    def audit_failures(self) -> int:
        """Writes of the audit that failed."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of the instance at the moment of a scrape. Times are Unix seconds."""

    objects: Mapping[str, int] = field(default_factory=dict)
    root_key_state: RootKeyState = RootKeyState.UNKNOWN
    root_key_version: int = 0
    allowlist_revision: int = -1
    allowlist_applied: bool = True
    fenced: bool = False
    cache_entries: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    server_certificate_expiry: float = 0.0
    client_certificate_expiry: Mapping[str, float] = field(default_factory=dict)


class KmipdMetrics(Collector):
    """Turns counters and readings into metric families. ``bounds`` are the histogram's upper bounds in microseconds."""

    def __init__(self, counters: ServerCounters, bounds: Sequence[int], version: str) -> None:
        self._counters = counters
        self._bounds = [*(str(bound / 1e6) for bound in bounds), "+Inf"]
        self._version = version
        self.readings = Readings()

    def describe(self) -> Iterable[Metric]:
        """Nothing to check for duplicates before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from self._port()
        yield from self._instance()

    def _port(self) -> Iterator[Metric]:
        counters = self._counters
        requests = CounterMetricFamily(
            "kmipd_requests", "Operations answered; result is Success or KMIP's reason.", labels=["operation", "result"]
        )
        for (operation, status, reason), count in sorted(counters.requests.items()):
            requests.add_metric([operation, reason or status], count)
        yield requests
        durations = HistogramMetricFamily(
            "kmipd_request_duration_seconds", "Processing time of one operation.", labels=["operation"]
        )
        for operation, histogram in sorted(counters.durations.items()):
            total, buckets = 0, []
            for bound, count in zip(self._bounds, histogram.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            durations.add_metric([operation], buckets, histogram.total / 1e6)
        yield durations
        yield _counter("kmipd_handshakes", "TLS handshakes by result.", "result", counters.handshakes)
        yield _counter("kmipd_connections_closed", "Ended connections by reason.", "reason", counters.closed)
        yield GaugeMetricFamily("kmipd_connections", "Open connections of clients.", counters.connections)
        yield CounterMetricFamily(
            "kmipd_audit_failures", "Audit lines that could not be written.", counters.audit_failures
        )

    def _instance(self) -> Iterator[Metric]:
        now = self.readings
        yield _gauge("kmipd_objects", "Managed objects by state.", "state", now.objects)
        states = {state.value: float(state is now.root_key_state) for state in RootKeyState}
        yield _gauge("kmipd_root_key_state", "1 for the root key's state.", "state", states)
        yield GaugeMetricFamily("kmipd_root_key_version", "The version that wraps new keys.", now.root_key_version)
        yield GaugeMetricFamily("kmipd_fenced", "1 while the instance refuses all keys on request.", float(now.fenced))
        yield GaugeMetricFamily("kmipd_allowlist_revision", "The allowlist in force.", now.allowlist_revision)
        yield GaugeMetricFamily(
            "kmipd_allowlist_applied", "1 if the newest allowlist is in force in full.", float(now.allowlist_applied)
        )
        yield GaugeMetricFamily("kmipd_key_cache_entries", "Plaintext keys in memory.", now.cache_entries)
        yield CounterMetricFamily("kmipd_key_cache_hits", "Keys served from memory.", now.cache_hits)
        yield CounterMetricFamily("kmipd_key_cache_misses", "Keys unwrapped by custody.", now.cache_misses)
        yield GaugeMetricFamily(
            "kmipd_server_certificate_expiry_timestamp_seconds", "When it expires.", now.server_certificate_expiry
        )
        yield _gauge(
            "kmipd_client_certificate_expiry_timestamp_seconds",
            "When a trusted certificate or authority expires.",
            "client",
            now.client_certificate_expiry,
        )
        yield _gauge("kmipd_build_info", "The program's version.", "version", {self._version: 1.0})


def _counter(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _gauge(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


class MetricsPage:
    """``/metrics``. ``read`` gathers the readings of the moment."""

    def __init__(self, metrics: KmipdMetrics, read: Callable[[], Awaitable[Readings]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(metrics)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._metrics = metrics
        self._read = read

    async def page(self) -> Response:
        """The exposition."""
        self._metrics.readings = await self._read()
        return Response(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))
