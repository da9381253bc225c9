"""Plays the cloud's load balancer: an address per Service, routed from the host to the nodes that serve it."""

import json
import sys
from http import HTTPStatus

from kind.native.agent.addresses import assign, current, key_of, next_hops, ready_nodes
from kind.native.host import ip
from kind.native.kube import ApiError, Client, Object
from kind.native.topology import Topology


class LoadBalancer:
    """Keeps Services' statuses and the host's routes to their addresses."""

    def __init__(self, client: Client, topology: Topology) -> None:
        self._client = client
        self._topology = topology
        self._pool = topology.pool
        self._routes: dict[str, list[str]] = {}

    def reconcile(self, services: list[Object], slices: list[Object], nodes: list[Object]) -> None:
        """Give, route and take back addresses."""
        given = assign(services, self._pool)
        known = {node.name for node in self._topology.nodes}
        ready = [name for name in ready_nodes(nodes) if name in known]
        routes = {
            given[key_of(service)]: next_hops(service, slices, ready)
            for service in services
            if key_of(service) in given
        }
        self._route(routes)
        for service in services:
            address, has = given.get(key_of(service)), current(service)
            if has != address and (address is not None or has in self._pool):
                self._say(service, address)

    def _say(self, service: Object, address: str | None) -> None:
        meta = service["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
        ingress = [] if address is None else [{"ip": address}]
        change = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }
        try:
            self._client.merge(path, change)
        except ApiError as error:
            # The Service changed or went meanwhile: its newer state is on its way here.
            if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                raise
            return
        print(f"load balancer: {key_of(service)}: {address or 'address taken back'}", file=sys.stderr, flush=True)

    def _route(self, wanted: dict[str, list[str]]) -> None:
        for address in self._present() - wanted.keys():
            ip("route", "delete", f"{address}/32")
            self._routes.pop(address, None)
        for address, nodes in wanted.items():
            if self._routes.get(address) != nodes:
                self._replace(address, nodes)
                self._routes[address] = nodes

    def _replace(self, address: str, nodes: list[str]) -> None:
        hops = [
            word
            for name in nodes
            for word in ("nexthop", "via", self._topology.address(name), "dev", self._topology.bridge)
        ]
        if address in self._present():
            ip("route", "delete", f"{address}/32")
        if hops:
            ip("route", "add", f"{address}/32", *hops)
        else:
            # A load balancer without a healthy node refuses.
            ip("route", "add", "unreachable", f"{address}/32")

    def _present(self) -> set[str]:
        pool = set(self._pool)
        return {entry["dst"] for entry in json.loads(ip("-json", "route", "show")) if entry["dst"] in pool}
