"""A real PostgreSQL on loopback, run by an unprivileged user in a temporary directory, with a standby if asked for."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "postgresql-15"
BINARIES = Path("/usr/lib/postgresql/15/bin")
READY_SECONDS = 60.0

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = 16MB
logging_collector = off
log_min_messages = warning
wal_level = replica
max_wal_senders = 4
hot_standby = on
autovacuum_naptime = 1min
"""


def install() -> None:
    """Install the server's package when it is missing. Needs root and Debian; fails loudly otherwise."""
    if (BINARIES / "postgres").exists():
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # The package would start a cluster of its own on the default port.
    configuration = Path("/etc/postgresql-common/createcluster.conf")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    if not configuration.exists():
        configuration.write_text("create_main_cluster = false\n")
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    install_command = ["apt-get", "install", "-y", "-qq", "-o", "Dpkg::Options::=--force-confold", PACKAGE]
    subprocess.run(install_command, check=True, env=environment)


@dataclass
class Server:
    """One PostgreSQL server: a primary, or a standby of one."""

    directory: Path
    port: int
    password: str
    user: str | None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def dsn(self, *, user: str = "kmip", password: str | None = None, database: str = "kmip") -> str:
        """A URI; the role ``kmip`` owns the database ``kmip`` and is no superuser."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user."""
        return subprocess.run(
            [str(BINARIES / program), *arguments],
            check=check,
            capture_output=True,
            text=True,
            user=self.user,
            group=pwd.getpwnam(self.user).pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGPASSWORD": self.password},
        )

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run a statement as the superuser; the rows as psql prints them unaligned."""
        done = self.run(
            "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.dsn(user="postgres", database=database), "-c", statement
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Start it, also after a crash, and wait until it answers."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with (self.directory / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [str(BINARIES / "postgres"), "-D", str(self.data)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    user=self.user,
                    group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                    extra_groups=[] if self.user else None,
                    cwd=self.directory,
                    env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                    start_new_session=True,
                )
            while self.process.poll() is None:
                if self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False).returncode == 0:
                    return
                if time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not become ready:\n{self.log()}")
                time.sleep(0.02)
            # After a kill -9 the dead server's children may still hold its shared memory for a moment.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log()}")
            time.sleep(0.05)

    def kill(self, *, everything: bool = False) -> None:
        """kill -9 the postmaster and, if ``everything``, all its children in the same moment, as a crash would."""
        assert self.process is not None
        for pid in [self.pid, *(self.children() if everything else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        """The process ids of the postmaster's children."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> None:
        """Stop it at once but cleanly."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-4000:]


@dataclass(frozen=True)
class Cluster:
    """A primary and, if asked for, its synchronous standby."""

    primary: Server
    standby: Server | None


@contextlib.contextmanager
def postgresql(*, synchronous_standby: bool = False) -> Iterator[Cluster]:
    """A running cluster, gone with all its files at the end."""
    install()
    user = "postgres" if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="kmip-pg-"))
    servers: list[Server] = []
    try:
        root.chmod(0o755)
        primary = _server(root / "primary", secrets.token_hex(12), user)
        servers.append(primary)
        _initialise(primary)
        primary.start()
        primary.sql(f"CREATE ROLE kmip LOGIN PASSWORD '{primary.password}'")
        primary.sql("CREATE DATABASE kmip OWNER kmip")
        standby = None
        if synchronous_standby:
            standby = _server(root / "standby", primary.password, user)
            servers.append(standby)
            _follow(primary, standby)
        yield Cluster(primary, standby)
    finally:
        for server in reversed(servers):
            server.stop()
        shutil.rmtree(root, ignore_errors=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _server(directory: Path, password: str, user: str | None) -> Server:
    directory.mkdir()
    if user is not None:
        shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)
    return Server(directory, free_port(), password, user)


def _initialise(server: Server) -> None:
    password_file = server.directory / "password"
    password_file.write_text(server.password)
    if server.user is not None:
        shutil.chown(password_file, server.user)
    server.run(
        "initdb", "-D", str(server.data), "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8",
        "--no-locale", "--no-sync",
    )  # fmt: skip
    password_file.unlink()
    with (server.data / "postgresql.conf").open("a") as configuration:
        configuration.write(_SETTINGS + f"port = {server.port}\n")


def _follow(primary: Server, standby: Server) -> None:
    primary.sql("SELECT pg_create_physical_replication_slot('standby')")
    origin = f"{primary.dsn(user='postgres', database='postgres')}?application_name=standby"
    standby.run(
        "pg_basebackup", "-D", str(standby.data), "-d", origin, "-R", "-S", "standby", "-X", "stream", "-c", "fast"
    )
    with (standby.data / "postgresql.conf").open("a") as configuration:
        configuration.write(f"port = {standby.port}\n")
    standby.start()
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    primary.sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + READY_SECONDS
    while (
        primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'") != "1"
    ):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the standby does not stream:\n{standby.log()}")
        time.sleep(0.05)
