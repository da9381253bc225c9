"""Where clients connect: what the spec says, what load balancers have, what is reachable within the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from kmip_contract.kmipd import KMIP_PORT
from kmip_operator.conditions import Problem, moment
from kmip_operator.facts import NodeFacts
from kmip_operator.kmipinstance.children import Site, site_name
from kmip_operator.kmipinstance.model import Endpoint, ServiceType
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason

# Load balancers of clouds need up to a minute; after that a person should look.
ADDRESS_WITHIN = timedelta(seconds=60)
# One node's port is as good as another's, and a status should not grow with the cluster.
_NODES_SHOWN = 3


def endpoints(
    instance: Manifest, places: Sequence[Site], services: Mapping[str, Manifest], nodes: Sequence[NodeFacts]
) -> list[Endpoint]:
    """Every endpoint, the best of each region first."""
    return [
        endpoint
        for site in places
        for endpoint in _of_site(instance, site, services.get(site_name(instance, site)), nodes)
    ]


def _of_site(
    instance: Manifest, site: Site, service: Manifest | None, nodes: Sequence[NodeFacts]
) -> Iterator[Endpoint]:
    region = site.region or None
    kind = site.exposure.type or ServiceType.CLUSTER_IP
    port = KMIP_PORT
    if kind is ServiceType.NODE_PORT:
        port = site.exposure.node_port or _node_port(service) or 0
    for name in site.exposure.host_names or []:
        if port:
            yield Endpoint(region=region, host=name, port=port, type="HostName")
    if kind is ServiceType.LOAD_BALANCER:
        for address in addresses(service):
            yield Endpoint(region=region, host=address, port=KMIP_PORT, type="LoadBalancer")
    if kind is ServiceType.NODE_PORT and port:
        reachable = [node.address for node in nodes if node.address and node.schedulable]
        for address in sorted(reachable)[:_NODES_SHOWN]:
            yield Endpoint(region=region, host=address, port=port, type="Node")
    host = f"{site_name(instance, site)}.{instance['metadata']['namespace']}.svc"
    yield Endpoint(region=region, host=host, port=KMIP_PORT, type="Cluster")


def addresses(service: Manifest | None) -> list[str]:
    """What a load balancer has for a Service: addresses, or host names."""
    ingress = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [address for item in ingress if (address := item.get("ip") or item.get("hostname"))]


def _node_port(service: Manifest | None) -> int | None:
    ports = ((service or {}).get("spec") or {}).get("ports") or []
    return next((port["nodePort"] for port in ports if port.get("nodePort")), None)


def address(found: Sequence[Endpoint]) -> str | None:
    """The best endpoint of each region in one line."""
    best: dict[str | None, Endpoint] = {}
    for endpoint in found:
        best.setdefault(endpoint.region, endpoint)
    return ", ".join(f"{_bracketed(endpoint.host)}:{endpoint.port}" for endpoint in best.values()) or None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def waiting(
    instance: Manifest, places: Sequence[Site], services: Mapping[str, Manifest], now: datetime
) -> tuple[tuple[Problem, ...], float | None]:
    """Load balancers without an address, and the seconds until one of them is late. Never keeps pods from serving."""
    problems: list[Problem] = []
    waits: list[float] = []
    for site in places:
        service = services.get(site_name(instance, site))
        if service is None or site.exposure.type is not ServiceType.LOAD_BALANCER or addresses(service):
            continue
        late = moment(service["metadata"]["creationTimestamp"]) + ADDRESS_WITHIN
        name = service["metadata"]["name"]
        field = f"{site.path}.service"
        if now < late:
            waits.append((late - now).total_seconds())
            message = f"{field}: Service {name} waits for an address from its load balancer."
            problems.append(Problem(Reason.ADDRESS_PENDING, message, blocking=False))
            continue
        message = (
            f"{field}: Service {name} has had no address for {int(ADDRESS_WITHIN.total_seconds())} seconds. Check that the "
            "cluster has a load balancer controller, or set type NodePort."
        )
        problems.append(Problem(Reason.ADDRESS_PENDING, message, stalled=True, blocking=False))
    return tuple(problems), min(waits, default=None)
