"""``kmip-custody serve``: the socket, the health port, and the watch over the module, the key and the configuration."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import structlog

from kmip_contract.custody import CustodyConfig, CustodyDescription, RootKeyState
from kmip_contract.model import ContractError
from kmip_custody import health
from kmip_custody.connection import Connection
from kmip_custody.listener import Listener
from kmip_custody.metrics import HUNG, IN_PROGRESS, USABLE
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import Options
from kmip_custody.rootkey import RootKey

CHECK_USABLE = 5.0
CHECK_UNUSABLE = 1.0
"""Seconds between looks at the root key: often while it does not work, so that it is noticed when it does."""

LOOK_AT_FILES = 1.0
"""Seconds between looks at the configuration and credential files (one stat each)."""

DRAIN = 5.0
"""Seconds for requests in progress at the end; kmipd's own deadline for a request is the same."""

HUNG_EXIT = 70
"""Exit code (sysexits: EX_SOFTWARE) when the module hangs and the parent must restart custody."""

HUNG_GRACE_ALONE = 1.0
HUNG_GRACE_PROBED = 60.0
"""Seconds a hung module is given before the process exits: at once where only the parent sees it, late where a liveness probe
restarts the container first (the kubelet's default takes 30 s)."""

_log = structlog.get_logger("kmip_custody.server")


class Server:
    """Serves one root key until told to stop."""

    def __init__(self, config: CustodyConfig, config_path: Path | None) -> None:
        self.config = config
        self._config_path = config_path
        self._config_seen = _signature(config_path)
        self._provider, self._credential = make_provider(
            config.connection, config.credential, require_confirmed=True, options=Options(config.call_deadline)
        )
        self.root_key = RootKey(self._provider, config.root_key)
        self.peer_uid = os.geteuid() if config.peer_uid is None else config.peer_uid
        self.connections: set[Connection] = set()
        self._last: CustodyDescription | None = None
        self._checking: asyncio.Task[CustodyDescription] | None = None
        HUNG.set_function(lambda: bool(self._provider.hung_for))
        IN_PROGRESS.set_function(lambda: sum(one.unanswered for one in self.connections))
        self._stop = asyncio.Event()
        self._look_now = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code."""
        loop = asyncio.get_running_loop()
        listener = Listener(self.config.socket, shared=self.peer_uid != os.geteuid())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        port = self.config.health_port
        probes = None if port is None else await health.serve(port, self._live, self._ready)
        server = await loop.create_unix_server(lambda: Connection(self), sock=listener.socket)
        _log.info(
            "custody.serving", socket=str(listener.path), peer_uid=self.peer_uid, root_key=self.root_key.ref.key_id
        )
        tasks = [asyncio.create_task(job) for job in (self._watch_key(), self._watch_files(), self._watch_module())]
        await self._stop.wait()
        _log.info("custody.stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        await self._drain()
        listener.close()
        if probes is not None:
            probes.close()
        if self._provider.hung_for:
            return HUNG_EXIT
        await self._provider.close()
        _log.info("custody.stopped")
        return 0

    async def describe(self) -> CustodyDescription:
        """The root key's state, proven just now; askers at one moment share one proof."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self.root_key.describe())
        description = await asyncio.shield(self._checking)
        if self._last is None or (description.state, _kind(description)) != (self._last.state, _kind(self._last)):
            self._announce(description)
        self._last = description
        return description

    def _announce(self, description: CustodyDescription) -> None:
        usable = description.state is RootKeyState.USABLE
        USABLE.set(usable)
        if usable:
            _log.info(
                "rootkey.usable",
                root_key=description.root_key.key_id,
                version=description.current_version,
                mechanism=description.facts.mechanism,
                key_manager=f"{description.facts.manufacturer} {description.facts.model}".strip(),
            )
        else:
            error = description.error
            _log.error(
                "rootkey.unusable",
                root_key=description.root_key.key_id,
                state=description.state.value,
                kind=error.kind.value if error else None,
                reason=error.message if error else None,
            )

    def _live(self) -> str | None:
        hung = self._provider.hung_for
        if hung:
            return f"a call into the key manager's module is {hung:.0f} s past its deadline of {self.config.call_deadline:g} s"
        return None

    def _ready(self) -> str | None:
        if self._live() or self._last is None:
            return self._live() or "the root key has not been tried yet"
        error = self._last.error
        if self._last.state is RootKeyState.USABLE:
            return None
        return f"root key: {error.kind if error else self._last.state}; the log says more"

    async def _watch_key(self) -> None:
        while True:
            if not self._provider.hung_for:
                await self.describe()
            usable = self._last is not None and self._last.state is RootKeyState.USABLE
            self._look_now.clear()
            try:
                async with asyncio.timeout(CHECK_USABLE if usable else CHECK_UNUSABLE):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def _watch_files(self) -> None:
        seen = self._credential.signature()
        while True:
            await asyncio.sleep(LOOK_AT_FILES)
            if (found := self._credential.signature()) != seen:
                seen = found
                _log.info("credential.changed", file=str(self._credential.path))
                self._look_now.set()
            if (found := _signature(self._config_path)) != self._config_seen:
                self._config_seen = found
                self._reload()

    def _reload(self) -> None:
        if self._config_path is None:
            return
        try:
            new = CustodyConfig.read(self._config_path)
        except ContractError as error:
            _log.error("config.unreadable", reason=str(error), kept="the configuration in force")
            return
        old, self.config = self.config, new
        fixed = ("connection", "socket", "peer_uid", "call_deadline", "health_port")
        ignored = [name for name in fixed if getattr(old, name) != getattr(new, name)]
        if ignored:
            _log.warning("config.restart_needed", fields=ignored)
        self._credential.check = new.credential
        self.root_key.replace(new.root_key)
        _log.info("config.applied", root_key=new.root_key.key_id, version=self.root_key.current)
        self._look_now.set()

    async def _watch_module(self) -> None:
        grace = HUNG_GRACE_ALONE if self.config.health_port is None else HUNG_GRACE_PROBED
        announced = False
        while True:
            await asyncio.sleep(min(0.25, self.config.call_deadline / 4))
            hung = self._provider.hung_for
            if bool(hung) != announced:
                announced = bool(hung)
                _log.error("module.hung" if hung else "module.answers_again", call_deadline=self.config.call_deadline)
            if hung > grace:
                _log.critical("custody.giving_up", reason="the module's call cannot be cancelled", exit_code=HUNG_EXIT)
                self._stop.set()
                return

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN):
                while any(one.unanswered for one in self.connections) and not self._provider.hung_for:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            _log.warning("custody.drain_incomplete", seconds=DRAIN)
        for connection in tuple(self.connections):
            connection.close()
        await asyncio.sleep(0)


async def serve(config: CustodyConfig, config_path: Path | None = None) -> int:
    """Serve ``config`` (read again from ``config_path`` when that changes); the exit code.

    Raises:
        CustodyError: the socket cannot be bound or the provider's dependencies are missing.
    """
    return await Server(config, config_path).run()


def _kind(description: CustodyDescription) -> str | None:
    return description.error.kind if description.error else None


def _signature(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
