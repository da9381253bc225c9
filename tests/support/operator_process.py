"""The operator as a process of its own, against any API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

Found = TypeVar("Found")

DEADLINE = 60.0


def wait_for(what: str, probe: Callable[[], Found | None], seconds: float = DEADLINE) -> Found:
    """Ask until the answer is true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class OperatorProcess:
    """``kmip-operator run`` with a port of its own; its log goes to a file."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self._log = log
        self._arguments = [
            *(sys.executable, "-m", "kmip_operator", "run", "--kubeconfig", str(kubeconfig)),
            *("--http-host", "127.0.0.1", "--http-port", "0", *arguments),
        ]
        self._start = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        self._start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(self._arguments, stdout=output, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def lines(self) -> list[dict[str, Any]]:
        """The log lines since the last start; every line is JSON."""
        raw = self._log.read_bytes()[self._start :]
        return [json.loads(line) for line in raw.splitlines() if line.strip()]

    def said(self, message: str) -> dict[str, Any] | None:
        """The first line with this message since the last start."""
        return next((line for line in self.lines() if line["message"] == message), None)

    def wait_until_it_says(self, message: str, seconds: float = DEADLINE) -> dict[str, Any]:
        """Wait for a log line; fail at once when the process ends."""

        def probe() -> dict[str, Any] | None:
            assert self.process is not None
            found = self.said(message)
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}: {self.lines()[-3:]}")
            return found

        return wait_for(f"the operator says {message!r}", probe, seconds)

    def http(self, path: str) -> tuple[int, str]:
        """GET on its HTTP port: status and text."""
        port = self.wait_until_it_says("started")["http_port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def resident_bytes(self) -> int:
        """Its resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
