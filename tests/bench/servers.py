"""The three servers, each on the server core, each as a user would start it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from support import kmip_requests as frames

from .machine import SERVER_CORE, free_port, on_core

_HERE = Path(__file__).parent

# Seconds until a server that does not answer counts as failed; PyKMIP takes about two.
_START = 30.0


class BenchError(Exception):
    """A server or the load generator does not do what it should."""


def compile_c(name: str, directory: Path) -> Path:
    """Build NAME.c beside this file."""
    program = directory / name
    subprocess.run(["gcc", "-O2", "-o", str(program), str(_HERE / f"{name}.c"), "-lssl", "-lcrypto"], check=True)
    return program


class Pki:
    """The certificates that ``kmipd dev`` made; every server and client uses them (P-256)."""

    def __init__(self, directory: Path) -> None:
        self.ca = directory / "ca.crt"
        self.server = directory / "server.crt"
        self.server_key = directory / "server.key"
        self.client = directory / "client.crt"
        self.client_key = directory / "client.key"

    def ask(self, port: int, message: bytes) -> bytes:
        """One connection, one request."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.client, self.client_key)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
            context.wrap_socket(raw) as connection,
        ):
            connection.sendall(message)
            answer = b""
            while len(answer) < 8 or len(answer) < 8 + int.from_bytes(answer[4:8], "big"):
                piece = connection.recv(65536)
                if not piece:
                    raise BenchError("the server hung up")
                answer += piece
            return answer


class Server(ABC):
    """A running server."""

    name: str

    def __init__(self, directory: Path, pki: Pki) -> None:
        self.pki = pki
        self.port = free_port()
        self.log = directory / f"{self.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                on_core(SERVER_CORE, *self.command(directory)), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.frames: dict[str, Path] = {}

    @abstractmethod
    def command(self, directory: Path) -> Sequence[str]:
        """How it is started."""

    def until_ready(self) -> None:
        """Wait until it accepts connections."""
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise BenchError(f"{self.name} does not serve: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def prepare(self, directory: Path, located: str) -> None:
        """Write the request files: a key of its own to get, the name to locate."""
        uid = frames.identifier(self.pki.ask(self.port, frames.create()))
        requests = {"get": frames.get(uid), "create": frames.create(), "locate": frames.locate(located)}
        for kind, request in requests.items():
            self.frames[kind] = directory / f"{self.name}-{kind}.bin"
            self.frames[kind].write_bytes(request)


class Kmipd(Server):
    """kmipd and custody, by ``kmipd dev``: SQLite with synchronous=FULL, the audit to a file."""

    name = "kmipd"

    def command(self, directory: Path) -> Sequence[str]:
        return [
            sys.executable,
            "-m",
            "kmipd",
            "dev",
            "--data-dir",
            str(directory / "kmipd"),
            "--listen",
            f"127.0.0.1:{self.port}",
        ]


_FILL_PYKMIP = """
import logging, sys, time, warnings
warnings.simplefilter("ignore")
from kmip import enums
from kmip.pie import objects, sqltypes
from kmip.services.server.engine import KmipEngine
from sqlalchemy.orm import sessionmaker
path, owner, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = KmipEngine(policies={}, database_path=path)
session = engine._data_store_session_factory()
masks = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
for number in range(count):
    key = objects.SymmetricKey(enums.CryptographicAlgorithm.AES, 256, number.to_bytes(32, "big"), masks, f"bench-{number:08d}")
    key._owner = owner
    key.initial_date = int(time.time())
    session.add(key)
    if number % 1000 == 999:
        session.commit()
session.commit()
"""


class PyKmip(Server):
    """PyKMIP's server: SQLite, TLS 1.2, logging warnings only."""

    name = "pykmip"
    objects = 10_000

    def command(self, directory: Path) -> Sequence[str]:
        home = directory / "pykmip"
        (home / "policies").mkdir(parents=True, exist_ok=True)
        database = home / "pykmip.db"
        subprocess.run(
            [sys.executable, "-c", _FILL_PYKMIP, str(database), "kmipd dev client", str(self.objects)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        settings = {
            "hostname": "127.0.0.1",
            "port": self.port,
            "certificate_path": self.pki.server,
            "key_path": self.pki.server_key,
            "ca_path": self.pki.ca,
            "auth_suite": "TLS1.2",
            "policy_path": home / "policies",
            "enable_tls_client_auth": "True",
            "logging_level": "WARNING",
            "database_path": database,
        }
        config = home / "server.conf"
        config.write_text("[server]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
        start = "import warnings; warnings.simplefilter('ignore'); from kmip.services.server.server import main; main()"
        return [sys.executable, "-c", start, "-f", str(config), "-l", str(home / "server.log")]


class Bare(Server):
    """OpenSSL and epoll in C with one fixed answer."""

    name = "bare"

    def __init__(self, directory: Path, pki: Pki, program: Path, answer: bytes) -> None:
        self._program = program
        self._answer = directory / "answer.bin"
        self._answer.write_bytes(answer)
        super().__init__(directory, pki)

    def command(self, directory: Path) -> Sequence[str]:
        files = (self.pki.server, self.pki.server_key, self.pki.ca, self._answer)
        return [str(self._program), str(self.port), *map(str, files)]
