"""kmipd and custody as real processes."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.kmip_socket import ClientFiles, KmipSocket, context

START = 30.0
"""Seconds to wait for a server; it takes about one on a quiet machine."""


def until(condition: Callable[[], bool], what: str, seconds: float = START) -> None:
    """Wait for ``condition``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


@dataclass
class Kmipd:
    """A running ``kmipd``."""

    directory: Path
    process: subprocess.Popen[bytes]
    log: Path
    _offset: int
    address: tuple[str, int] = ("", 0)
    admin: tuple[str, int] = ("", 0)
    contexts: dict[ssl.TLSVersion | None, ssl.SSLContext] = field(default_factory=dict)

    def events(self) -> list[dict[str, Any]]:
        """Log lines since this process started."""
        lines = self.log.read_bytes()[self._offset :].decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_until_serving(self) -> None:
        """Wait for the ports to be open."""

        def serving() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"kmipd ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            for event in self.events():
                if event["event"] == "serving":
                    self.address, self.admin = tuple(event["listen"]), tuple(event["admin"])
                    return True
            return False

        until(serving, "serving")

    def client(self, version: ssl.TLSVersion | None = None, **options: Any) -> KmipSocket:
        """A connection with the directory's client certificate."""
        if version not in self.contexts:
            files = ClientFiles(self.directory / "client.crt", self.directory / "client.key")
            self.contexts[version] = context(files, version=version, ca=self.directory / "ca.crt")
        return KmipSocket(self.address, self.contexts[version], **options)

    def ask(self, message: bytes) -> bytes:
        """One connection, one message."""
        with self.client() as connection:
            return connection.ask(message)

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of an admin page."""
        try:
            with urllib.request.urlopen(f"http://{self.admin[0]}:{self.admin[1]}{path}", timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def audit(self) -> list[dict[str, Any]]:
        """The audit of the directory."""
        return [json.loads(line) for line in (self.directory / "audit.log").read_text().splitlines()]

    def custody_pid(self) -> int:
        """The custody child; waited for while it is started again."""
        children: list[str] = []

        def found() -> bool:
            children[:] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return len(children) == 1

        until(found, "one custody")
        return int(children[0])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Kmipd:
    """Start ``kmipd ARGUMENTS`` with its log in DIRECTORY/log. Does not wait."""
    log = directory.parent / f"{directory.name}.log"
    with log.open("ab") as sink:
        offset = sink.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "kmipd", "--log-level", "debug", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(environment or {})},
        )
    return Kmipd(directory, process, log, offset)


@contextmanager
def running(server: Kmipd) -> Iterator[Kmipd]:
    """Wait until it serves; end it afterwards, however the test went."""
    try:
        server.wait_until_serving()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def dev(directory: Path, *options: str, environment: Mapping[str, str] | None = None) -> Kmipd:
    """``kmipd dev`` on a free port."""
    return start(
        directory, "dev", "--data-dir", str(directory), "--listen", "127.0.0.1:0", *options, environment=environment
    )
