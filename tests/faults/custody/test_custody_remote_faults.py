"""A custody process over key managers that speak HTTP: out of reach, rotated, destroyed, while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import vault
from support.custody_backends import KEY_ID
from support.custody_client import CustodyProcess, context, run_job, serving, until, until_state
from support.custody_proxy import FaultyProxy
from support.fake_keyprotect import FakeKeyProtect

from kmip_contract.custody import CustodyConfig, RootKeyState
from kmip_contract.rootkey import (
    Connection,
    CustodyErrorKind,
    CustodyFailure,
    KeyProtectConnection,
    RootKeyAction,
    RootKeyRef,
    RootKeyRequest,
    VaultConnection,
)


class Stage(NamedTuple):
    """A serving custody, the proxy its requests pass, and what its key manager's administrator does."""

    process: CustodyProcess
    proxy: FaultyProxy
    connection: Connection
    service: FakeKeyProtect | None
    server: vault.VaultServer | None

    async def job(self, action: RootKeyAction, ref: RootKeyRef | None = None) -> RootKeyRef:
        if self.service is not None:
            self.service.pass_time()
        request = RootKeyRequest(action=action, connection=self.connection, key_id=KEY_ID, root_key=ref)
        code, result, log = await asyncio.to_thread(run_job, request)
        assert code == 0, log
        assert result.root_key is not None
        return result.root_key


@pytest.fixture(params=["vault", "keyprotect"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Each, with a root key."""
    (tmp_path / "run").mkdir()
    if request.param == "vault":
        with vault.running(tmp_path) as server:
            connection = server.connection(tmp_path)
            async with FaultyProxy(server.address, server.ca_file).serving() as proxy:
                behind = connection.model_copy(update={"address": proxy.address})
                async for made in _serve(tmp_path, behind, proxy, None, server):
                    yield made
    else:
        async with FakeKeyProtect().serving() as service, FaultyProxy(service.address, None).serving() as proxy:
            behind_proxy = service.connection(tmp_path).model_copy(update={"endpoint": proxy.address})
            async for made in _serve(tmp_path, behind_proxy, proxy, service, None):
                yield made


async def _serve(
    directory: Path,
    connection: VaultConnection | KeyProtectConnection,
    proxy: FaultyProxy,
    service: FakeKeyProtect | None,
    server: vault.VaultServer | None,
) -> AsyncIterator[Stage]:
    request = RootKeyRequest(action=RootKeyAction.CREATE, connection=connection, key_id=KEY_ID, label="default/crk")
    code, result, log = await asyncio.to_thread(run_job, request)
    assert code == 0, log
    assert result.root_key is not None
    config = CustodyConfig(
        connection=connection,
        root_key=result.root_key,
        socket=directory / "run" / "s",
        health_port=0,
        call_deadline=1.0,
    )
    async with serving(config, directory) as process:
        yield Stage(process, proxy, connection, service, server)
    secret = next(iter(directory.glob("*.token")), directory / "api-key").read_text().strip()
    assert secret not in process.log.read_text() + log


async def test_silence_is_no_hang_and_passes(stage: Stage) -> None:
    client = await stage.process.connect()
    await until_state(client, RootKeyState.USABLE)
    stage.proxy.hold()
    (answer,) = await client.wrap([(context(), bytes(32))], 0.3)
    assert isinstance(answer, CustodyFailure)
    assert answer.kind is CustodyErrorKind.DEADLINE_EXCEEDED
    await asyncio.gather(*(client.wrap([(context(), bytes(32))], 1.2) for _ in range(5)))
    assert (await stage.process.health("/livez"))[0] == 200, "a restart would not help"
    stage.proxy.release()
    stage.proxy.cut = True
    assert (await client.describe()).state is RootKeyState.UNREACHABLE
    stage.proxy.cut = False
    await until_state(client, RootKeyState.USABLE)
    assert stage.process.stop() == 0


async def test_rotation_and_destruction_while_serving(stage: Stage) -> None:
    client = await stage.process.connect()
    first = await until_state(client, RootKeyState.USABLE)
    (old,) = await client.wrap([(context("1"), b"1" * 32)])
    assert isinstance(old, bytes)
    rotated = await stage.job(RootKeyAction.ROTATE, first.root_key)

    async def noticed() -> bool:
        return (await client.describe()).newer_handle == rotated.versions[1].handle

    await until(noticed)
    new_config = stage.process.config.model_copy(update={"root_key": rotated})
    stage.process.config_path.write_bytes(new_config.to_json())

    async def applied() -> bool:
        description = await client.describe()
        return description.current_version == 2 and description.newer_handle is None

    await until(applied)
    (new,) = await client.wrap([(context("2"), b"2" * 32)])
    assert isinstance(new, bytes)
    both = [(context("1"), old), (context("2"), new)]
    assert await client.unwrap(both) == [b"1" * 32, b"2" * 32]
    stage.process.kill()
    stage.process.start()
    client = await stage.process.connect()
    assert await client.unwrap(both) == [b"1" * 32, b"2" * 32]
    if stage.server is not None:
        assert isinstance(stage.connection, VaultConnection)
        path = f"{stage.connection.mount}/keys/{KEY_ID}/config"
        await asyncio.to_thread(stage.server.api, "POST", path, {"deletion_allowed": True})
    await stage.job(RootKeyAction.DESTROY, rotated)
    description = await until_state(client, RootKeyState.REVOKED)
    assert description.error is not None
    assert description.error.kind is CustodyErrorKind.ROOT_KEY_DESTROYED
    answers = await client.unwrap(both)
    assert {answer.kind for answer in answers if isinstance(answer, CustodyFailure)} == {
        CustodyErrorKind.ROOT_KEY_DESTROYED
    }
