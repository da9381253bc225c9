"""Custody as a child process, for where no pod runs it beside kmipd."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from kmip_contract.custody import CustodyConfig
from kmip_contract.rootkey import RootKeyRef, RootKeyRequest, RootKeyResult

_log = structlog.get_logger(__name__)

# Seconds before a custody that ended is started again: at once after a crash, seldom when it cannot start at all.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

# Seconds after which a custody that ran counts as one that can.
_STEADY = 30.0

# Seconds that custody may take to end when asked; a module that hangs is killed.
_END = 5.0

_JOB_DEADLINE = 60.0


class CustodyFailed(Exception):
    """A root-key action failed; the message is custody's."""


class CustodyChild:
    """Keeps ``kmip-custody serve`` running from :meth:`start` to :meth:`aclose`; it also ends when this process is killed."""

    def __init__(self, config: Path, *, log_level: str = "info") -> None:
        self._command = [
            *(sys.executable, "-m", "kmip_custody", "--log-level", log_level),
            *("serve", "--exit-with-parent", "--config", str(config)),
        ]
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and keep it running."""
        self._process = await self._spawn()
        self._task = asyncio.get_running_loop().create_task(self._keep(self._process))

    async def aclose(self) -> None:
        """End it."""
        if self._task is None or self._process is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_END):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _spawn(self) -> Process:
        # In a session of its own: a terminal's interrupt is for kmipd, which still needs custody while it drains.
        return await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )

    async def _keep(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            begun = loop.time()
            code = await process.wait()
            if loop.time() - begun > _STEADY:
                pause = _FIRST_PAUSE
            _log.error("custody ended; starting it again", exit_code=code, after_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            process = self._process = await self._spawn()


@asynccontextmanager
async def own_custody(config: Path) -> AsyncIterator[Path]:
    """A custody of this command's own with the root key of ``config``, at a socket no server uses; yields the socket.

    Raises:
        ContractError: the configuration cannot be read.
    """
    read = CustodyConfig.read(config)
    directory = Path(tempfile.mkdtemp(prefix="kmipd-"))
    try:
        socket, file = directory / "custody.sock", directory / "custody.json"
        # The socket and the health port of the file may be those of a server that runs.
        file.write_bytes(read.model_copy(update={"socket": socket, "health_port": None}).to_json())
        child = CustodyChild(file, log_level="warning")
        await child.start()
        try:
            yield socket
        finally:
            await child.aclose()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def make_root_key(request: RootKeyRequest) -> RootKeyRef:
    """Run a root-key job.

    Raises:
        CustodyFailed: it was refused; the message says why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kmip_custody", "--log-level", "error", "job", "--request", "-"),
        *("--deadline", str(_JOB_DEADLINE)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(request.to_json())
    lines = output.splitlines()
    if not lines:
        raise CustodyFailed(f"custody ended with exit code {process.returncode} and no result")
    result = RootKeyResult.model_validate_json(lines[-1])
    if result.error is not None or result.root_key is None:
        raise CustodyFailed(result.error.message if result.error else "custody made no root key")
    return result.root_key
