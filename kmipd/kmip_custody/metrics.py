"""What custody counts. Labels are operations and outcomes alone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Counter("kmip_custody_requests", "Requests answered.", ("operation",), registry=REGISTRY)
ITEMS = Counter(
    "kmip_custody_items", "Keys wrapped or unwrapped, by outcome.", ("operation", "outcome"), registry=REGISTRY
)
SECONDS = Histogram(
    "kmip_custody_request_seconds",
    "Seconds from a request's receipt to its answer.",
    ("operation",),
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
    registry=REGISTRY,
)
LOGINS = Counter("kmip_custody_logins", "Log-ins to the token that reached it.", ("outcome",), registry=REGISTRY)
PEERS_REFUSED = Counter("kmip_custody_peers_refused", "Connections of another uid, closed.", registry=REGISTRY)
CONNECTIONS = Gauge("kmip_custody_connections", "Open connections.", registry=REGISTRY)
IN_PROGRESS = Gauge("kmip_custody_requests_in_progress", "Requests not answered yet.", registry=REGISTRY)
USABLE = Gauge("kmip_custody_root_key_usable", "1 if the last canary was wrapped and unwrapped.", registry=REGISTRY)
HUNG = Gauge("kmip_custody_module_hung", "1 while a call into the module is past its deadline.", registry=REGISTRY)
