"""What is Vault's own: its tokens, its policies, its seal, and keys that others change."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web
from pydantic import ValidationError
from support.custody_backends import KEY_ID, reference, try_wrap, unwrap, wrap
from support.custody_client import context
from support.vault import VaultServer

from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, VaultAuth, VaultConnection
from kmip_custody.errors import CustodyError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import Options
from kmip_custody.providers.vault.provider import VaultProvider
from kmip_custody.rootkey import RootKey


@contextlib.asynccontextmanager
async def opened(connection: VaultConnection) -> AsyncIterator[VaultProvider]:
    provider, _ = make_provider(connection, None, require_confirmed=True, options=Options(10.0))
    assert isinstance(provider, VaultProvider)
    try:
        yield provider
    finally:
        await provider.close()


async def root_key(provider: VaultProvider) -> RootKey:
    return RootKey(provider, reference(KEY_ID, await provider.create(KEY_ID, 1, "default/crk", 256)))


async def kind_of(provider: VaultProvider) -> CustodyErrorKind:
    with pytest.raises(CustodyError) as caught:
        await provider.probe()
    return caught.value.kind


@pytest.mark.parametrize(
    "address", ["http://vault.example:8200", "https://u:p@vault", "ftp://vault", "https://vault/ui", "vault:8200"]
)
def test_address_must_keep_keys_secret(address: str) -> None:
    with pytest.raises(ValidationError):
        VaultConnection(address=address, auth=VaultAuth(token_file=Path("t")))
    assert VaultConnection(address="http://127.0.0.1:8200", auth=VaultAuth(token_file=Path("t")))


async def test_certificate_must_be_trusted(vault: VaultServer, tmp_path: Path) -> None:
    async with opened(vault.connection(tmp_path, ca_file=None)) as provider:
        assert await kind_of(provider) is CustodyErrorKind.CONFIGURATION
    async with opened(vault.connection(tmp_path, ca_file=tmp_path / "none")) as provider:
        assert await kind_of(provider) is CustodyErrorKind.CONFIGURATION


async def test_sealed_is_unreachable_and_passes(vault: VaultServer, tmp_path: Path) -> None:
    async with opened(vault.connection(tmp_path)) as provider:
        key = await root_key(provider)
        record = await wrap(key, context(), b"k" * 32)
        await asyncio.to_thread(vault.seal)
        try:
            assert await unwrap(key, context(), record) == CustodyErrorKind.UNAVAILABLE
            description = await key.describe()
            assert description.state is RootKeyState.UNREACHABLE
            assert description.error is not None
            assert "sealed" in description.error.message
        finally:
            await asyncio.to_thread(vault.unseal)
        assert await unwrap(key, context(), record) == b"k" * 32


async def test_policy_taken_away_is_a_revocation_and_comes_back(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    async with opened(connection) as provider:
        key = await root_key(provider)
        record = await wrap(key, context(), b"k" * 32)
        vault.permit(connection.mount, allowed=False)
        assert await unwrap(key, context(), record) == CustodyErrorKind.AUTHORIZATION_LOST
        assert (await key.describe()).state is RootKeyState.REVOKED
        vault.permit(connection.mount)
        assert await unwrap(key, context(), record) == b"k" * 32


async def test_revoked_token_is_told_once_and_a_new_one_taken(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    token_file = connection.auth.token_file
    assert token_file is not None
    async with opened(connection) as provider:
        key = await root_key(provider)
        record = await wrap(key, context(), b"k" * 32)
        vault.api("POST", "auth/token/revoke", {"token": token_file.read_text().strip()})
        async with asyncio.timeout(10):
            while await unwrap(key, context(), record) != CustodyErrorKind.AUTHORIZATION_LOST:
                await asyncio.sleep(0.05)
        token_file.write_text(vault.token(connection.mount))
        answers = await asyncio.gather(*(unwrap(key, context(), record) for _ in range(20)))
        assert set(answers) == {b"k" * 32}


async def test_wrong_token(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    assert connection.auth.token_file is not None
    connection.auth.token_file.write_text("hvs.nobody")
    async with opened(connection) as provider:
        assert await kind_of(provider) is CustodyErrorKind.CREDENTIAL_REFUSED


async def test_token_is_renewed_before_it_ends(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    assert connection.auth.token_file is not None
    token = vault.token(connection.mount, ttl="2s", renewable=True)
    connection.auth.token_file.write_text(token)
    async with opened(connection) as provider:
        key = await root_key(provider)
        end = monotonic() + 4.5
        while monotonic() < end:
            assert await try_wrap(key, context()) is None
            await asyncio.sleep(0.1)
        vault.api("GET", "auth/token/lookup-self", None, token)


async def test_name_taken_by_another_key_is_not_the_root_key(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    path = f"{connection.mount}/keys/{KEY_ID}"
    async with opened(connection) as provider:
        key = await root_key(provider)
        record = await wrap(key, context(), b"k" * 32)
        made = vault.api("GET", path)["data"]["keys"]["1"]
        vault.api("POST", f"{path}/config", {"deletion_allowed": True})
        vault.api("DELETE", path)
        assert await try_wrap(key, context()) == CustodyErrorKind.ROOT_KEY_DESTROYED, "and it is not made again"
        async with asyncio.timeout(10):
            while True:
                vault.api("POST", path, {})
                if vault.api("GET", path)["data"]["keys"]["1"] != made:
                    break
                vault.api("POST", f"{path}/config", {"deletion_allowed": True})
                vault.api("DELETE", path)
                await asyncio.sleep(0.1)
        assert await unwrap(key, context(), record) == CustodyErrorKind.INTEGRITY
        description = await key.describe()
        assert description.state is RootKeyState.REVOKED
        assert await try_wrap(key, context()) == CustodyErrorKind.ROOT_KEY_DESTROYED


async def test_rotation_elsewhere_is_noticed_and_not_used(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    async with opened(connection) as provider:
        key = await root_key(provider)
        vault.api("POST", f"{connection.mount}/keys/{KEY_ID}/rotate", {})
        description = await key.describe()
        assert description.state is RootKeyState.USABLE
        assert description.newer_handle is not None
        assert description.newer_handle.startswith(f"{KEY_ID}:v2@")
        (outcome,) = await key.wrap([(context(), bytes(32))], monotonic() + 10)
        assert not isinstance(outcome, CustodyError)
        assert outcome.version == 1


async def test_lowest_permitted_versions_are_states(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    async with opened(connection) as provider:
        old = await root_key(provider)
        record = await wrap(old, context(), bytes(32))
        second = await provider.create(KEY_ID, 2, "", 256)
        keys = [await provider.create(KEY_ID, 1, "", 256), second]
        vault.api("POST", f"{connection.mount}/keys/{KEY_ID}/config", {"min_decryption_version": 2})
        assert await unwrap(old, context(), record) == CustodyErrorKind.ROOT_KEY_DISABLED
        states = await provider.inspect([found.key for found in keys])
        assert states == [KeyVersionState.SUSPENDED, KeyVersionState.ACTIVE]
        described = await provider.describe([found.key for found in keys])
        assert [found.state for found in described.versions] == states
        vault.api("POST", f"{connection.mount}/keys/{KEY_ID}/config", {"min_encryption_version": 2})
        vault.api("POST", f"{connection.mount}/keys/{KEY_ID}/trim", {"min_available_version": 2})
        assert (await provider.inspect([keys[0].key])) == [KeyVersionState.DESTROYED]


@pytest.mark.parametrize("fields", [{"exportable": True}, {"type": "chacha20-poly1305"}, {"derived": True}])
async def test_unsuitable_keys_are_not_adopted(vault: VaultServer, tmp_path: Path, fields: dict[str, object]) -> None:
    connection = vault.connection(tmp_path)
    vault.api("POST", f"{connection.mount}/keys/theirs", fields)
    async with opened(connection) as provider:
        for attempt in (provider.adopt("theirs"), provider.find("theirs")):
            with pytest.raises(CustodyError) as caught:
                await attempt
            assert caught.value.kind is CustodyErrorKind.ROOT_KEY_UNSUITABLE


async def test_missing_mount_is_a_wrong_configuration(vault: VaultServer, tmp_path: Path) -> None:
    connection = vault.connection(tmp_path)
    assert connection.auth.token_file is not None
    connection.auth.token_file.write_text(vault.root_token)
    async with opened(connection.model_copy(update={"mount": "nowhere"})) as provider:
        assert await kind_of(provider) is CustodyErrorKind.CONFIGURATION


async def test_kubernetes_log_in(vault: VaultServer, tmp_path: Path) -> None:
    mount = vault.mount()
    jwt_file = tmp_path / "jwt"
    # A service-account token's shape; who it is, the (simulated) API server says.
    jwt_file.write_text(_JWT)
    allowed = True

    async def review(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        good = allowed and asked["spec"]["token"] == _JWT
        user = {"username": "system:serviceaccount:kmip:custody", "uid": "1", "groups": []}
        return web.json_response(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "status": {"authenticated": good, "user": user},
            },
            status=201,
        )

    application = web.Application()
    application.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", review)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    def configure() -> None:
        if "kubernetes/" not in vault.api("GET", "sys/auth")["data"]:
            vault.api("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        host = f"http://127.0.0.1:{runner.addresses[0][1]}"
        vault.api(
            "POST",
            "auth/kubernetes/config",
            {"kubernetes_host": host, "disable_local_ca_jwt": True, "kubernetes_ca_cert": vault.ca_file.read_text()},
        )
        role = {"bound_service_account_names": "custody", "bound_service_account_namespaces": "kmip", "ttl": "2s"}
        vault.api(
            "POST", "auth/kubernetes/role/kmip-custody", {**role, "token_policies": [mount], "token_max_ttl": "3s"}
        )

    try:
        await asyncio.to_thread(configure)
        async with opened(vault.kubernetes_connection(mount, "kmip-custody", jwt_file)) as provider:
            key = await root_key(provider)
            end = monotonic() + 4.0
            while monotonic() < end:
                assert await try_wrap(key, context()) is None, "beyond the longest life of one token"
                await asyncio.sleep(0.1)
            allowed = False
            async with asyncio.timeout(15):
                while await try_wrap(key, context()) != CustodyErrorKind.CREDENTIAL_REFUSED:
                    await asyncio.sleep(0.1)
            # Vault says the same when it cannot reach the API server that knows the token.
            assert (await key.describe()).state is RootKeyState.UNREACHABLE
            allowed = True
            async with asyncio.timeout(15):
                while await try_wrap(key, context()) is not None:
                    await asyncio.sleep(0.1)
        async with opened(vault.kubernetes_connection(mount, "nobody", jwt_file)) as provider:
            assert await kind_of(provider) is CustodyErrorKind.CREDENTIAL_REFUSED
    finally:
        await runner.cleanup()


def _jwt() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "kmip",
        "kubernetes.io/serviceaccount/service-account.name": "custody",
        "kubernetes.io/serviceaccount/service-account.uid": "1",
        "sub": "system:serviceaccount:kmip:custody",
    }
    return f"{part({'alg': 'RS256'})}.{part(claims)}.{part('signature')}"


_JWT = _jwt()
