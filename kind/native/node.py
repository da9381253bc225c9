"""A node is a set of namespaces: started, given its link, loaded with images, killed, frozen, cut off."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kind.native import cgroups, controlplane, nodeconfig, pki
from kind.native.components import ControlPlane
from kind.native.host import HostError, delete_link, ip, links
from kind.native.nodeconfig import CONTAINERD_SOCKET, NodePlan
from kind.native.processes import Process, identify, kill, spawn
from kind.native.state import State, StateError
from kind.native.topology import Topology

# Mounts and exec take milliseconds, containerd's start half a second; on a machine under load, times ten.
INIT_WITHIN = 20.0
# An import of a large image on two busy cores; one that hangs is cut off.
IMPORT_TIMEOUT = 300.0


class NodeError(Exception):
    """A node that did not start, or a command in it that failed; the message names its log."""


def plan(state: State, topology: Topology, plane: ControlPlane, key: str, name: str) -> NodePlan:
    """The plan of a node of a cluster."""
    return NodePlan(
        name=name,
        topology=topology,
        folder=state.node(name),
        binaries=plane.binaries,
        pki=state.pki,
        shared=state.shared,
        cgroup=f"/{cgroups.PARENT}/{key}/{name}",
    )


def leaves(topology: Topology) -> list[pki.Leaf]:
    """The certificates of the nodes' daemons."""
    proxy = pki.Leaf("kube-proxy", "system:kube-proxy")
    return [
        proxy,
        *(
            pki.Leaf(f"node-{name}", f"system:node:{name}", "system:nodes", (name, topology.address(name)))
            for name in (node.name for node in topology.nodes)
        ),
    ]


def write_files(node: NodePlan, state: State, plane: ControlPlane) -> None:
    """Write a node's configuration and make its folders."""
    for name in ("kubelet", "log", "cni-state", "cni", "containerd", "volumes"):
        (node.folder / name).mkdir(parents=True, exist_ok=True)
    (node.folder / "containerd.toml").write_text(nodeconfig.containerd_config(node))
    (node.folder / "cni" / "10-native.conflist").write_text(nodeconfig.cni_config(node))
    (node.folder / "kubelet.json").write_text(nodeconfig.kubelet_config(node))
    (node.folder / "kube-proxy.json").write_text(nodeconfig.kube_proxy_config(node))
    (node.folder / "init.sh").write_text(nodeconfig.init_script(node))
    controlplane.write_kubeconfig(plane, state, f"node-{node.name}", node.folder / "kubelet.kubeconfig")
    controlplane.write_kubeconfig(plane, state, "kube-proxy", node.folder / "kube-proxy.kubeconfig")


def start(node: NodePlan, state: State, key: str) -> None:
    """Start a node's namespaces and its containerd, and connect it.

    Raises:
        NodeError: It ended or does not answer.
    """
    joins = cgroups.create(key, node.name, "sys")
    (node.folder / "pid").unlink(missing_ok=True)
    log = node.folder / "log" / "init.log"
    outer = spawn(
        [
            "unshare", "--kill-child", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork",
            "--propagation", "private", "bash", str(node.folder / "init.sh"),
        ],
        log=log,
        environment=controlplane.environment(state),
        cgroups=joins,
    )  # fmt: skip
    deadline = time.monotonic() + INIT_WITHIN
    while (inner := init_process(state, node.name)) is None:
        if not outer.alive() or time.monotonic() > deadline:
            message = f"node {node.name} did not start: see {log}"
            raise NodeError(message)
        time.sleep(0.01)
    state.remember(f"node-{node.name}", inner)
    connect(node, inner)


def connect(node: NodePlan, inner: Process) -> None:
    """Give a node its link, address and routes to the other nodes' pods; there is no default route."""
    topology, outer_end = node.topology, node.topology.link(node.name)
    if outer_end in links():
        delete_link(outer_end)
    ip("link", "add", outer_end, "type", "veth", "peer", "name", "eth0", "netns", str(inner.pid))
    ip("link", "set", outer_end, "master", topology.bridge, "up")
    lines = [
        "link set lo up",
        f"address add {node.address}/{topology.node_network.prefixlen} dev eth0",
        "link set eth0 up",
        *(
            f"route add {topology.pods(other.name)} via {topology.address(other.name)}"
            for other in topology.nodes
            if other.name != node.name
        ),
    ]
    enter(inner, ["ip", "-batch", "-"], namespaces=("--net",), stdin="\n".join(lines) + "\n")


def enter(inner: Process, command: Sequence[str], *, namespaces: Sequence[str], stdin: str | None = None) -> str:
    """Run a command in some of a node's namespaces and return what it printed.

    Raises:
        NodeError: It failed.
    """
    done = subprocess.run(
        ["nsenter", "--target", str(inner.pid), *namespaces, "--", *command],
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        message = f"{' '.join(command)}: {done.stderr.strip()[-1000:]}"
        raise NodeError(message)
    return done.stdout


def init_process(state: State, name: str) -> Process | None:
    """A node's process 1, if it runs."""
    try:
        return identify(int((state.node(name) / "pid").read_text()))
    except (FileNotFoundError, ValueError):
        return None


def require_init(state: State, name: str) -> Process:
    """A node's process 1.

    Raises:
        NodeError: The node does not run.
    """
    inner = init_process(state, name)
    if inner is None:
        message = f"node {name} does not run"
        raise NodeError(message)
    return inner


def wait_runtime(state: State, name: str) -> None:
    """Wait until a node's containerd listens.

    Raises:
        NodeError: It does not.
    """
    inner = require_init(state, name)
    socket = Path(f"/proc/{inner.pid}/root{CONTAINERD_SOCKET}")
    deadline = time.monotonic() + INIT_WITHIN
    while not socket.exists():
        if not inner.alive() or time.monotonic() > deadline:
            message = f"containerd of node {name} does not listen: see {state.node(name) / 'log/containerd.log'}"
            raise NodeError(message)
        time.sleep(0.02)


def load_image(state: State, name: str, binaries: Path, archive: Path) -> None:
    """Import a docker or OCI archive into a node's containerd.

    Raises:
        NodeError: The import failed.
    """
    inner = require_init(state, name)
    wait_runtime(state, name)
    command = [
        "nsenter", "--target", str(inner.pid), "--mount", "--", str(binaries / "ctr"),
        "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import", "--local", "-",
    ]  # fmt: skip
    with archive.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, check=False, timeout=IMPORT_TIMEOUT)
    if done.returncode != 0:
        message = f"import of {archive} into {name}: {done.stderr.decode('utf-8', 'replace').strip()[-1000:]}"
        raise NodeError(message)


def crash(state: State, key: str, name: str) -> None:
    """Kill all of a node at once, as a power cut does; its disk stays."""
    cgroups.freeze(key, name, frozen=False)
    kill([require_init(state, name)])
    cgroups.remove(key, name)


def partition(topology: Topology, name: str, *, cut: bool) -> None:
    """Cut a node's only link, or mend it.

    Raises:
        NodeError: The link is not there.
    """
    try:
        ip("link", "set", topology.link(name), "down" if cut else "up")
    except HostError as error:
        message = f"node {name} has no link: {error}"
        raise NodeError(message) from error


def known(state: State) -> Topology:
    """The topology of a cluster that is up.

    Raises:
        StateError: There is none, or it is an API server alone.
    """
    try:
        return Topology.from_json(state.read("topology"))
    except StateError as error:
        message = f"cluster {state.name!r} has no nodes: {error}"
        raise StateError(message) from error
