"""Running host programs, and getting the ones that are missing from the host's own package manager."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from kind.images.errors import ImageError
from kind.images.progress import step

# Lines of a failed program's output to show: enough for apt's and pip's last words.
_TAIL = 15


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its standard output.

    Raises:
        ImageError: it is not installed, or it failed; with the last lines it wrote.
    """
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
    except FileNotFoundError as error:
        raise ImageError(f"{argv[0]} is not installed") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL:])
        raise ImageError(f"{argv[0]} failed with code {done.returncode}:\n{tail}")
    return done.stdout


def need(programs: Mapping[str, str]) -> None:
    """Install the apt packages of the programs that are not on the path.

    Args:
        programs: program name to the Debian package that holds it.

    Raises:
        ImageError: something is missing and this user may not install it.
    """
    packages = sorted({package for name, package in programs.items() if shutil.which(name) is None})
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ImageError(f"install these packages first: {' '.join(packages)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    with step(f"install {' '.join(packages)}"):
        try:
            run(install, environment)
        except ImageError:
            # The machine's package lists may be old or absent.
            run(["apt-get", "update"], environment)
            run(install, environment)
