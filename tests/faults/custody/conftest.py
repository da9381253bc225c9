"""A custody process over each kind of key manager, with a root key made by a Job."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.custody_backends import KEY_ID
from support.custody_client import CustodyProcess, Serve, run_job, serving
from support.softhsm import Shim, make_shim, make_token

from kmip_contract.custody import CustodyConfig
from kmip_contract.rootkey import CredentialCheck, RootKeyAction, RootKeyRequest, SoftwareConnection

HMAC_KEY = b"h" * 32


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    """A token behind a module that hangs and fails when told, holding the root key."""
    shim = make_shim(make_token(tmp_path / "hsm"))
    request = RootKeyRequest(
        action=RootKeyAction.CREATE, connection=shim.hsm.connection(), key_id=KEY_ID, label="default/crk"
    )
    assert run_job(request, shim.environment)[0] == 0
    return shim


@pytest.fixture
def config(tmp_path: Path, shim: Shim) -> CustodyConfig:
    """Serves that root key; the credential is confirmed."""
    request = RootKeyRequest(action=RootKeyAction.CREATE, connection=shim.hsm.connection(), key_id=KEY_ID)
    _, result, _ = run_job(request, shim.environment)
    assert result.root_key is not None
    (tmp_path / "hmac.key").write_bytes(HMAC_KEY)
    confirmed = hmac.new(HMAC_KEY, shim.hsm.pin.encode(), hashlib.sha256).hexdigest()
    return CustodyConfig(
        connection=shim.connection(),
        root_key=result.root_key,
        credential=CredentialCheck(key_file=tmp_path / "hmac.key", hmac=confirmed),
        socket=tmp_path / "run" / "custody.sock",
        health_port=0,
        call_deadline=1.0,
    )


@pytest.fixture
def software_config(tmp_path: Path) -> CustodyConfig:
    """Serves a software root key."""
    seed = tmp_path / "seed"
    seed.write_bytes(secrets.token_bytes(32))
    request = RootKeyRequest(action=RootKeyAction.CREATE, connection=SoftwareConnection(seed_file=seed), key_id=KEY_ID)
    _, result, _ = run_job(request)
    assert result.root_key is not None
    return CustodyConfig(
        connection=request.connection,
        root_key=result.root_key,
        socket=tmp_path / "run" / "custody.sock",
        health_port=0,
    )


@pytest.fixture
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Serve:
    """Serves a configuration as a process for a block; its log has no PIN in it at the end."""
    (tmp_path / "run").mkdir(exist_ok=True)

    @asynccontextmanager
    async def start(config: CustodyConfig, *arguments: str) -> AsyncIterator[CustodyProcess]:
        shim: Shim | None = None
        if config.connection.type == "PKCS11":
            shim = request.getfixturevalue("shim")
        async with serving(config, tmp_path, shim.environment if shim else None, *arguments) as process:
            yield process
        if shim is not None:
            assert shim.hsm.pin not in process.log.read_text()

    return start
