"""What the server counts: plain integers, so that counting costs a request a fraction of a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from kmip_contract.permissions import ALWAYS_PERMITTED, OPERATIONS

DURATION_BOUNDS = (
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
)
"""Upper bounds of the latency histogram in microseconds: from a cached Get to a key manager about to time out."""

_KNOWN = OPERATIONS | ALWAYS_PERMITTED


class Histogram:
    """Counts by upper bound, and the sum, of microseconds."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(DURATION_BOUNDS) + 1)
        self.total = 0

    def observe(self, microseconds: int) -> None:
        """Count one duration."""
        self.buckets[bisect_left(DURATION_BOUNDS, microseconds)] += 1
        self.total += microseconds


@dataclass(slots=True)
class Counters:
    """``requests`` by (operation, status, reason), ``handshakes`` and ``closed`` by result, failed writes of the audit."""

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    durations: dict[str, Histogram] = field(default_factory=dict)
    handshakes: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    audit_failures: int = 0

    def request(self, operation: str, status: str, reason: str, microseconds: int) -> None:
        """Count one answered operation; those this server does not have count as one, for clients choose their numbers."""
        if operation not in _KNOWN:
            operation = "Unknown" if operation else ""
        self.requests[operation, status, reason] += 1
        histogram = self.durations.get(operation)
        if histogram is None:
            histogram = self.durations[operation] = Histogram()
        histogram.observe(microseconds)
