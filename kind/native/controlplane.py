"""Starts, waits for and restarts the control plane's processes."""

import http.client
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from kind.native import components, pki
from kind.native.components import ControlPlane
from kind.native.kube import ApiError, Client, kubeconfig
from kind.native.processes import MARK, Process, kill, spawn
from kind.native.state import State, StateError

# From a cold disk on two busy cores the API server has taken 20 s; a minute means it will not come.
READY_WITHIN = 60.0

_COMMANDS = {
    "etcd": components.etcd_command,
    "apiserver": components.apiserver_command,
    "controller-manager": components.controller_manager_command,
    "scheduler": components.scheduler_command,
}
_USERS = (
    ("admin", "kubernetes-admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
)


class ControlPlaneError(Exception):
    """A part that did not come up; the message names its log."""


def leaves(plane: ControlPlane, api_address: str) -> list[pki.Leaf]:
    """The control plane's certificates; `api_address` is the Service `kubernetes`."""
    names = (
        plane.host, api_address, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default",
        "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    )  # fmt: skip
    users = _USERS if plane.workers else _USERS[:1]
    return [
        pki.Leaf("apiserver", "kube-apiserver", names=tuple(dict.fromkeys(names))),
        pki.Leaf("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        *(pki.Leaf(stem, name, organization) for stem, name, organization in users),
    ]


def write_files(plane: ControlPlane, state: State) -> None:
    """Write the kubeconfigs and the audit policy, and remember the plane for later commands."""
    (state.folder / "audit-policy.json").write_text(components.audit_policy())
    for stem, _, _ in _USERS if plane.workers else _USERS[:1]:
        target = state.kubeconfig if stem == "admin" else state.folder / f"{stem}.kubeconfig"
        write_kubeconfig(plane, state, stem, target)
    state.write(
        "control-plane",
        {
            "binaries": str(plane.binaries),
            "host": plane.host,
            "port": plane.port,
            "etcd_port": plane.etcd_port,
            "etcd_peer_port": plane.etcd_peer_port,
            "service_network": plane.service_network,
            "workers": plane.workers,
        },
    )


def write_kubeconfig(plane: ControlPlane, state: State, stem: str, target: Path) -> None:
    """A kubeconfig for the certificate of that stem."""
    folder = state.pki
    target.write_text(kubeconfig(plane.server, folder / "ca.crt", folder / f"{stem}.crt", folder / f"{stem}.key"))


def read_plane(state: State) -> ControlPlane:
    """The plane written by `write_files`.

    Raises:
        StateError: There is none.
    """
    found = state.read("control-plane")
    return ControlPlane(folder=state.folder, binaries=Path(found.pop("binaries")), **found)


def start(plane: ControlPlane, state: State, part: str, *, cgroups: Iterable[Path] = (), tied: bool = False) -> Process:
    """Start `etcd`, `apiserver`, `controller-manager` or `scheduler`."""
    process = spawn(
        _COMMANDS[part](plane),
        log=state.logs / f"{part}.log",
        environment=environment(state),
        cgroups=cgroups,
        tied=tied,
    )
    state.remember(part, process)
    return process


def environment(state: State) -> Mapping[str, str]:
    """The mark by which `down` knows the cluster's processes."""
    return {MARK: str(state.folder)}


def wait_ready(state: State, process: Process, within: float = READY_WITHIN) -> Client:
    """Wait until the API server says it is ready, and return a client of it.

    Raises:
        ControlPlaneError: It ended, or is not ready in time.
    """
    client = Client(state.kubeconfig)
    deadline = time.monotonic() + within
    while True:
        try:
            client.request("GET", "/readyz")
            # The readiness answer may be older than an etcd that just went; a read asks etcd itself.
            client.get("/api/v1/namespaces/kube-system")
        except (ApiError, OSError, http.client.HTTPException) as error:
            log = state.logs / "apiserver.log"
            ended = not process.alive()
            if ended or time.monotonic() > deadline:
                client.close()
                what = "ended" if ended else f"is not ready after {within:.0f} s ({error})"
                message = f"the API server {what}: see {log}"
                raise ControlPlaneError(message) from error
            time.sleep(0.05)
        else:
            return client


def restart(state: State, part: str, cgroups: Iterable[Path] = ()) -> None:
    """Kill a part, wait until it is gone, start it again and wait until the API is ready.

    SIGKILL, because kube-apiserver lingers for more than 30 s after SIGTERM while watches are open.

    Raises:
        StateError: No such cluster.
        ControlPlaneError: It does not come back.
    """
    if part not in _COMMANDS:
        message = f"no part {part!r}: there are {', '.join(_COMMANDS)}"
        raise StateError(message)
    plane = read_plane(state)
    running = state.process(part)
    if running is not None:
        kill([running])
    started = start(plane, state, part, cgroups=cgroups)
    api = started if part == "apiserver" else state.process("apiserver")
    # Without an API server (of a cluster that is being mended) there is nothing to wait for yet.
    if api is not None:
        wait_ready(state, api).close()
    if not started.alive():
        message = f"{part} ended: see {state.logs / part}.log"
        raise ControlPlaneError(message)


def free_ports(count: int) -> list[int]:
    """Free TCP ports on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
