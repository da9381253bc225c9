"""NetworkPolicies as iptables rules: pure functions.

Per selected pod there is one chain for what comes in and one for what goes out. A packet that a rule allows RETURNs
to the main chain, so that the other end's chain judges it too; the end of each chain is DROP. All of it hangs on
FORWARD of the table `mangle`, which nothing else uses, and which sees addresses after a Service's were translated.
Answers and running connections pass. What a node's own processes send (probes) is not forwarded and not judged.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kind.native.agent.selectors import matches
from kind.native.kube import Object

MAIN = "KN-NP"
_PREFIX = {"Ingress": "KN-I-", "Egress": "KN-E-"}


@dataclass(frozen=True)
class Pod:
    """What policies look at in a pod; `ports` are its named ports as (name, protocol, number)."""

    namespace: str
    name: str
    address: str
    node: str
    labels: Mapping[str, str]
    ports: tuple[tuple[str, str, int], ...] = ()
    host_network: bool = False

    @classmethod
    def read(cls, item: Object) -> "Pod | None":
        """From the API; None for a pod that has no address or has ended."""
        meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
        if not status.get("podIP") or status.get("phase") in {"Succeeded", "Failed"}:
            return None
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        ports = tuple(
            (port["name"], port.get("protocol", "TCP"), int(port["containerPort"]))
            for container in containers
            for port in container.get("ports") or ()
            if port.get("name")
        )
        return cls(
            meta["namespace"], meta["name"], status["podIP"], spec.get("nodeName", ""), meta.get("labels") or {},
            ports, bool(spec.get("hostNetwork")),
        )  # fmt: skip


@dataclass
class Ruleset:
    """The chains of one node and their rules, in order."""

    chains: dict[str, list[str]] = field(default_factory=dict)

    def restore_text(self, stale: Iterable[str] = ()) -> str:
        """Input for `iptables-restore --noflush`; `stale` chains are removed."""
        gone = sorted(set(stale) - self.chains.keys())
        lines = ["*mangle"]
        lines += [f":{chain} - [0:0]" for chain in (*self.chains, *gone)]
        lines += [f"-A {chain} {rule}" for chain, rules in self.chains.items() for rule in rules]
        lines += [f"-X {chain}" for chain in gone]
        return "\n".join([*lines, "COMMIT", ""])


def rulesets(
    nodes: Iterable[str], pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]], policies: Sequence[Object]
) -> dict[str, Ruleset]:
    """The rules of every node.

    Args:
        nodes: All nodes' names.
        pods: All pods with addresses.
        namespaces: Labels by namespace.
        policies: All NetworkPolicies.
    """
    result = {}
    for node in nodes:
        main: list[str] = []
        ruleset = Ruleset({MAIN: main})
        for pod in sorted(pods, key=lambda each: each.address):
            if pod.node != node or pod.host_network:
                continue
            for direction in ("Ingress", "Egress"):
                ours = [policy for policy in policies if _selects(policy, pod, direction)]
                if ours:
                    chain = _PREFIX[direction] + hashlib.sha256(pod.address.encode()).hexdigest()[:16]
                    side = "-d" if direction == "Ingress" else "-s"
                    main.append(f"{side} {pod.address}/32 -j {chain}")
                    ruleset.chains[chain] = _pod_rules(pod, direction, ours, pods, namespaces)
        if main:
            main.insert(0, "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN")
        result[node] = ruleset
    return result


def _selects(policy: Object, pod: Pod, direction: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return (
        direction in types
        and policy["metadata"]["namespace"] == pod.namespace
        and matches(spec.get("podSelector") or {}, pod.labels)
    )


def _pod_rules(
    pod: Pod,
    direction: str,
    policies: Sequence[Object],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> list[str]:
    peer_flag = "-s" if direction == "Ingress" else "-d"
    # A pod may always talk to itself.
    rules = [f"{peer_flag} {pod.address}/32 -j RETURN"]
    for policy in policies:
        for rule in policy["spec"].get(direction.lower()) or ():
            peers = rule.get("from" if direction == "Ingress" else "to")
            for network, peer in _peers(peers, pod.namespace, pods, namespaces):
                # A named port is the receiving pod's.
                receiver = pod if direction == "Ingress" else peer
                match = [] if network is None else [f"{peer_flag} {network}"]
                rules += [" ".join([*match, *port, "-j RETURN"]) for port in _ports(rule.get("ports"), receiver)]
    return [*dict.fromkeys(rules), "-j DROP"]


def _peers(
    peers: Sequence[Mapping[str, Any]] | None,
    namespace: str,
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Iterator[tuple[str | None, Pod | None]]:
    if not peers:
        yield None, None
        return
    for peer in peers:
        if block := peer.get("ipBlock"):
            for network in block_networks(block["cidr"], block.get("except") or ()):
                yield network, None
            continue
        for pod in pods:
            if _is_peer(peer, namespace, pod, namespaces):
                yield f"{pod.address}/32", pod


def _is_peer(peer: Mapping[str, Any], namespace: str, pod: Pod, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    spaces = peer.get("namespaceSelector")
    if spaces is None:
        if pod.namespace != namespace:
            return False
    elif not matches(spaces, namespaces.get(pod.namespace, {})):
        return False
    return matches(peer.get("podSelector") or {}, pod.labels)


def block_networks(cidr: str, exceptions: Iterable[str]) -> list[str]:
    """An ipBlock as plain networks, the exceptions cut out; IPv6 blocks give none, as pods have no such address."""
    whole = ipaddress.ip_network(cidr, strict=False)
    if not isinstance(whole, ipaddress.IPv4Network):
        return []
    left = [whole]
    for each in exceptions:
        hole = ipaddress.ip_network(each, strict=False)
        if not isinstance(hole, ipaddress.IPv4Network):
            continue
        left = [part for network in left for part in _without(network, hole)]
    return [str(network) for network in sorted(left)]


def _without(network: ipaddress.IPv4Network, hole: ipaddress.IPv4Network) -> list[ipaddress.IPv4Network]:
    if network.subnet_of(hole):
        return []
    if hole.subnet_of(network):
        return list(network.address_exclude(hole))
    return [network]


def _ports(ports: Sequence[Mapping[str, Any]] | None, receiver: Pod | None) -> Iterator[list[str]]:
    if not ports:
        yield []
        return
    for port in ports:
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        base = f"-p {protocol.lower()}"
        if number is None:
            yield [base]
        elif isinstance(number, int):
            yield [base, f"--dport {number}:{port['endPort']}" if port.get("endPort") else f"--dport {number}"]
        else:
            named = receiver.ports if receiver is not None else ()
            yield from (
                [base, f"--dport {value}"] for name, kind, value in named if name == number and kind == protocol
            )
