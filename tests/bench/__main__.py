"""``python -m tests.bench``: run it, print the table, exit 1 if a bar is missed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from support import kmip_requests as frames

from .machine import resident_mb
from .report import print_report
from .rows import ROWS, Load, Sample
from .servers import Bare, Kmipd, Pki, PyKmip, Server, compile_c

_OPEN_CONNECTIONS = 500


def main() -> int:
    """Measure and report."""
    options = _parse()
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="kmipd-bench-")))
        load = Load(compile_c("load", directory), options.seconds, options.warmup)
        servers = _start(directory, options.objects, load, cleanup)
        rows = [row for row in ROWS if options.only in row.title]
        samples: dict[tuple[str, str], list[Sample]] = {}
        for number in range(options.rounds):
            begun = time.monotonic()
            for row in rows:
                for server in servers:
                    if server.name in row.servers and server.name not in options.without:
                        samples.setdefault((row.title, server.name), []).append(load.measure(server, row))
            _say(f"round {number + 1} of {options.rounds}: {time.monotonic() - begun:.0f} s")
        memory = {server.name: _memory(server, load) for server in servers if server.name not in options.without}
        return print_report(rows, samples, memory)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=sys.modules[__package__ or ""].__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are reported (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before it (0.5)")
    parser.add_argument("--objects", type=int, default=10_000, help="named objects in each database (10000)")
    parser.add_argument("--only", default="", help="rows whose title contains this")
    parser.add_argument("--without", action="append", default=[], choices=["pykmip", "bare"], help="leave a server out")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _start(directory: Path, objects: int, load: Load, cleanup: ExitStack) -> list[Server]:
    if (os.cpu_count() or 1) < 2:
        _say("one core only: client and server share it, and ratios are worth little")
    pki = Pki(directory / "kmipd")
    kmipd = Kmipd(directory, pki)
    cleanup.callback(kmipd.stop)
    kmipd.until_ready()
    _say(f"filling the databases with {objects} objects each")
    name = f"bench-{frames.COUNTER.decode()}"
    template = frames.create(name)
    file = directory / "fill.bin"
    file.write_bytes(template)
    begun = time.monotonic()
    load.fill(kmipd, file, template.index(frames.COUNTER), objects)
    _say(f"kmipd created them in {time.monotonic() - begun:.1f} s")
    PyKmip.objects = objects
    pykmip = PyKmip(directory, pki)
    cleanup.callback(pykmip.stop)
    pykmip.until_ready()
    located = f"bench-{objects // 2:08d}"
    for server in (pykmip, kmipd):
        server.prepare(directory, located)
    answer = pki.ask(kmipd.port, kmipd.frames["get"].read_bytes())
    bare = Bare(directory, pki, compile_c("bare", directory), answer)
    cleanup.callback(bare.stop)
    bare.until_ready()
    bare.frames = kmipd.frames
    return [pykmip, kmipd, bare]


def _memory(server: Server, load: Load) -> tuple[float, float | None]:
    """Memory in MB without and with open connections."""
    idle = median(resident_mb(server.process.pid) for _ in range(3))
    if server.name == "pykmip":
        # Its backlog of five makes 500 connections a matter of minutes.
        return idle, None
    command = load.command(server, "--mode", "hold", "--connections", str(_OPEN_CONNECTIONS))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is not None:
            while process.stdout.readline().strip() not in {"open", ""}:
                continue
        held = resident_mb(server.process.pid)
        if process.stdin is not None:
            process.stdin.close()
    return idle, held


if __name__ == "__main__":
    sys.exit(main())
