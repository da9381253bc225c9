"""Providers over real key managers, closed at the end: a PKCS#11 module has one state per process."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support import vault as vault_support
from support.custody_backends import BACKENDS, TOKENS, Backend
from support.fake_keyprotect import FakeKeyProtect
from support.softhsm import SoftHsm, make_token

from kmip_contract.rootkey import Connection, SoftwareConnection
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import Options, RootKeyProvider

MakeBackend = Callable[[str], Awaitable[Backend]]


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vault_support.VaultServer]:
    """A real Vault."""
    with vault_support.running(tmp_path_factory.mktemp("vault")) as server:
        yield server


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token that this process's modules see."""
    token = make_token(tmp_path / "hsm")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    return token


@pytest.fixture
async def keyprotect() -> AsyncIterator[FakeKeyProtect]:
    """A Key Protect of this test's own."""
    async with FakeKeyProtect().serving() as service:
        yield service


@pytest.fixture
async def make_backend(
    tmp_path: Path, request: pytest.FixtureRequest, keyprotect: FakeKeyProtect
) -> AsyncIterator[MakeBackend]:
    """Makes a backend by name."""
    made: list[RootKeyProvider] = []

    async def make(name: str) -> Backend:
        connection: Connection
        hsm: SoftHsm | None = None
        server: vault_support.VaultServer | None = None
        service: FakeKeyProtect | None = None
        if name == "software":
            seed = tmp_path / f"seed-{len(made)}"
            seed.write_bytes(secrets.token_bytes(32))
            connection = SoftwareConnection(seed_file=seed)
        elif name == "vault":
            server = request.getfixturevalue("vault")
            connection = server.connection(tmp_path)
        elif name == "keyprotect":
            service = keyprotect
            connection = service.connection(tmp_path)
        else:
            hsm = request.getfixturevalue("hsm")
            assert hsm is not None
            connection = hsm.connection(name)
        provider, _ = make_provider(connection, None, require_confirmed=True, options=Options(10.0, writable=True))
        made.append(provider)
        return Backend(name, provider, connection, hsm, server, service)

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, make_backend: MakeBackend) -> Backend:
    """Each backend."""
    return await make_backend(request.param)


@pytest.fixture(params=TOKENS)
async def token_backend(request: pytest.FixtureRequest, make_backend: MakeBackend) -> Backend:
    """Each backend that has a token."""
    return await make_backend(request.param)
