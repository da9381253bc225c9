"""Runs one program in an unpacked image the way a strict pod would: read-only root, any uid, no privileges, no network.

Started by :mod:`kind.images.verify` inside fresh mount, process, network and IPC namespaces, as root:
``sandbox.py ROOT UID ENVIRONMENT PROGRAM ARGUMENT...``, with the environment as a JSON object. Volumes (memory file systems
of the uid) are at /tmp, /mnt and /dev/shm.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38  # prctl(2)
_DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def prepare(root: Path, uid: int) -> None:
    """Mount the root read-only, and what a container runtime adds."""
    _mount("--make-rprivate", "/")
    _mount("--bind", str(root), str(root))
    _mount("-t", "proc", "proc", str(root / "proc"))
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root / "dev"))
    os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    (root / "dev/shm").mkdir()
    for name in ("tmp", "mnt", "dev/shm"):
        _mount("-t", "tmpfs", "-o", f"mode=700,uid={uid},gid={uid}", "tmpfs", str(root / name))
    os.umask(0o022)
    _mount("-o", "remount,bind,ro", str(root))


def main() -> None:
    """Enter the image and become the program."""
    root, uid, environment, *argv = sys.argv[1:]
    prepare(Path(root), int(uid))
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError("prctl: cannot give up new privileges")
    os.execve(argv[0], argv, json.loads(environment))


if __name__ == "__main__":
    main()
