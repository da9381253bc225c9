"""The API alone: etcd and kube-apiserver on loopback, for tests; nothing else of the machine is touched.

Several may run at once. No controller runs: namespaces stay Terminating, nothing collects garbage, ServiceAccounts
get no tokens, pods are not scheduled.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kind.native import controlplane, hostpackages, pki
from kind.native.builder import ensure_binaries
from kind.native.components import ControlPlane
from kind.native.pins import API_TOOLS
from kind.native.processes import Process, kill
from kind.native.progress import Progress
from kind.native.state import State

SERVICE_NETWORK = "10.96.0.0/24"
# Ports are chosen free and taken a moment later: another program may be faster, so try again.
ATTEMPTS = 3
# kubectl ends by itself; this only stops one that hangs.
KUBECTL_TIMEOUT = 60.0


@dataclass(frozen=True)
class ApiServer:
    """A running API server: its kubeconfig, certificates and binaries."""

    state: State
    plane: ControlPlane

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.state.kubeconfig

    @property
    def audit_log(self) -> Path:
        """One JSON line per write request (metadata only)."""
        return self.plane.audit_log

    @property
    def binaries(self) -> Path:
        """The folder with kubectl."""
        return self.plane.binaries

    def run_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator; the result whatever the exit code."""
        command = [str(self.binaries / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=KUBECTL_TIMEOUT
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return its standard output.

        Raises:
            RuntimeError: kubectl failed; the message has its standard error.
        """
        done = self.run_kubectl(*arguments, stdin=stdin)
        if done.returncode != 0:
            message = f"kubectl {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}"
            raise RuntimeError(message)
        return done.stdout

    def user_kubeconfig(self, name: str, group: str = "") -> Path:
        """A kubeconfig of another user (and group), to test access rules with."""
        stem = "user-" + "".join(letter if letter.isalnum() else "-" for letter in f"{name}-{group}")
        target = self.state.folder / f"{stem}.kubeconfig"
        if not target.exists():
            pki.make_leaf(self.state.pki, "ca", pki.Leaf(stem, name, group))
            controlplane.write_kubeconfig(self.plane, self.state, stem, target)
        return target


def start(state: State, progress: Progress, *, tied: bool = False) -> ApiServer:
    """Bring it up in an empty state folder.

    Args:
        state: Where its files go.
        progress: Where steps are printed.
        tied: Killed by the kernel when the calling thread ends.

    Raises:
        controlplane.ControlPlaneError: It does not become ready.
    """
    hostpackages.ensure(hostpackages.API_NEEDS, progress)
    binaries = ensure_binaries(progress, API_TOOLS)
    for attempt in range(ATTEMPTS):
        shutil.rmtree(state.folder, ignore_errors=True)
        state.create()
        port, etcd_port, etcd_peer_port = controlplane.free_ports(3)
        plane = ControlPlane(
            binaries, state.folder, "127.0.0.1", port, etcd_port, etcd_peer_port, SERVICE_NETWORK, workers=False
        )
        started: list[Process] = []
        try:
            started.append(controlplane.start(plane, state, "etcd", tied=tied))
            pki.make_all(state.pki, controlplane.leaves(plane, "10.96.0.1"))
            controlplane.write_files(plane, state)
            started.append(controlplane.start(plane, state, "apiserver", tied=tied))
            with progress.step(f"API server on {plane.server}"):
                controlplane.wait_ready(state, started[-1]).close()
        except BaseException as error:
            kill(started)
            if not isinstance(error, controlplane.ControlPlaneError) or attempt == ATTEMPTS - 1:
                raise
        else:
            return ApiServer(state, plane)
    raise AssertionError


@contextmanager
def running_apiserver(progress: Progress | None = None) -> Iterator[ApiServer]:
    """An API server in a temporary folder for the length of a `with` block; gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="kmip-apiserver-"))
    state = State(folder / "state")
    try:
        yield start(state, progress or Progress(quiet=True), tied=True)
    finally:
        kill(state.processes().values())
        shutil.rmtree(folder, ignore_errors=True)
