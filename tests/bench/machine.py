"""Processes and cores: what was used, by whom."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

SERVER_CORE, CLIENT_CORE = 0, 1

_TICK = os.sysconf("SC_CLK_TCK")


def on_core(core: int, *command: str) -> list[str]:
    """The command, held to one core."""
    return ["taskset", "-c", str(core), *command]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in thread.read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, shared pages counted once (proportional set size), in MB."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024
