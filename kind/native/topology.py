"""What a cluster looks like: its nodes, their regions and zones, and the addresses derived from its slot."""

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTROL_PLANE = "control-plane"
# Clusters that may run side by side: each needs its own networks and link names.
SLOTS = 6
# Nodes per cluster: the node network's addresses .11 to .110, and far more than one machine carries.
MAX_NODES = 100


class TopologyError(Exception):
    """A topology that cannot be built; the message names the field."""


@dataclass(frozen=True)
class Node:
    """A worker: its name and where it pretends to stand."""

    name: str
    region: str
    zone: str

    def labels(self) -> dict[str, str]:
        """The labels of its Node object."""
        return {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "node-role.kubernetes.io/worker": "",
            "topology.kubernetes.io/region": self.region,
            "topology.kubernetes.io/zone": self.zone,
        }


DEFAULT_PLACES = (("eu-de", "eu-de-1"), ("eu-de", "eu-de-2"), ("eu-nl", "eu-nl-1"))


def default_nodes(count: int) -> tuple[Node, ...]:
    """So many workers, over the default regions and zones in turn.

    Raises:
        TopologyError: The count is out of range.
    """
    if not 1 <= count <= MAX_NODES:
        message = f"nodes: between 1 and {MAX_NODES}, not {count}"
        raise TopologyError(message)
    return tuple(Node(f"worker{i + 1}", *DEFAULT_PLACES[i % len(DEFAULT_PLACES)]) for i in range(count))


def read_nodes(path: Path) -> tuple[Node, ...]:
    """The workers of a topology file: `{"nodes": [{"name": …, "region": …, "zone": …}, …]}`.

    Raises:
        TopologyError: The file is not of that form.
    """
    try:
        entries = json.loads(path.read_text())["nodes"]
        nodes = tuple(Node(str(entry["name"]), str(entry["region"]), str(entry["zone"])) for entry in entries)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        message = f"{path}: expected nodes with name, region and zone: {error!r}"
        raise TopologyError(message) from error
    names = [node.name for node in nodes]
    if not 1 <= len(nodes) <= MAX_NODES or len(set(names)) != len(names):
        message = f"{path}: nodes: 1 to {MAX_NODES} with distinct names"
        raise TopologyError(message)
    for name in names:
        if not name or len(name) > 60 or not all(letter in _NAME_LETTERS for letter in name) or name[0] == "-":
            message = f"{path}: name {name!r}: lower-case letters, digits and inner dashes only"
            raise TopologyError(message)
    return nodes


_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True)
class Topology:
    """A cluster's nodes and every address of it; the slot (0 to SLOTS - 1) keeps clusters apart."""

    slot: int
    nodes: tuple[Node, ...]

    @property
    def bridge(self) -> str:
        """The bridge in the root network namespace that joins the nodes."""
        return f"kn{self.slot}"

    @property
    def node_network(self) -> ipaddress.IPv4Network:
        """The nodes' network."""
        return ipaddress.IPv4Network(f"10.250.{self.slot}.0/24")

    @property
    def gateway(self) -> str:
        """The host's own address in it; the API server listens there."""
        return str(self.node_network[1])

    @property
    def pod_network(self) -> ipaddress.IPv4Network:
        """All pods' network."""
        return ipaddress.IPv4Network(f"10.{244 - self.slot}.0.0/16")

    @property
    def service_network(self) -> ipaddress.IPv4Network:
        """The cluster addresses of Services."""
        return ipaddress.IPv4Network(f"10.{96 + self.slot}.0.0/16")

    @property
    def api_address(self) -> str:
        """The Service `kubernetes`."""
        return str(self.service_network[1])

    @property
    def dns_address(self) -> str:
        """The Service `kube-dns`."""
        return str(self.service_network[10])

    @property
    def pool(self) -> list[str]:
        """The addresses of LoadBalancer Services."""
        return [str(self.node_network[i]) for i in range(150, 250)]

    def index(self, name: str) -> int:
        """A node's number, from 1.

        Raises:
            TopologyError: There is no such node.
        """
        for number, node in enumerate(self.nodes, 1):
            if node.name == name:
                return number
        message = f"no node {name!r}: there are {', '.join(node.name for node in self.nodes)}"
        raise TopologyError(message)

    def address(self, name: str) -> str:
        """A node's address."""
        return str(self.node_network[10 + self.index(name)])

    def pods(self, name: str) -> str:
        """A node's own part of the pod network, as CIDR."""
        return f"10.{244 - self.slot}.{self.index(name)}.0/24"

    def link(self, name: str) -> str:
        """The host's end of a node's link."""
        return f"{self.bridge}-{self.index(name)}"

    def to_json(self) -> dict[str, Any]:
        """For the state folder."""
        return {
            "slot": self.slot,
            "nodes": [{"name": node.name, "region": node.region, "zone": node.zone} for node in self.nodes],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Topology":
        """From the state folder."""
        return cls(int(value["slot"]), tuple(Node(**entry) for entry in value["nodes"]))


def free_slot(links: Sequence[str]) -> int:
    """The lowest slot whose bridge is not among the host's links.

    Raises:
        TopologyError: All are taken.
    """
    for slot in range(SLOTS):
        if f"kn{slot}" not in links:
            return slot
    message = f"all {SLOTS} slots are taken: run `down` for a cluster that is no longer needed"
    raise TopologyError(message)
