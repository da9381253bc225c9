"""The cgroups of a cluster, in every mounted hierarchy: version 1, hybrid, or version 2 alone.

`PARENT/KEY/control` holds the control plane and `PARENT/KEY/NODE/sys` a node's daemons; the kubelet makes its pods'
groups beside `sys`. What is in them is the cluster's, so `down` needs no list of processes.
"""

import errno
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kind.native.processes import Process, identify

PARENT = "kmip-native"
# Controllers a kubelet needs below its root in version 2; those the kernel does not offer are left out.
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy; `managed` marks version 2 as the only one, where controllers must be handed down."""

    root: Path
    version: int
    managed: bool

    def group(self, *parts: str) -> Path:
        """The folder of a group below the common parent."""
        return self.root.joinpath(PARENT, *parts)


def hierarchies(mounts: str | None = None) -> list[Hierarchy]:
    """The hierarchies of `/proc/mounts` (or the given text of that form), each once."""
    text = Path("/proc/mounts").read_text() if mounts is None else mounts
    found: dict[Path, int] = {}
    for line in text.splitlines():
        _, mountpoint, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"}:
            found[Path(mountpoint)] = 1 if kind == "cgroup" else 2
    alone = all(version == 2 for version in found.values())
    return [Hierarchy(root, version, managed=alone) for root, version in sorted(found.items())]


def create(key: str, *parts: str) -> list[Path]:
    """Make a group in every hierarchy and return their `cgroup.procs` files."""
    files = []
    for hierarchy in hierarchies():
        group = hierarchy.root
        for part in (PARENT, key, *parts):
            if hierarchy.managed:
                _hand_down(group)
            parent, group = group, group / part
            group.mkdir(exist_ok=True)
            _inherit_cpuset(parent, group)
        files.append(group / "cgroup.procs")
    return files


def processes(key: str) -> list[Process]:
    """Running processes in any group of the cluster."""
    pids: set[int] = set()
    for group in _groups(key):
        try:
            pids.update(int(line) for line in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return [process for pid in sorted(pids) if pid and (process := identify(pid)) is not None]


def freeze(key: str, node: str, *, frozen: bool) -> None:
    """Stop or continue all processes of a node."""
    for hierarchy in hierarchies():
        group = hierarchy.group(key, node)
        if (group / "freezer.state").exists():
            (group / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        elif hierarchy.managed and (group / "cgroup.freeze").exists():
            (group / "cgroup.freeze").write_text("1" if frozen else "0")


def thaw_all(key: str) -> None:
    """Continue everything: what is frozen in version 1 does not die of SIGKILL."""
    for group in sorted(_groups(key)):
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            try:
                (group / name).write_text(value)
            except OSError:
                continue


def remove(key: str, *parts: str, within: float = 10.0) -> None:
    """Remove the groups of a cluster, or of one node.

    Args:
        key: The cluster.
        parts: A node's name, or nothing.
        within: Seconds to wait for the last dead process to leave: pods of a killed node end asynchronously.

    Raises:
        TimeoutError: A group stays busy.
    """
    deadline = time.monotonic() + within
    while left := [group for group in _groups(key, *parts) if not _removed(group)]:
        if time.monotonic() > deadline:
            message = f"cgroups that cannot be removed: {[str(group) for group in left[:5]]}"
            raise TimeoutError(message)
        time.sleep(0.02)
    for hierarchy in hierarchies():
        _removed(hierarchy.group())


def remaining(key: str) -> list[str]:
    """Groups of the cluster that exist."""
    return [str(group) for group in _groups(key)]


def _groups(key: str, *parts: str) -> Iterator[Path]:
    for hierarchy in hierarchies():
        yield from _deepest_first(hierarchy.group(key, *parts))


def _deepest_first(group: Path) -> Iterable[Path]:
    if not group.is_dir():
        return
    try:
        children = [child for child in group.iterdir() if child.is_dir()]
    except OSError:
        return
    for child in children:
        yield from _deepest_first(child)
    yield group


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in {errno.EBUSY, errno.ENOTEMPTY}:
            return False
        raise
    return True


def _hand_down(group: Path) -> None:
    offered = (group / "cgroup.controllers").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in offered:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(parent: Path, group: Path) -> None:
    # In version 1 a new cpuset has no processors and no memory, and then takes no process.
    for name in ("cpuset.cpus", "cpuset.mems"):
        target = group / name
        if (parent / "tasks").exists() and target.exists() and not target.read_text().strip():
            target.write_text((parent / name).read_text())
