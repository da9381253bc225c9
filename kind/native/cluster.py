"""Brings a cluster up, step by step, and finds out whether one is up."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from kind.native import cgroups, controlplane, host, hostpackages, manifests, node, pki
from kind.native.agent.main import spawn_agent
from kind.native.builder import ensure_binaries
from kind.native.components import ControlPlane
from kind.native.images import ensure_images
from kind.native.kube import Client
from kind.native.nodeconfig import NodePlan
from kind.native.progress import Progress
from kind.native.state import State, StateError
from kind.native.topology import Node, Topology

API_PORT = 6443
# Nodes and DNS are ready in seconds; on a machine busy with other work, times ten.
READY_WITHIN = 120.0


# A node's entry among the parts; the file that says that `up` came to its end.
NODE_PART = "node-"
COMPLETE = "complete"


class ClusterError(Exception):
    """A cluster that does not become what was asked for."""


def key_of(state: State) -> str:
    """The cluster's name in cgroups: two state folders of the same name do not meet there."""
    return f"{state.name}-{hashlib.sha256(str(state.folder).encode()).hexdigest()[:8]}"


def parts(state: State) -> list[str]:
    """What must run for the cluster to be up."""
    plane = controlplane.read_plane(state)
    if not plane.workers:
        return ["etcd", "apiserver"]
    nodes = [f"{NODE_PART}{each.name}" for each in node.known(state).nodes]
    return ["etcd", "apiserver", "controller-manager", "scheduler", "agent", *nodes]


def missing_parts(state: State) -> list[str]:
    """What should run and does not; an unreadable state misses everything."""
    try:
        wanted = parts(state)
    except StateError:
        return ["a readable state"]
    running = state.processes()
    return [part for part in wanted if part not in running]


def up(state: State, nodes: tuple[Node, ...], progress: Progress) -> None:
    """Build what is missing and start a cluster in an empty state folder.

    Raises:
        ClusterError: Nodes or DNS do not become ready.
        BuildError, MissingError, ControlPlaneError, NodeError, HostError: What its name says.
    """
    hostpackages.ensure(hostpackages.CLUSTER_NEEDS, progress)
    binaries = ensure_binaries(progress)
    archives = list(ensure_images(binaries).values())
    topology = Topology(host.claim(state.folder), nodes)
    state.create()
    state.shared.mkdir(exist_ok=True)
    state.shared.chmod(0o1777)
    state.write("topology", topology.to_json())
    state.write("host-chains", sorted(host.chains()))
    key = key_of(state)
    etcd_port, etcd_peer_port = controlplane.free_ports(2)
    plane = ControlPlane(
        binaries, state.folder, topology.gateway, API_PORT, etcd_port, etcd_peer_port,
        str(topology.service_network), workers=True,
    )  # fmt: skip
    joins = cgroups.create(key, "control")
    plans = [node.plan(state, topology, plane, key, each.name) for each in topology.nodes]
    with ThreadPoolExecutor(max_workers=max(4, len(plans))) as pool:
        with progress.step("network, certificates, etcd"):
            controlplane.start(plane, state, "etcd", cgroups=joins)
            host.make_network(topology)
            pki.make_all(state.pki, [*controlplane.leaves(plane, topology.api_address), *node.leaves(topology)])
            controlplane.write_files(plane, state)
        with progress.step(f"API server on {plane.server}, {len(plans)} nodes' containerd"):
            api = controlplane.start(plane, state, "apiserver", cgroups=joins)
            starts = [pool.submit(_start_node, plan, state, plane, key, archives) for plan in plans]
            client = controlplane.wait_ready(state, api)
        with closing(client), progress.step("controllers, Node objects, images, kubelets"):
            for part in ("controller-manager", "scheduler"):
                controlplane.start(plane, state, part, cgroups=joins)
            for resource in manifests.nodes(topology):
                client.apply(resource)
            for plan in plans:
                (plan.folder / "registered").touch()
            start_agent(state, joins)
            for resource in (manifests.storage_class(), *manifests.dns(topology)):
                client.apply(resource)
            _results(starts)
    _wait_usable(state, topology, progress)
    state.write(COMPLETE, value=True)


def repair(state: State, missing: Sequence[str], progress: Progress) -> None:
    """Start what a complete cluster lacks, its data untouched.

    Raises:
        ControlPlaneError, NodeError, ClusterError: It does not come up.
    """
    plane = controlplane.read_plane(state)
    joins = cgroups.create(key_of(state), "control") if plane.workers else []
    for part in missing:
        with progress.step(f"start {part}"):
            if part.startswith(NODE_PART):
                start_node_again(state, part.removeprefix(NODE_PART))
            elif part == "agent":
                start_agent(state, joins)
            else:
                controlplane.restart(state, part, joins)
    if plane.workers:
        _wait_usable(state, node.known(state), progress)


def repairable(state: State) -> bool:
    """Whether the cluster once was up and the host still has its networks (a reboot takes them)."""
    try:
        plane = controlplane.read_plane(state)
        complete = bool(state.read(COMPLETE)) if plane.workers else True
    except StateError:
        return False
    return complete and (not plane.workers or host.slot_of(state.folder) is not None)


def start_node_again(state: State, name: str) -> None:
    """Start a node that was killed, on its old disk."""
    topology, plane, key = node.known(state), controlplane.read_plane(state), key_of(state)
    node.start(node.plan(state, topology, plane, key, name), state, key)


def _wait_usable(state: State, topology: Topology, progress: Progress) -> None:
    with closing(Client(state.kubeconfig)) as client:
        with progress.step(f"{len(topology.nodes)} nodes Ready"):
            wait_for(
                lambda: not unready(client, topology), lambda: f"not Ready: {', '.join(unready(client, topology))}"
            )
        with progress.step("cluster DNS Ready"):
            wait_for(lambda: _dns_ready(client), lambda: "the Deployment kube-system/coredns is not available")


def start_agent(state: State, joins: Iterable[Path]) -> None:
    """Start the process that plays load balancer, volume provisioner and network policy."""
    state.remember("agent", spawn_agent(state, joins))


def load(state: State, names: Sequence[str], binaries: Path, archives: Sequence[Path]) -> None:
    """Import archives into nodes, nodes in parallel."""
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        _results([pool.submit(_load_all, state, name, binaries, archives) for name in names])


def unready(client: Client, topology: Topology) -> list[str]:
    """Nodes that are not Ready."""
    ready = {
        item["metadata"]["name"]
        for item in client.items("/api/v1/nodes")
        for condition in item["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
    return [each.name for each in topology.nodes if each.name not in ready]


def wait_for(done: Callable[[], bool], why_not: Callable[[], str], within: float = READY_WITHIN) -> None:
    """Wait for a condition.

    Raises:
        ClusterError: It does not come true in time.
    """
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            message = f"after {within:.0f} s: {why_not()}"
            raise ClusterError(message)
        time.sleep(0.1)


def _start_node(plan: NodePlan, state: State, plane: ControlPlane, key: str, archives: Sequence[Path]) -> None:
    node.write_files(plan, state, plane)
    node.start(plan, state, key)
    _load_all(state, plan.name, plane.binaries, archives)


def _load_all(state: State, name: str, binaries: Path, archives: Sequence[Path]) -> None:
    for archive in archives:
        node.load_image(state, name, binaries, archive)


def _dns_ready(client: Client) -> bool:
    status = client.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns").get("status", {})
    return bool(status.get("availableReplicas", 0) >= 1 and not status.get("unavailableReplicas"))


def _results(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result()
