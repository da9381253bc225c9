"""What clusters share on the host: kernel settings, mount points and slots; written down so that the last one undoes it."""

import fcntl
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kind.native.topology import Topology, free_slot

# Like kernel settings, the record does not outlive a reboot.
RECORD = Path("/run/kmip-native")
# Folders over which each node mounts its own.
MOUNT_POINTS = (Path("/var/lib/kubelet"), Path("/var/lib/cni"), Path("/var/lib/kmip-shared"))
# Settings `up` makes: value, or a minimum. Multipath by ports spreads one client's connections over nodes, and three
# kubelets with their containers need more than 128 inotify instances.
_WANTED = {"net/ipv4/ip_forward": 1, "net/ipv4/fib_multipath_hash_policy": 1}
_AT_LEAST = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 524288}
# Settings a kubelet makes for the whole machine.
_KUBELETS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
             "kernel/keys/root_maxbytes")  # fmt: skip


# Chains that kubelets, kube-proxy, CNI plug-ins and the network policies make; all live in nodes' namespaces.
_CHAINS = re.compile(r"^:(KUBE-|CNI-|KN-)", re.MULTILINE)


class HostError(Exception):
    """A command that changes the host failed."""


def ip(*arguments: str) -> str:
    """Change or show the network with `ip`; returns what it printed.

    Raises:
        HostError: It failed.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"ip {' '.join(arguments)}: {done.stderr.strip()}"
        raise HostError(message)
    return done.stdout


def links() -> list[str]:
    """Names of the links of the root network namespace."""
    return [entry["ifname"] for entry in json.loads(ip("-json", "link", "show"))]


def routes() -> list[str]:
    """The routes of the main table, one line each."""
    return ip("route", "show").splitlines()


def claim(folder: Path) -> int:
    """Enter a cluster into the host's record, make the shared settings, and return its slot."""
    with _locked():
        record = _read()
        if str(folder) not in record["clusters"]:
            taken = [f"kn{slot}" for slot in record["clusters"].values()]
            record["clusters"][str(folder)] = free_slot([*links(), *taken])
        for name in (*_WANTED, *_AT_LEAST, *_KUBELETS):
            current = _sysctl(name)
            if current is not None:
                record["sysctls"].setdefault(name, current)
        for point in MOUNT_POINTS:
            if not point.exists():
                record["made"].append(str(point))
        _write(record)
        for point in MOUNT_POINTS:
            point.mkdir(parents=True, exist_ok=True)
        for name, value in _WANTED.items():
            _set_sysctl(name, str(value))
        for name, least in _AT_LEAST.items():
            current = _sysctl(name)
            if current is not None and int(current) < least:
                _set_sysctl(name, str(least))
        slot: int = record["clusters"][str(folder)]
        return slot


def slot_of(folder: Path) -> int | None:
    """The slot of a cluster that is in the host's record."""
    found = _read()["clusters"].get(str(folder))
    return None if found is None else int(found)


def release(folder: Path) -> list[str]:
    """Take a cluster out of the record; the last one restores the host. Returns what could not be restored."""
    wrong: list[str] = []
    with _locked():
        record = _read()
        record["clusters"].pop(str(folder), None)
        if record["clusters"]:
            _write(record)
            return wrong
        for name, value in record["sysctls"].items():
            _set_sysctl(name, value)
            if _sysctl(name) != value:
                wrong.append(f"sysctl {name}")
        for made in record["made"]:
            try:
                Path(made).rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                wrong.append(f"{made}: {error.strerror}")
        (RECORD / "host.json").unlink(missing_ok=True)
        (RECORD / "lock").unlink(missing_ok=True)
        RECORD.rmdir()
    return wrong


def make_network(topology: Topology) -> None:
    """Make the bridge and the routes that keep stray packets to pods and Services inside the host."""
    bridge = topology.bridge
    ip("link", "add", bridge, "type", "bridge")
    ip("address", "add", f"{topology.gateway}/{topology.node_network.prefixlen}", "dev", bridge)
    ip("link", "set", bridge, "up")
    for network in (topology.pod_network, topology.service_network):
        ip("route", "add", "unreachable", str(network))
    for node in topology.nodes:
        ip("route", "add", topology.pods(node.name), "via", topology.address(node.name), "dev", bridge)


def remove_network(topology: Topology) -> None:
    """Remove the bridge, the nodes' links and all routes; what is gone already is fine."""
    for name in links():
        if _of_slot(name, topology):
            delete_link(name)
    for network in (topology.pod_network, topology.service_network):
        if f"unreachable {network}" in " ".join(routes()):
            ip("route", "delete", "unreachable", str(network))


def remaining_network(topology: Topology) -> tuple[list[str], list[str]]:
    """Links and routes of the cluster that still exist."""
    networks = (str(topology.pod_network), str(topology.service_network), str(topology.node_network))
    left = [line for line in routes() if topology.bridge in line.split() or any(net in line for net in networks)]
    return [name for name in links() if _of_slot(name, topology)], left


def chains() -> set[str]:
    """The host's own iptables chains of the kinds a cluster makes, as `family:chain`."""
    found = set()
    for program in ("iptables-save", "ip6tables-save"):
        try:
            done = subprocess.run([program], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        found |= {f"{program}{line.split()[0]}" for line in done.stdout.splitlines() if _CHAINS.match(line)}
    return found


def delete_link(name: str) -> None:
    """Delete a link; one that goes by itself meanwhile is fine."""
    try:
        ip("link", "delete", name)
    except HostError:
        # The kernel removes a link whose other end's namespace died, in its own time.
        if name in links():
            raise


def _of_slot(name: str, topology: Topology) -> bool:
    return name == topology.bridge or name.startswith(f"{topology.bridge}-")


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _set_sysctl(name: str, value: str) -> None:
    if _sysctl(name) != value:
        Path("/proc/sys", name).write_text(value)


def _read() -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((RECORD / "host.json").read_text())
    except FileNotFoundError:
        record = {"clusters": {}, "sysctls": {}, "made": []}
    return record


def _write(record: dict[str, Any]) -> None:
    scratch = RECORD / "host.json.new"
    scratch.write_text(json.dumps(record, indent=1))
    scratch.replace(RECORD / "host.json")


@contextmanager
def _locked() -> Iterator[None]:
    while True:
        RECORD.mkdir(mode=0o700, exist_ok=True)
        with (RECORD / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The last cluster removes the record: a lock on the removed file locks nobody out.
            if _same_file(lock.fileno(), RECORD / "lock"):
                yield
                return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return path.stat().st_ino == Path(f"/proc/self/fd/{descriptor}").stat().st_ino
    except FileNotFoundError:
        return False
