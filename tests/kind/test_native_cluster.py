"""One real cluster: up, what it promises, faults, down; the host before and after."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kind.native import cgroups, host
from kind.native import cluster as clusters
from kind.native.images import COREDNS, PROBE, docker_archive
from kind.native.nodeconfig import SHARED
from kind.native.processes import identify, kill, marked
from kind.native.state import State

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROGRAM = Path(__file__).resolve().parents[2] / "kind" / "native"
NAME = "kind-e2e"
SETTINGS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv4/fib_multipath_hash_policy",
    "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes", "fs/inotify/max_user_instances", "fs/inotify/max_user_watches",
)  # fmt: skip
FOLDERS = (
    "/run",
    "/var/lib",
    "/var/log",
    "/etc",
    "/etc/cni",
    "/opt",
    "/usr/libexec",
    "/var/lib/kubelet",
    "/var/lib/cni",
)


# What parts of a cluster call their files and mounts; other programs may mount and write at the same time.
RELATED = re.compile(
    r"kube|cni|containerd|kmip|runc|netns|nri|etcd|coredns|xtables|pods|/opt/|overlay.*native", re.ASCII
)


def output(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def others() -> dict[str, int]:
    """Folder and slot of clusters that run beside this test's."""
    try:
        record = json.loads((host.RECORD / "host.json").read_text())["clusters"]
    except FileNotFoundError:
        return {}
    return {folder: int(slot) for folder, slot in record.items() if Path(folder).name != NAME}


def host_state() -> set[str]:
    """Everything of the host that a cluster touches, one line per thing; what belongs to other clusters left out."""
    lines = [f"link {name}" for name in host.links()]
    lines += [f"route {line}" for line in output("ip", "route", "show", "table", "all") if " dev lo" not in line]
    lines += [f"rule {line}" for line in output("ip", "rule")]
    lines += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if RELATED.search(line)]
    lines += [f"cgroup {path}" for each in cgroups.hierarchies() for path in each.group().glob("**/")]
    for program in ("iptables-save", "ip6tables-save"):
        lines += [f"{program} {line.split('[')[0]}" for line in output(program) if not line.startswith("#")]
    paths = (path for folder in FOLDERS if Path(folder).is_dir() for path in Path(folder).iterdir())
    lines += [f"file {path}" for path in paths if RELATED.search(str(path))]
    beside = others()
    if not beside:
        # While another cluster runs these stay as that one needs them.
        lines += [f"setting {name}={Path('/proc/sys', name).read_text().strip()}" for name in SETTINGS]
        lines += [f"setting {point} {point.exists()}" for point in host.MOUNT_POINTS]
    keys = [clusters.key_of(State(Path(folder))) for folder in beside]
    networks = [rf"\bkn{slot}\b|\b10\.(250\.{slot}|{244 - slot}|{96 + slot})\." for slot in beside.values()]
    foreign = re.compile("|".join([*map(re.escape, keys), *networks, "/run/kmip-native", "cgroup .*/kmip-native/?$"]))
    return {line for line in lines if not (beside and foreign.search(line))}


def added_since(before: set[str]) -> set[str]:
    """What is new on the host; settings count only when no other cluster held them at either time."""
    held = not any(line.startswith("setting") for line in before)
    return {line for line in host_state() - before if not (held and line.startswith("setting"))}


def until(condition: Callable[[], object], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.1)


class Cluster:
    """The command line and kubectl of one cluster."""

    def __init__(self, root: Path) -> None:
        self.environment = os.environ | {"KMIP_STATE": str(root)}
        self.state = State(root / NAME)

    def native(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROGRAM), arguments[0], "--name", NAME, *arguments[1:]]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def succeed(self, *arguments: str) -> str:
        done = self.native(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        binaries = json.loads((self.state.folder / "control-plane.json").read_text())["binaries"]
        command = [f"{binaries}/kubectl", f"--kubeconfig={self.state.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def apply(self, *resources: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": resources}))

    def probe(self, pod: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.try_kubectl("exec", pod, "--", "/probe", *arguments)

    def address(self, service: str) -> str:
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        until(lambda: self.kubectl("get", "service", service, "-o", path))
        return self.kubectl("get", "service", service, "-o", path)

    def nodes(self, status: str) -> set[str]:
        path = '{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        lines = self.kubectl("get", "nodes", "-o", f"jsonpath={path}").splitlines()
        return {line.split()[0] for line in lines if line.split()[1] == status}


def pod(name: str, image: str = PROBE, claim: str = "", **labels: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "probe",
        "image": image,
        "args": ["serve", ":8080"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 10001, "runAsNonRoot": True, "fsGroup": 10001},
        "containers": [container],
        "volumes": [{"name": "shared", "hostPath": {"path": SHARED, "type": "Directory"}}],
    }
    container["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    if claim:
        container["volumeMounts"].append({"name": "data", "mountPath": "/data"})
        spec["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def pod_on(node: str, name: str, **labels: str) -> dict[str, Any]:
    made = pod(name, **labels)
    made["spec"]["nodeName"] = node
    return made


def service(name: str, **spec: str) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "probe"}, "ports": ports, **spec},
    }


