"""Prometheus metrics. No label ever holds a key, a value of a Secret or a certificate's subject."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The operator's metrics on a registry of their own. Implements the work queue's observer."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        registry = self.registry
        self.leader = Gauge("kmip_operator_leader", "1 while this process leads.", registry=registry)
        self.queue_depth = Gauge("kmip_operator_queue_depth", "Objects waiting or being worked on.", registry=registry)
        self.queue_oldest = Gauge(
            "kmip_operator_queue_oldest_seconds", "How long the longest-waiting object has been due.", registry=registry
        )
        self.queue_wait = Histogram(
            "kmip_operator_queue_wait_seconds", "From due to worked on.", buckets=_SECONDS, registry=registry
        )
        self.work = Histogram(
            "kmip_operator_reconcile_seconds", "Time of one reconciliation.", buckets=_SECONDS, registry=registry
        )
        self.reconciled = Counter(
            "kmip_operator_reconcile_total",
            "Reconciliations by kind and result.",
            ["kind", "result"],
            registry=registry,
        )
        self.writes = Counter(
            "kmip_operator_api_writes_total",
            "API writes, without those of the Lease.",
            ["verb", "resource"],
            registry=registry,
        )
        self.drift = Counter(
            "kmip_operator_drift_corrected_total", "Children repaired, by kind.", ["kind"], registry=registry
        )
        self.cached = Gauge("kmip_operator_cached_objects", "Objects in the caches.", ["resource"], registry=registry)
        self.census = Gauge(
            "kmip_operator_census_timestamp_seconds", "When the caches last agreed with the API.", registry=registry
        )
        self.loop_lag = Gauge(
            "kmip_operator_event_loop_lag_seconds", "Delay of a timer in the event loop.", registry=registry
        )
        build = Gauge("kmip_operator_build_info", "1; the version is a label.", ["version"], registry=registry)
        build.labels(version).set(1)

    def waited(self, seconds: float) -> None:
        """A key got its turn after this long."""
        self.queue_wait.observe(seconds)

    def worked(self, seconds: float, *, failed: bool) -> None:
        """A key was worked on; failures are counted by the reconciler, which knows the kind."""
        self.work.observe(seconds)

    def count_write(self, verb: str, plural: str) -> None:
        """A write is sent to the API."""
        self.writes.labels(verb, plural).inc()

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
