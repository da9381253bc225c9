"""What is measured, and how one measurement is made."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .machine import CLIENT_CORE, cpu_seconds, on_core
from .servers import BenchError, Server

_TIMEOUT = 300.0


@dataclass(frozen=True)
class Row:
    """One line of the table. ``bar``: the least ratio to PyKMIP; ``p99_bar``: the greatest ratio of the 99th percentiles."""

    title: str
    request: str
    mode: str
    connections: int
    tls: str = "1.2"
    bar: float | None = None
    p99_bar: float | None = None
    servers: tuple[str, ...] = ("pykmip", "kmipd", "bare")
    operations: int = 0


_KMIPD_ONLY = ("kmipd", "bare")

ROWS = (
    *(Row(f"Get, {n} kept", "get", "keep", n, bar=18 if n == 16 else None) for n in (1, 16, 64)),
    # With one client its own half of each handshake is most of the time: bare OpenSSL in C was measured below 3.5 there too.
    *(Row(f"connect + Get, {n}", "get", "connect", n, bar=3.5, p99_bar=0.1 if n == 64 else None) for n in (1, 16, 64)),
    *(Row(f"connect + Get, {n}, TLS 1.3", "get", "connect", n, tls="1.3", servers=_KMIPD_ONLY) for n in (1, 16, 64)),
    Row("Create, 16 kept", "create", "keep", 16, bar=8, servers=("pykmip", "kmipd")),
    Row("Locate by name of 10,000", "locate", "keep", 1, bar=1000, servers=("pykmip", "kmipd"), operations=1),
)


@dataclass(frozen=True)
class Sample:
    """One measurement. Latencies in milliseconds, ``cpu_us`` microseconds of the server's processors per operation."""

    rate: float
    p50: float
    p99: float
    cpu_us: float
    errors: int
    suite: str


class Load:
    """The load generator, on the client core."""

    def __init__(self, program: Path, seconds: float, warmup: float) -> None:
        self._program = program
        self._seconds = seconds
        self._warmup = warmup

    def command(self, server: Server, *arguments: str) -> list[str]:
        """How it is started against a server."""
        pki = server.pki
        files = ["--cert", str(pki.client), "--key", str(pki.client_key), "--ca", str(pki.ca)]
        return on_core(CLIENT_CORE, str(self._program), "--port", str(server.port), *files, *arguments)

    def measure(self, server: Server, row: Row) -> Sample:
        """Run one row."""
        arguments = ["--mode", row.mode, "--tls", row.tls, "--connections", str(row.connections)]
        arguments += ["--frame", str(server.frames[row.request])]
        if row.operations and server.name == "pykmip":
            # One takes seconds: as many as are asked for, and no warming up.
            arguments += ["--operations", str(row.operations)]
        else:
            arguments += ["--seconds", str(self._seconds), "--warmup", str(self._warmup)]
        return self._run(server, arguments)

    def fill(self, server: Server, frame: Path, counter_at: int, count: int) -> None:
        """Send ``count`` numbered requests over 16 connections."""
        arguments = ["--mode", "keep", "--connections", "16", "--frame", str(frame), "--counter-at", str(counter_at)]
        self._run(server, [*arguments, "--operations", str(count)])

    def _run(self, server: Server, arguments: list[str]) -> Sample:
        with subprocess.Popen(self.command(server, *arguments), stdout=subprocess.PIPE, text=True) as process:
            if process.stdout is None:
                raise BenchError("no output of the load generator")
            process.stdout.readline()
            before = cpu_seconds(server.process.pid)
            result = process.stdout.readline()
            spent = cpu_seconds(server.process.pid) - before
            if process.wait(_TIMEOUT) != 0 or not result:
                raise BenchError(f"the load generator failed against {server.name}: {server.log.read_text()[-1000:]}")
        found = json.loads(result)
        operations = max(found["operations"], 1)
        return Sample(
            found["operations"] / found["seconds"],
            found["p50_ms"],
            found["p99_ms"],
            spent / operations * 1e6,
            found["errors"],
            found["suite"],
        )
