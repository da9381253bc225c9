"""Takes a cluster down, whatever is left of it, and verifies that nothing is."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kind.native import cgroups, host
from kind.native.cluster import key_of
from kind.native.processes import Process, kill, marked
from kind.native.progress import Progress
from kind.native.state import State, StateError
from kind.native.topology import Topology

# A kill ends hundreds of processes whose memory and mounts the kernel frees one after the other.
GONE_WITHIN = 30.0


@dataclass(frozen=True)
class Check:
    """One class of things a cluster makes, and what of it is still there."""

    what: str
    left: tuple[str, ...]


def down(state: State, progress: Progress) -> list[Check]:
    """Kill, remove and restore everything of a cluster; works on half-made ones and on none.

    Returns:
        One check per class of things; a non-empty `left` means that something could not be removed.
    """
    key, slot = key_of(state), host.slot_of(state.folder)
    chains_before = _recorded_chains(state)
    namespaces = _namespaces(_processes(state, key))
    with progress.step("kill processes"):
        _kill_all(state, key)
    with progress.step("remove mounts, cgroups, links, routes, files"):
        for mountpoint in reversed(_mounts(state)):
            subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)
        try:
            cgroups.remove(key)
        except TimeoutError as error:
            progress.note(str(error))
        topology = None if slot is None else Topology(slot, ())
        if topology is not None:
            host.remove_network(topology)
        state.remove()
        unrestored = [] if slot is None else host.release(state.folder)
    links, routes = ([], []) if topology is None else host.remaining_network(topology)
    return [
        Check("processes", tuple(str(process.pid) for process in _processes(state, key))),
        Check("mounts", tuple(_mounts(state))),
        Check("network namespaces", tuple(sorted(namespaces & _namespaces(None)))),
        Check("links", tuple(links)),
        Check("routes", tuple(routes)),
        Check("iptables chains", tuple(sorted(host.chains() - chains_before))),
        Check("cgroups", tuple(cgroups.remaining(key))),
        Check("files", (str(state.folder),) if state.folder.exists() else ()),
        Check("kernel settings and mount points", tuple(unrestored)),
    ]


def _recorded_chains(state: State) -> set[str]:
    try:
        return set(state.read("host-chains"))
    except StateError:
        # A cluster that never got that far has changed nothing.
        return host.chains()


def _kill_all(state: State, key: str) -> None:
    deadline = time.monotonic() + GONE_WITHIN
    while found := _processes(state, key):
        cgroups.thaw_all(key)
        kill(found, within=GONE_WITHIN)
        if time.monotonic() > deadline:
            message = f"processes keep coming: {[process.pid for process in found]}"
            raise TimeoutError(message)


def _processes(state: State, key: str) -> list[Process]:
    return list({*marked(str(state.folder)), *cgroups.processes(key), *state.processes().values()})


def _mounts(state: State) -> list[str]:
    prefix = str(state.folder)
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return [point for point in points if point == prefix or point.startswith(f"{prefix}/")]


def _namespaces(processes: list[Process] | None) -> set[str]:
    pids = [str(process.pid) for process in processes] if processes is not None else None
    if pids is None:
        pids = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    own = str(Path("/proc/self/ns/net").readlink())
    found = set()
    for pid in pids:
        try:
            found.add(str(Path(f"/proc/{pid}/ns/net").readlink()))
        except OSError:
            continue
    return found - {own}
