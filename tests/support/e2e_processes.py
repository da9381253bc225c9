"""Processes of pods as the machine sees them, and their ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kind.native.processes import Process, identify


def of_pod(uid: str, program: str) -> list[Process]:
    """The running processes of a pod whose command line has ``program`` as a path's last element among its first words."""
    marks = {uid, uid.replace("-", "_")}
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            groups = (folder / "cgroup").read_text()
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(mark in groups for mark in marks) and any(Path(word).name == program for word in words[:4]):
            process = identify(int(folder.name))
            if process is not None:
                found.append(process)
    return found


def kill_pod_process(uid: str, program: str) -> None:
    """End a pod's program with SIGKILL."""
    processes = of_pod(uid, program)
    assert processes, f"no process {program} of pod {uid}"
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
