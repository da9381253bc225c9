"""The keys layer with the real custody in a process of its own, also when that is killed."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from support.waiting import eventually

from kmip_contract.custody import CustodyConfig, RootKeyState, WrapContext
from kmip_contract.kmipd import KeyCache
from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, RootKeyRef, RootKeyVersion, SoftwareConnection
from kmipd.keys.api import KeyUnavailable
from kmipd.keys.service import KeyService

KEYSPACE = UUID("6f6b8dc4-8d0e-4d3b-9d5c-1f4a0a4f4b4e")
KEY = bytes(range(32))


class Custody:
    """``kmip-custody serve`` with a Software root key."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "custody.sock"
        self._directory = directory
        self._seed = directory / "seed"
        self._seed.write_bytes(secrets.token_bytes(32))
        self._process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, state: KeyVersionState = KeyVersionState.ACTIVE) -> None:
        config = CustodyConfig(
            connection=SoftwareConnection(seed_file=self._seed),
            root_key=RootKeyRef(key_id="crk", versions=(RootKeyVersion(version=1, handle="01", state=state),)),
            socket=self.socket,
        )
        (self._directory / "custody.json").write_bytes(config.to_json())

    def start(self) -> None:
        config = str(self._directory / "custody.json")
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kmip_custody", "serve", "--config", config], stderr=log
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def real_custody(tmp_path: Path) -> Iterator[Custody]:
    directory = tmp_path / "custody"
    directory.mkdir(mode=0o700)
    custody = Custody(directory)
    custody.start()
    yield custody
    custody.kill()


@pytest.fixture
async def keys(real_custody: Custody) -> AsyncIterator[KeyService]:
    service = KeyService(
        real_custody.socket,
        timeout=20,
        cache=KeyCache(max_age=0),
        healthy_interval=0.2,
        unhealthy_interval=0.2,
    )
    await service.start()
    yield service
    await service.aclose()


def context(uid: str) -> WrapContext:
    return WrapContext(keyspace=KEYSPACE, uid=uid, object_type=2, algorithm=3, length=256)


async def test_many_keys_go_out_and_come_back(keys: KeyService) -> None:
    plaintexts = [secrets.token_bytes(32) for _ in range(200)]
    wrapped = await asyncio.gather(*(keys.wrap(context(str(number)), key) for number, key in enumerate(plaintexts)))
    assert {(one.root_key_id, one.root_key_version) for one in wrapped} == {("crk", 1)}
    again = await asyncio.gather(*(keys.unwrap(context(str(number)), one.record) for number, one in enumerate(wrapped)))
    assert again == plaintexts
    with pytest.raises(KeyUnavailable) as refusal:
        await keys.unwrap(context("1"), wrapped[0].record)
    assert refusal.value.kind is CustodyErrorKind.INTEGRITY
    assert keys.description.state is RootKeyState.USABLE
    assert keys.description.root_key.key_id == "crk"


async def test_killing_custody_again_and_again_fails_no_call(keys: KeyService, real_custody: Custody) -> None:
    done = 0
    stop = False

    async def use(name: str) -> None:
        nonlocal done
        while not stop:
            wrapped = await keys.wrap(context(name), KEY)
            assert await keys.unwrap(context(name), wrapped.record) == KEY
            done += 1

    users = [asyncio.create_task(use(f"k{number}")) for number in range(8)]
    for _ in range(3):
        before = done
        await eventually(lambda before=before: done > before + 50 or any(user.done() for user in users))  # type: ignore[misc]
        real_custody.kill()
        real_custody.start()
    stop = True
    await asyncio.gather(*users)


async def test_a_custody_that_hangs_is_unreachable_until_it_goes_on(real_custody: Custody) -> None:
    keys = KeyService(real_custody.socket, timeout=1.0, cache=KeyCache(), healthy_interval=0.1, unhealthy_interval=0.1)
    await keys.start()
    await eventually(lambda: keys.root_key_state is RootKeyState.USABLE)
    wrapped = await keys.wrap(context("k"), KEY)
    real_custody.pause()
    try:
        with pytest.raises(KeyUnavailable) as refusal:
            await keys.wrap(context("l"), KEY)
        assert refusal.value.kind is CustodyErrorKind.DEADLINE_EXCEEDED
        await eventually(lambda: keys.root_key_state is RootKeyState.UNREACHABLE)
        assert await keys.unwrap(context("k"), wrapped.record) == KEY
    finally:
        real_custody.go_on()
    await eventually(lambda: keys.root_key_state is RootKeyState.USABLE)
    await keys.aclose()


async def test_a_destroyed_root_key_fences_the_instance(keys: KeyService, real_custody: Custody) -> None:
    wrapped = await keys.wrap(context("k"), KEY)
    real_custody.configure(KeyVersionState.DESTROYED)
    await eventually(lambda: keys.root_key_state is not RootKeyState.USABLE)
    with pytest.raises(KeyUnavailable):
        await keys.unwrap(context("k"), wrapped.record)
    real_custody.configure()
    await eventually(lambda: keys.root_key_state is RootKeyState.USABLE)
    assert await keys.unwrap(context("k"), wrapped.record) == KEY
