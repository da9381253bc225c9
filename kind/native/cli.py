"""The command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kind.native import apiserver, cgroups, cluster, controlplane, host, node, teardown
from kind.native.agent.main import supervise
from kind.native.builder import BuildError, ensure_binaries, ensure_optional, prune
from kind.native.cluster import ClusterError
from kind.native.controlplane import ControlPlaneError
from kind.native.host import HostError
from kind.native.hostpackages import API_NEEDS, BUILD_NEEDS, CLUSTER_NEEDS, MissingError, ensure
from kind.native.images import ensure_images
from kind.native.node import NodeError
from kind.native.pins import OPTIONAL_TOOLS, bin_folder
from kind.native.pki import PkiError
from kind.native.progress import Progress
from kind.native.state import DEFAULT_NAME, State, StateError
from kind.native.topology import TopologyError, default_nodes, read_nodes

_EXPECTED = (
    BuildError, ClusterError, ControlPlaneError, HostError, MissingError, NodeError, PkiError, StateError,
    TopologyError, TimeoutError, PermissionError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when all of it happened."""
    options = _parser().parse_args(arguments)
    if options.command == "agent":
        return supervise(Path(options.folder))
    progress = Progress()
    try:
        return _run(options, progress)
    except _EXPECTED as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kind/native", description="Kubernetes from upstream parts, without Docker.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--name", default=DEFAULT_NAME, help="the cluster (default: %(default)s)")
        return made

    command("setup", "install the Debian packages that building and running need")
    build = command("build", "build all binaries and images into the cache")
    build.add_argument("--prune", action="store_true", help="then remove Go's own caches and binaries of other pins")
    build.add_argument(
        "--with", dest="extra", choices=[tool.folder for tool in OPTIONAL_TOOLS],
        help="build this alone, which no cluster needs, and print its folder (takes minutes)",
    )  # fmt: skip
    command("bin", "print the folder of kubectl, helm, ctr and the others")
    up = command("up", "start a cluster; does nothing when it is up")
    shape = up.add_mutually_exclusive_group()
    shape.add_argument("--nodes", type=int, default=3, help="workers (default: %(default)s)")
    shape.add_argument("--topology", type=Path, help="JSON file with nodes, regions and zones")
    shape.add_argument("--apiserver-only", action="store_true", help="etcd and kube-apiserver on loopback, no nodes")
    command("down", "remove everything of a cluster and verify that nothing is left")
    command("status", "say what runs")
    command("kubeconfig", "print the path of the administrator's kubeconfig")
    command("load", "import docker or OCI archives into every node").add_argument("archives", type=Path, nargs="+")
    fault = command("node", "a node's faults: kill and start, freeze and thaw, partition and heal")
    fault.add_argument("action", choices=["kill", "start", "freeze", "thaw", "partition", "heal"])
    fault.add_argument("node")
    command("restart", "kill a part of the control plane and start it again").add_argument(
        "part", choices=["etcd", "apiserver", "controller-manager", "scheduler"]
    )
    agent = commands.add_parser("agent", help="(started by `up`)")
    agent.add_argument("folder")
    return parser


def _run(options: argparse.Namespace, progress: Progress) -> int:
    state = State.of(options.name)
    match options.command:
        case "setup":
            ensure((*BUILD_NEEDS, *API_NEEDS, *CLUSTER_NEEDS), progress)
        case "build":
            print(_build(options, progress))
        case "bin":
            print(ensure_binaries(progress))
        case "up":
            _up(options, state, progress)
        case "down":
            return _down(state, progress)
        case "status":
            return _status(state)
        case "kubeconfig":
            print(_existing(state).kubeconfig)
        case "load":
            names = [each.name for each in node.known(state).nodes]
            with progress.step(f"load {len(options.archives)} archives into {len(names)} nodes"):
                cluster.load(state, names, controlplane.read_plane(state).binaries, options.archives)
        case "node":
            _node(state, options.action, options.node)
        case "restart":
            _restart(state, options.part, progress)
    return 0


def _build(options: argparse.Namespace, progress: Progress) -> Path:
    if options.extra:
        return ensure_optional(progress, options.extra)
    ensure_images(ensure_binaries(progress))
    if options.prune:
        prune(progress)
    return bin_folder()


def _up(options: argparse.Namespace, state: State, progress: Progress) -> None:
    if state.folder.exists():
        missing = cluster.missing_parts(state)
        if not missing:
            progress.note(f"cluster {state.name} is up")
            print(state.kubeconfig)
            return
        if cluster.repairable(state):
            cluster.repair(state, missing, progress)
            print(state.kubeconfig)
            return
        progress.note(f"cluster {state.name} is there in part (missing: {', '.join(missing)}): removing it first")
        if _down(state, progress) != 0:
            message = "what is left of the old cluster could not be removed"
            raise ClusterError(message)
    if options.apiserver_only:
        apiserver.start(state, progress)
    else:
        nodes = read_nodes(options.topology) if options.topology else default_nodes(options.nodes)
        cluster.up(state, nodes, progress)
    progress.note(f"up; next: export KUBECONFIG={state.kubeconfig} PATH={bin_folder()}:$PATH")
    print(state.kubeconfig)


def _down(state: State, progress: Progress) -> int:
    checks = teardown.down(state, progress)
    for check in checks:
        progress.note(f"{check.what}: {'none left' if not check.left else 'LEFT: ' + ', '.join(check.left)}")
    return 1 if any(check.left for check in checks) else 0


def _status(state: State) -> int:
    if not state.folder.exists():
        print(f"no cluster {state.name}")
        return 1
    running = state.processes()
    for part in cluster.parts(state):
        process = running.get(part)
        print(f"{part:24} {'pid ' + str(process.pid) if process else 'NOT RUNNING'}")
    print(f"{'kubeconfig':24} {state.kubeconfig}")
    print(f"{'logs':24} {state.logs} and nodes/*/log beside it")
    return 0 if not cluster.missing_parts(state) else 1


def _node(state: State, action: str, name: str) -> None:
    topology, key = node.known(state), cluster.key_of(state)
    topology.index(name)
    match action:
        case "kill":
            node.crash(state, key, name)
        case "start":
            cluster.start_node_again(state, name)
        case "freeze" | "thaw":
            cgroups.freeze(key, name, frozen=action == "freeze")
        case "partition" | "heal":
            node.partition(topology, name, cut=action == "partition")


def _restart(state: State, part: str, progress: Progress) -> None:
    joins = cgroups.create(cluster.key_of(state), "control") if host.slot_of(state.folder) is not None else []
    with progress.step(f"restart {part}"):
        controlplane.restart(state, part, joins)


def _existing(state: State) -> State:
    if not state.kubeconfig.exists():
        message = f"no cluster {state.name}: run `up`"
        raise StateError(message)
    return state
