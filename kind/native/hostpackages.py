"""What the machine must have: commands and files, and the Debian packages that bring them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kind.native.progress import Progress

# Where the CNI plug-ins' package puts them.
CNI_PLUGINS = Path("/usr/lib/cni")


class MissingError(Exception):
    """The machine lacks something that cannot be installed here; the message names it and the remedy."""


@dataclass(frozen=True)
class Need:
    """A command (no slash) or a file, and the package that brings it."""

    what: str
    package: str

    def present(self) -> bool:
        """Whether the machine has it."""
        if "/" in self.what:
            return Path(self.what).exists()
        return shutil.which(self.what, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


BUILD_NEEDS = (
    Need("gcc", "gcc"),
    Need("pkg-config", "pkg-config"),
    Need("/usr/include/seccomp.h", "libseccomp-dev"),
)
API_NEEDS = (Need("openssl", "openssl"), Need("setpriv", "util-linux"))
CLUSTER_NEEDS = (
    *API_NEEDS,
    Need("ip", "iproute2"),
    Need("nsenter", "util-linux"),
    Need("mount", "mount"),
    Need("iptables-restore", "iptables"),
    Need(str(CNI_PLUGINS / "bridge"), "containernetworking-plugins"),
)


def ensure(needs: tuple[Need, ...], progress: Progress) -> None:
    """Install the packages of whatever is missing.

    Raises:
        MissingError: Something is missing and this is not root on a Debian-like machine, or apt failed.
    """
    missing = [need for need in needs if not need.present()]
    if not missing:
        return
    packages = sorted({need.package for need in missing})
    lacking = ", ".join(need.what for need in missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        message = f"missing: {lacking}; install the packages (Debian's names): {' '.join(packages)}"
        raise MissingError(message)
    with progress.step(f"install {' '.join(packages)}"):
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *packages)
    still = [need.what for need in missing if not need.present()]
    if still:
        message = f"still missing after installing {' '.join(packages)}: {', '.join(still)}"
        raise MissingError(message)


def require_go() -> None:
    """Check that a Go toolchain is there.

    Raises:
        MissingError: There is none.
    """
    if shutil.which("go") is None:
        message = "missing: go; install a Go toolchain, 1.26 or newer, and put it on PATH"
        raise MissingError(message)


def _apt(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Another apt may hold the lock for a while on a fresh machine.
    done = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        message = f"apt-get {arguments[0]} failed: {done.stderr.strip()[-500:]}"
        raise MissingError(message)
