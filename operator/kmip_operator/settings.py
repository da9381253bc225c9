"""How one operator process is set up: what the command line and the environment say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmip_operator.facts import Images


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of ``kmip-operator run``.

    identity: names this process in the Lease and in Events; unique among the replicas (the pod's name).
    namespace: where the Lease lives.
    namespaces: the namespaces to serve; empty means all of them (and reading nodes).
    http_port: plain HTTP for /livez, /readyz and /metrics; 0 takes a free one.
    workers: objects worked on at the same time. Work is waiting for the API server, so this bounds requests in flight.
    census_interval: seconds between two comparisons of the caches with the API.
    """

    identity: str
    images: Images
    namespace: str = "default"
    lease_name: str = "kmip-operator"
    namespaces: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    http_host: str = ""
    http_port: int = 8080
    workers: int = 16
    census_interval: float = 300.0

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to list and watch; ``None`` stands for all of them."""
        return self.namespaces or (None,)
