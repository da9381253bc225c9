"""What custody does when its module, its key, its peers or itself fail."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.custody_client import (
    CustodyClient,
    CustodyProcess,
    Serve,
    context,
    serving,
    until,
    until_state,
)
from support.softhsm import Shim

from kmip_contract.custody import FRAME, MAX_FRAME, CustodyConfig, CustodyItem, CustodyOperation, RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure

OTHER_UID = 54321


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every uid may enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


async def wrap_kind(client: CustodyClient, deadline: float = 5.0) -> CustodyErrorKind | None:
    (answer,) = await client.wrap([(context(), bytes(32))], deadline)
    return answer.kind if isinstance(answer, CustodyFailure) else None


async def test_hung_module_fails_liveness_and_recovers(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hang()
        waiting = [asyncio.create_task(wrap_kind(client, 60)) for _ in range(20)]
        assert set(await asyncio.gather(*waiting)) == {CustodyErrorKind.DEADLINE_EXCEEDED}
        assert await wrap_kind(client) is CustodyErrorKind.DEADLINE_EXCEEDED
        assert (await client.describe()).state is RootKeyState.UNREACHABLE
        assert (await process.health("/livez"))[0] == 503
        assert "kmip_custody_module_hung 1.0" in (await process.health("/metrics"))[1]
        shim.answer()
        await until_state(client, RootKeyState.USABLE)
        assert (await process.health("/livez"))[0] == 200


async def test_short_deadline_is_kept_while_the_module_is_slow(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config.model_copy(update={"call_deadline": 600.0})) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hang()
        assert await wrap_kind(client, 0.1) is CustodyErrorKind.DEADLINE_EXCEEDED
        assert (await process.health("/livez"))[0] == 200, "slow is not hung"
        shim.answer()
        await until_state(client, RootKeyState.USABLE)


async def test_hung_module_without_probes_ends_the_process(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config.model_copy(update={"health_port": None})) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hang()
        assert await process.exited() == 70
        shim.answer()
        process.start()
        again = await process.connect()
        await until_state(again, RootKeyState.USABLE)


async def test_kill_in_mid_call_and_restart(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config) as process:
        client = await process.connect()
        (record,) = await client.wrap([(context("before"), b"k" * 32)])
        assert isinstance(record, bytes)
        shim.hang()
        call = asyncio.create_task(client.unwrap([(context("before"), record)]))
        await asyncio.sleep(0)
        process.kill()
        with pytest.raises(ConnectionError):
            await call
        shim.answer()
        assert config.socket.exists(), "a killed process leaves its socket"
        process.start()
        again = await process.connect()
        assert await again.unwrap([(context("before"), record)]) == [b"k" * 32]


async def test_device_error_is_unreachable_and_passes(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        for value in (
            0x30,
            0x32,
            0xB3,
            0x101,
            0x190,
        ):  # device error, removed, session invalid, not logged in, not initialized
            shim.fail(value)
            assert await wrap_kind(client) is CustodyErrorKind.UNAVAILABLE
            shim.answer()
            assert await wrap_kind(client) is None
        shim.fail(0x68)  # CKR_KEY_FUNCTION_NOT_PERMITTED
        assert await wrap_kind(client) is CustodyErrorKind.ROOT_KEY_DISABLED


async def test_destroyed_key_is_logged_and_not_ready(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hsm.destroy(config.root_key.versions[0].handle)
        assert await wrap_kind(client) is CustodyErrorKind.ROOT_KEY_DESTROYED
        await until_state(client, RootKeyState.REVOKED)
        assert (await process.event("rootkey.unusable"))["kind"] == "RootKeyDestroyed"
        assert (await process.health("/readyz"))[0] == 503
        assert (await process.health("/livez"))[0] == 200
        assert len(shim.logins()) <= 3, "absence is proved by one new log-in, not by many"


async def test_only_the_configured_uid_is_served(
    software_config: CustodyConfig, open_directory: Path, tmp_path: Path
) -> None:
    config = software_config.model_copy(update={"socket": open_directory / "s", "peer_uid": OTHER_UID})
    async with serving(config, tmp_path) as process:
        ours = await process.connect()
        await ours.closed()
        assert (await process.event("peer.refused"))["uid"] == os.geteuid()
        assert stat.S_IMODE(config.socket.stat().st_mode) == 0o660
        script = (
            "import os, socket, sys\nos.setuid(int(sys.argv[2]))\ns = socket.socket(socket.AF_UNIX)\n"
            's.connect(sys.argv[1])\nh = b\'{"id":1,"operation":"describe"}\'\n'
            "s.sendall(len(h).to_bytes(4, 'big') + bytes(4) + h)\nprint(len(s.recv(8)))\n"
        )
        theirs = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script, str(config.socket), str(OTHER_UID)],
            capture_output=True,
            text=True,
        )
        assert theirs.stdout == "8\n", theirs.stderr
        assert len(process.events("peer.refused")) == 1


async def test_socket_is_private_and_a_live_one_is_not_taken(
    software_config: CustodyConfig, serve: Serve, tmp_path: Path
) -> None:
    async with serve(software_config) as process:
        client = await process.connect()
        assert stat.S_IMODE(software_config.socket.stat().st_mode) == 0o600
        (tmp_path / "second").mkdir()
        second = CustodyProcess(software_config, tmp_path / "second")
        second.start()
        assert await second.exited() == 78
        assert "another custody serves" in second.log.read_text()
        assert await wrap_kind(client) is None
        assert process.stop() == 0
        assert not software_config.socket.exists()


async def test_a_file_in_the_sockets_place_is_kept(software_config: CustodyConfig, serve: Serve) -> None:
    software_config.socket.parent.mkdir(exist_ok=True)
    software_config.socket.write_text("precious")
    async with serve(software_config) as process:
        assert await process.exited() == 78
    assert software_config.socket.read_text() == "precious"


async def test_sigterm_answers_what_was_asked(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    async with serve(config.model_copy(update={"call_deadline": 60.0})) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hang()
        call = asyncio.create_task(client.wrap([(context(), bytes(32))]))

        async def in_progress() -> bool:
            return "kmip_custody_requests_in_progress 1.0" in (await process.health("/metrics"))[1]

        await until(in_progress)
        process.signal(signal.SIGTERM)
        await process.event("custody.stopping")
        shim.answer()
        (answer,) = await call
        assert isinstance(answer, bytes)
        assert await process.exited() == 0
        assert "custody.stopped" in [event["event"] for event in process.events()]


async def test_ends_with_its_parent(software_config: CustodyConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "custody.json"
    path.write_bytes(software_config.to_json())
    script = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-m', 'kmip_custody', 'serve', '--config', sys.argv[1],"
        " '--exit-with-parent']).pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        waiting = CustodyProcess(software_config, tmp_path)
        waiting.process = parent
        client = await waiting.connect()
        parent.kill()
        await client.closed()
        await waiting.hang_up()

    async def gone() -> bool:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        return state == "Z"

    await until(gone)


async def test_frames_that_do_not_fit_close_the_connection(software_config: CustodyConfig, serve: Serve) -> None:
    async with serve(software_config) as process:
        for junk in (
            FRAME.pack(MAX_FRAME + 1, 0),
            FRAME.pack(2, MAX_FRAME + 1),
            FRAME.pack(2, 0) + b"{}",
            FRAME.pack(9, 0) + b"not json!",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            client = await process.connect()
            client.send_raw(junk)
            await client.closed()
        client = await process.connect()
        item = CustodyItem(context=context(), size=33)
        response, _ = await client.request(CustodyOperation.WRAP, [item], bytes(32))
        assert response.error is not None
        assert await wrap_kind(client) is None


async def test_large_and_many(software_config: CustodyConfig, serve: Serve) -> None:
    async with serve(software_config) as process:
        clients = [await process.connect() for _ in range(20)]

        async def work(client: CustodyClient, number: int) -> None:
            for size in (1, 700, 70_000):
                items = [(context(f"{number}/{n}"), os.urandom(size)) for n in range(20)]
                records = await client.wrap(items)
                sealed = [
                    (bound, record)
                    for (bound, _), record in zip(items, records, strict=True)
                    if isinstance(record, bytes)
                ]
                assert len(sealed) == len(items)
                opened = await client.unwrap(sealed)
                assert opened == [plaintext for _, plaintext in items]

        await asyncio.gather(*(work(client, number) for number, client in enumerate(clients)))
        flood = [asyncio.create_task(clients[0].wrap([(context(), bytes(32))])) for _ in range(3000)]
        assert all(isinstance(answer, bytes) for (answer,) in await asyncio.gather(*flood))


async def test_process_cannot_be_dumped_or_read_by_its_own_uid(software_config: CustodyConfig, serve: Serve) -> None:
    async with serve(software_config) as process:
        await process.connect()
        assert process.process is not None
        limits = Path(f"/proc/{process.process.pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]
        script = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
        mine = subprocess.run(
            [sys.executable, "-c", f"from kmip_custody.hardening import harden; harden(); {script}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert mine.stdout == "0\n"
