"""Which address a LoadBalancer Service has and which nodes take its traffic: decisions only."""

from collections.abc import Iterable, Sequence

from kind.native.kube import Object


def key_of(service: Object) -> str:
    """A Service's namespace and name."""
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def wanted(service: Object) -> bool:
    """Whether this load balancer serves it: the type, no other class, not being deleted."""
    spec = service["spec"]
    return (
        spec.get("type") == "LoadBalancer"
        and not spec.get("loadBalancerClass")
        and not service["metadata"].get("deletionTimestamp")
    )


def current(service: Object) -> str | None:
    """The address in its status."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    found = ingress[0].get("ip")
    return None if found is None else str(found)


def assign(services: Iterable[Object], pool: Sequence[str]) -> dict[str, str]:
    """An address of the pool for each wanted Service, by namespace/name.

    A Service keeps its address (the older one where two have the same), gets the one `spec.loadBalancerIP` asks for
    if it is free, else the first free one. When the pool is used up the newest go without.
    """
    ordered = sorted(
        (service for service in services if wanted(service)),
        key=lambda service: (service["metadata"].get("creationTimestamp", ""), key_of(service)),
    )
    given: dict[str, str] = {}
    free = dict.fromkeys(pool)
    for choose in (current, lambda service: service["spec"].get("loadBalancerIP")):
        for service in ordered:
            address = choose(service)
            if key_of(service) not in given and address in free:
                given[key_of(service)] = address
                del free[address]
    for service in ordered:
        if key_of(service) not in given and free:
            address = next(iter(free))
            given[key_of(service)] = address
            del free[address]
    return given


def next_hops(service: Object, slices: Iterable[Object], ready_nodes: Iterable[str]) -> list[str]:
    """The nodes to send a Service's traffic to: Ready ones, with policy Local only those with a ready endpoint."""
    ready = set(ready_nodes)
    if service["spec"].get("externalTrafficPolicy") != "Local":
        return sorted(ready)
    meta = service["metadata"]
    endpoints = (
        endpoint
        for each in slices
        if each["metadata"]["namespace"] == meta["namespace"]
        and each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == meta["name"]
        for endpoint in each.get("endpoints") or ()
    )
    return sorted(
        {
            str(endpoint["nodeName"])
            for endpoint in endpoints
            if endpoint.get("nodeName") in ready and endpoint.get("conditions", {}).get("ready", True)
        }
    )


def ready_nodes(nodes: Iterable[Object]) -> list[str]:
    """Names of the Nodes whose condition Ready is true."""
    return sorted(
        node["metadata"]["name"]
        for node in nodes
        if any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node.get("status", {}).get("conditions") or ()
        )
    )