def volume_claim(name: str, storage_class: str = "") -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    chosen = {"storageClassName": storage_class} if storage_class else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**spec, **chosen},
    }


@pytest.fixture(scope="module")
def before() -> set[str]:
    return host_state()


@pytest.fixture(scope="module")
def cluster(before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("native"))
    try:
        kubeconfig = made.succeed("up")
        assert kubeconfig == str(made.state.kubeconfig)
        made.apply(*(pod_on(f"worker{i}", f"probe{i}", app="probe") for i in (1, 2, 3)), pod("client"))
        made.kubectl("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
        yield made
    finally:
        made.native("down")


def test_nodes_stand_in_two_regions_and_three_zones_and_up_is_idempotent(cluster: Cluster) -> None:
    columns = "custom-columns=:metadata.labels.topology\\.kubernetes\\.io/zone"
    zones = cluster.kubectl("get", "nodes", "--no-headers", "-o", columns).split()
    assert zones == ["eu-de-1", "eu-de-2", "eu-nl-1"]
    assert "is up" in cluster.native("up").stderr
    assert cluster.native("status").returncode == 0


def test_names_resolve_and_the_outside_does_not_exist(cluster: Cluster) -> None:
    cluster.apply(service("inside"))
    until(lambda: cluster.probe("client", "get", "http://inside.default.svc/").returncode == 0)
    assert cluster.probe("client", "resolve", "kubernetes.default.svc.cluster.local").stdout.strip()
    assert cluster.probe("client", "resolve", "www.example.com").returncode != 0


def test_a_load_balancer_is_reached_from_the_host_and_its_address_is_taken_back(cluster: Cluster) -> None:
    cluster.apply(
        service("outer", type="LoadBalancer"), service("near", type="LoadBalancer", externalTrafficPolicy="Local")
    )
    outer, near = cluster.address("outer"), cluster.address("near")
    assert outer != near

    def answer(address: str) -> list[str]:
        done = subprocess.run(
            ["curl", "-sS", "-m", "3", f"http://{address}/"], capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    until(lambda: answer(outer))
    until(lambda: answer(near))
    # With policy Local the pod sees the client itself: the host's address on the nodes' bridge.
    assert answer(near)[1] == f"10.250.{host.slot_of(cluster.state.folder)}.1"
    until(lambda: len({answer(outer)[0] for _ in range(10)}) > 1)
    cluster.kubectl("delete", "service", "outer", "near")
    until(lambda: not [line for line in host.routes() if line.startswith((outer, near))])


def test_claims_come_and_go_with_their_folders(cluster: Cluster) -> None:
    volumes = cluster.state.folder / "nodes"
    for _ in range(5):
        cluster.apply(volume_claim("data"), pod("writer", claim="data"))
        cluster.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=30s")
        assert cluster.probe("writer", "write", "/data/file", "text").returncode == 0
        assert cluster.probe("writer", "read", "/data/file").stdout.strip() == "text"
        cluster.kubectl("delete", "pod/writer", "pvc/data", "--timeout=30s")
        until(lambda: not cluster.kubectl("get", "pv", "-o", "name"))
        assert not list(volumes.glob("*/volumes/*"))


def test_retained_volumes_stay(cluster: Cluster) -> None:
    kept = json.loads(cluster.kubectl("get", "storageclass", "standard", "-o", "json"))
    kept = {
        "apiVersion": kept["apiVersion"], "kind": "StorageClass", "metadata": {"name": "kept"},
        "provisioner": kept["provisioner"], "volumeBindingMode": kept["volumeBindingMode"], "reclaimPolicy": "Retain",
    }  # fmt: skip
    cluster.apply(kept, volume_claim("keep", "kept"), pod("writer", claim="keep"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=30s")
    assert cluster.probe("writer", "write", "/data/file", "text").returncode == 0
    cluster.kubectl("delete", "pod/writer", "pvc/keep", "--timeout=30s")
    phase = "jsonpath={.items[*].status.phase}"
    until(lambda: cluster.kubectl("get", "pv", "-o", phase) == "Released")
    (file,) = cluster.state.folder.glob("nodes/*/volumes/*/file")
    assert file.read_text() == "text"
    cluster.kubectl("delete", "pv", "--all", "--timeout=30s")


def test_the_shared_folder_is_one_on_all_nodes(cluster: Cluster) -> None:
    assert cluster.probe("probe1", "write", "/shared/token", "text").returncode == 0
    assert cluster.probe("probe3", "read", "/shared/token").stdout.strip() == "text"


def test_network_policies_block_and_allow(cluster: Cluster) -> None:
    address = cluster.kubectl("get", "pod", "probe2", "-o", "jsonpath={.status.podIP}")
    own = cluster.kubectl("get", "pod", "client", "-o", "jsonpath={.status.podIP}")
    url = f"http://{address}:8080/"

    def policy(sources: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "guard"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "probe"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": sources, "ports": [{"port": "http"}]}],
            },
        }

    def reached() -> bool:
        return cluster.probe("client", "get", url).returncode == 0

    assert reached()
    cluster.apply(policy([{"podSelector": {"matchLabels": {"may": "enter"}}}]))
    until(lambda: not reached())
    assert subprocess.run(["curl", "-s", "-m", "2", url], check=False, capture_output=True).returncode == 28
    cluster.kubectl("label", "pod", "client", "may=enter")
    until(reached)
    cluster.kubectl("label", "pod", "client", "may-")
    until(lambda: not reached())
    cluster.apply(policy([{"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"{own}/32"]}}]))
    until(lambda: subprocess.run(["curl", "-s", "-m", "2", url], check=False, capture_output=True).returncode == 0)
    assert not reached()
    cluster.kubectl("delete", "networkpolicy", "guard")
    until(reached)


def test_images_are_loaded_into_every_node(cluster: Cluster, tmp_path: Path) -> None:
    binary = Path(json.loads((cluster.state.folder / "control-plane.json").read_text())["binaries"]) / "probe"
    archive = tmp_path / "own.tar"
    archive.write_bytes(docker_archive("localhost/own:1", "probe", binary.read_bytes()))
    cluster.succeed("load", str(archive))
    pods = []
    for i in (1, 2, 3):
        made = pod_on(f"worker{i}", f"own{i}")
        made["spec"]["containers"][0] |= {"image": "localhost/own:1", "imagePullPolicy": "Never"}
        pods.append(made)
    cluster.apply(*pods)
    cluster.kubectl("wait", "--for=condition=Ready", "pods", "own1", "own2", "own3", "--timeout=30s")
    assert COREDNS in cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names}")


def test_writes_survive_restarts_of_the_control_plane(cluster: Cluster) -> None:
    for part in ("apiserver", "etcd"):
        cluster.kubectl("create", "configmap", f"before-{part}")
        cluster.succeed("restart", part)
        cluster.kubectl("get", "configmap", f"before-{part}")


def test_a_dead_node_is_noticed_and_comes_back_on_its_disk(cluster: Cluster) -> None:
    cluster.succeed("node", "kill", "worker2")
    until(lambda: "worker2" in cluster.nodes("Unknown"))
    cluster.succeed("node", "start", "worker2")
    until(lambda: len(cluster.nodes("True")) == 3)
    until(lambda: cluster.probe("probe2", "resolve", "kubernetes.default").returncode == 0)


@pytest.mark.parametrize(("fault", "cure"), [("freeze", "thaw"), ("partition", "heal")])
def test_a_silent_node_is_noticed_and_comes_back(cluster: Cluster, fault: str, cure: str) -> None:
    cluster.succeed("node", fault, "worker3")
    until(lambda: "worker3" in cluster.nodes("Unknown"))
    cluster.succeed("node", cure, "worker3")
    until(lambda: len(cluster.nodes("True")) == 3, within=60)


def test_the_agent_is_started_again_when_it_dies(cluster: Cluster) -> None:
    parent = cluster.state.process("agent")
    assert parent is not None
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    kill([process for pid in children if (process := identify(int(pid))) is not None])
    cluster.apply(service("after", type="LoadBalancer"))
    assert cluster.address("after")
    cluster.kubectl("delete", "service", "after")


def test_up_mends_what_was_killed_and_keeps_the_data(cluster: Cluster) -> None:
    cluster.kubectl("create", "configmap", "kept")
    for part in ("etcd", "apiserver", "scheduler", "node-worker1"):
        process = cluster.state.process(part)
        assert process is not None
        kill([process])
    assert cluster.native("status").returncode == 1
    cluster.succeed("up")
    assert cluster.native("status").returncode == 0
    cluster.kubectl("get", "configmap", "kept")
    cluster.apply(pod_on("worker1", "mended"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/mended", "--timeout=60s")


def test_down_removes_everything_whatever_was_killed_before(cluster: Cluster, before: set[str]) -> None:
    for part in ("etcd", "node-worker1", "agent"):
        process = cluster.state.process(part)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    cluster.succeed("node", "freeze", "worker2")
    done = cluster.native("down")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("none left") == 9
    assert marked(str(cluster.state.folder)) == []
    assert added_since(before) == set()
    again = cluster.native("down")
    assert again.returncode == 0, again.stderr
    assert added_since(before) == set()


def test_down_removes_what_a_killed_up_left(before: set[str], tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    command = [sys.executable, str(PROGRAM), "up", "--name", NAME, "--nodes", "2"]
    process = subprocess.Popen(command, env=cluster.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (cluster.state.node("worker1") / "pid").exists())
    finally:
        process.kill()
        process.wait()
    assert marked(str(cluster.state.folder))
    done = cluster.native("down")
    assert done.returncode == 0, done.stderr
    assert marked(str(cluster.state.folder)) == []
    assert added_since(before) == set()
