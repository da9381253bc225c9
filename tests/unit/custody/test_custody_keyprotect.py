"""What is Key Protect's own: IAM, key rings, names that are not unique, timers, and a destruction in two steps."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
from pydantic import ValidationError
from support.custody_backends import KEY_ID, reference, try_wrap, unwrap, wrap
from support.custody_client import context, run_job
from support.fake_keyprotect import PURGEABLE, RESTORABLE, FakeKeyProtect

from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import (
    Connection,
    CustodyErrorKind,
    KeyProtectAuth,
    KeyProtectConnection,
    KeyVersionState,
    RootKeyAction,
    RootKeyRequest,
    RootKeyResult,
    TrustedProfile,
)
from kmip_custody import record
from kmip_custody.errors import CustodyError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import KeyVersion, Options
from kmip_custody.providers.keyprotect import regions
from kmip_custody.providers.keyprotect.provider import KeyProtectProvider
from kmip_custody.rootkey import RootKey


@contextlib.asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[KeyProtectProvider]:
    provider, _ = make_provider(connection, None, require_confirmed=True, options=Options(10.0))
    assert isinstance(provider, KeyProtectProvider)
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture
async def provider(keyprotect: FakeKeyProtect, tmp_path: Path) -> AsyncIterator[KeyProtectProvider]:
    async with opened(keyprotect.connection(tmp_path)) as made:
        yield made


async def root_key(provider: KeyProtectProvider) -> RootKey:
    return RootKey(provider, reference(KEY_ID, await provider.create(KEY_ID, 1, "default/crk", 256)))


async def job(service: FakeKeyProtect, action: RootKeyAction, key: RootKey, **fields: object) -> RootKeyResult:
    with tempfile.TemporaryDirectory() as directory:
        connection = service.connection(Path(directory))
        request = {"action": action, "connection": connection, "root_key": key.ref, **fields}
        return (await asyncio.to_thread(run_job, RootKeyRequest.model_validate(request)))[1]


async def refused(provider: KeyProtectProvider) -> CustodyErrorKind:
    with pytest.raises(CustodyError) as caught:
        await provider.probe()
    return caught.value.kind


async def test_every_request_says_who_where_and_which_ring(keyprotect: FakeKeyProtect, tmp_path: Path) -> None:
    async with opened(keyprotect.connection(tmp_path, key_ring="kmip")) as provider:
        key = await root_key(provider)
        assert keyprotect.only().ring == "kmip"
        assert keyprotect.only().description == "default/crk"
        assert await try_wrap(key, context()) is None
    assert len({headers["correlation-id"] for headers in keyprotect.headers}) == len(keyprotect.headers)
    assert {headers["x-kms-key-ring"] for headers in keyprotect.headers} == {"kmip"}
    assert keyprotect.logins == ["apikey"]
    async with opened(keyprotect.connection(tmp_path)) as elsewhere:
        assert await elsewhere.find(KEY_ID) == ()


async def test_token_that_ended_is_replaced(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    sealed = await wrap(key, context(), b"k" * 32)
    keyprotect.pass_time()
    opened_again = await asyncio.gather(*(unwrap(key, context(), sealed) for _ in range(20)))
    assert set(opened_again) == {b"k" * 32}
    assert keyprotect.logins == ["apikey", "apikey"], "one for all"


async def test_trusted_profile_needs_no_secret(keyprotect: FakeKeyProtect, tmp_path: Path) -> None:
    async with opened(keyprotect.profile_connection(tmp_path)) as provider:
        assert await try_wrap(await root_key(provider), context()) is None
        assert keyprotect.logins == ["cr-token"]
    keyprotect.profile = "another"
    connection = keyprotect.connection(
        tmp_path,
        auth=KeyProtectAuth(trusted_profile=TrustedProfile(profile_id="mine", token_file=tmp_path / "sa-token")),
    )
    async with opened(connection) as provider:
        assert await refused(provider) is CustodyErrorKind.CREDENTIAL_REFUSED


async def test_wrong_api_key_is_tried_once(keyprotect: FakeKeyProtect, tmp_path: Path) -> None:
    connection = keyprotect.connection(tmp_path)
    assert connection.auth.api_key_file is not None
    connection.auth.api_key_file.write_text("wrong\n")
    async with opened(connection) as provider:
        for _ in range(3):
            assert await refused(provider) is CustodyErrorKind.CREDENTIAL_REFUSED
        assert len(keyprotect.logins) == 1
        connection.auth.api_key_file.write_text(keyprotect.api_key)
        await provider.probe()


async def test_permission_taken_away_is_a_revocation(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    sealed = await wrap(key, context(), b"k" * 32)
    keyprotect.authorized = False
    assert await unwrap(key, context(), sealed) == CustodyErrorKind.AUTHORIZATION_LOST
    assert (await key.describe()).state is RootKeyState.REVOKED
    keyprotect.authorized = True
    assert await unwrap(key, context(), sealed) == b"k" * 32


async def test_instance_that_is_not_initialised(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    keyprotect.initialized = False
    with pytest.raises(CustodyError) as caught:
        await provider.probe()
    assert caught.value.kind is CustodyErrorKind.UNAVAILABLE


async def test_standard_keys_are_no_root_keys(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    standard = keyprotect.add("theirs", extractable=True)
    with pytest.raises(CustodyError) as caught:
        await provider.adopt(standard.id)
    assert caught.value.kind is CustodyErrorKind.ROOT_KEY_UNSUITABLE


async def test_adoption_by_alias_and_by_id_is_one_key(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    theirs = keyprotect.add("theirs")
    theirs.aliases.add("our-crk")
    by_alias, by_id = await provider.adopt("our-crk"), await provider.adopt(theirs.id)
    assert by_alias == by_id
    assert by_id.key.key_id == theirs.id
    assert [found.key for found in await provider.find(theirs.id)] == [by_id.key]


async def test_of_two_keys_of_one_name_the_older_is_used(
    keyprotect: FakeKeyProtect, provider: KeyProtectProvider
) -> None:
    found = await provider.create(KEY_ID, 1, "", 256)
    keyprotect.clock.advance(seconds=1)
    keyprotect.add(f"kmip-{KEY_ID}")
    again = await provider.create(KEY_ID, 1, "", 256)
    assert again.key == found.key
    assert "2 root keys are named" in again.note


async def test_search_that_is_too_broad_becomes_a_walk(
    keyprotect: FakeKeyProtect, provider: KeyProtectProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.fake_keyprotect.SEARCHABLE", 20)
    monkeypatch.setattr("kmip_custody.providers.keyprotect.provider._PAGE", 7)
    for number in range(30):
        keyprotect.add(f"other-{number}")
    found = await provider.create(KEY_ID, 1, "", 256)
    assert (await provider.find(KEY_ID))[0].key == found.key
    assert len(keyprotect.keys) == 31


async def test_long_keys_and_their_parts_do_not_change_places(provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    plaintext = secrets.token_bytes(3000)
    whole = record.decode(await wrap(key, context(), plaintext))
    assert await unwrap(key, context(), record.encode(whole)) == plaintext
    inner = whole._replace(sealed=whole.sealed._replace(nonce=b"", ciphertext=whole.sealed.mac, mac=b""))
    assert await unwrap(key, context(), record.encode(inner)) == CustodyErrorKind.INTEGRITY, "not the inner key"
    short = record.decode(await wrap(key, context(), bytes(32)))
    outer = short._replace(sealed=whole.sealed._replace(mac=short.sealed.ciphertext))
    assert await unwrap(key, context(), record.encode(outer)) == CustodyErrorKind.INTEGRITY


async def test_rotation_elsewhere_is_noticed(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    sealed = await wrap(key, context(), b"k" * 32)
    assert (await key.describe()).newer_handle is None
    keyprotect.pass_time()
    keyprotect._rotate(keyprotect.only())
    assert await unwrap(key, context(), sealed) == b"k" * 32
    newest = keyprotect.only().versions[-1].id
    assert provider.newer_handle == f"{keyprotect.only().id}/{newest}", "the re-wrapped key in the answer tells"
    described = await provider.describe([await _first(provider)])
    assert [found.key.version for found in described.versions] == [1, 2]
    key.replace(reference(KEY_ID, *described.versions))
    assert (await key.describe()).newer_handle is None


async def _first(provider: KeyProtectProvider) -> KeyVersion:
    return (await provider.find(KEY_ID))[0].key


async def test_timers_are_told_as_try_again_later(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    result = await job(keyprotect, RootKeyAction.ROTATE, key)
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.THROTTLED
    assert (await job(keyprotect, RootKeyAction.DISABLE, key)).error is None
    result = await job(keyprotect, RootKeyAction.ENABLE, key)
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.THROTTLED
    keyprotect.clock.advance(seconds=31)
    assert (await job(keyprotect, RootKeyAction.ENABLE, key)).error is None


async def test_deleted_restored_deleted_and_purged(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    sealed = await wrap(key, context(), b"k" * 32)
    result = await job(keyprotect, RootKeyAction.DESTROY, key)
    assert result.destruction is not None, result.error
    assert result.destruction.restorable_until == keyprotect.clock.now + RESTORABLE
    assert result.destruction.purgeable_at == keyprotect.clock.now + PURGEABLE
    assert not result.destruction.proven, "it can still come back"
    assert await unwrap(key, context(), sealed) == CustodyErrorKind.ROOT_KEY_DESTROYED
    keyprotect.clock.advance(seconds=31)
    restored = await job(keyprotect, RootKeyAction.ENABLE, key)
    assert restored.root_key is not None, restored.error
    assert restored.root_key.versions[0].state is KeyVersionState.ACTIVE
    assert await unwrap(key, context(), sealed) == b"k" * 32
    canary = (await job(keyprotect, RootKeyAction.DESTROY, key)).destruction
    assert canary is not None
    early = await job(keyprotect, RootKeyAction.DESTROY, key, purge=True, canary=canary.canary)
    assert early.error is not None
    assert early.error.kind is CustodyErrorKind.THROTTLED
    keyprotect.clock.advance(hours=4, seconds=1)
    final = (await job(keyprotect, RootKeyAction.DESTROY, key, purge=True, canary=canary.canary)).destruction
    assert final is not None
    assert (final.canaries, final.proven, final.restorable_until) == (1, True, None)
    assert keyprotect.keys == {}
    assert await unwrap(key, context(), sealed) == CustodyErrorKind.ROOT_KEY_DESTROYED


async def test_destruction_of_an_imported_key_proves_nothing(
    keyprotect: FakeKeyProtect, provider: KeyProtectProvider
) -> None:
    material = secrets.token_bytes(32)
    theirs, twin = keyprotect.add("theirs", payload=material), keyprotect.add("twin", payload=material)
    key = RootKey(provider, reference(theirs.id, await provider.adopt(theirs.id)))
    gone = await job(keyprotect, RootKeyAction.DESTROY, key)
    assert gone.destruction is not None, gone.error
    keyprotect.clock.advance(hours=5)
    final = await job(keyprotect, RootKeyAction.DESTROY, key, purge=True, canary=gone.destruction.canary)
    assert final.destruction is not None, final.error
    assert not final.destruction.proven
    assert "a copy of the key may exist" in final.destruction.note
    assert list(keyprotect.keys) == [twin.id]


@pytest.mark.parametrize(("field", "words"), [("protected", "registered"), ("dual_authorization", "second person")])
async def test_what_protects_a_key_is_named(
    keyprotect: FakeKeyProtect, provider: KeyProtectProvider, field: str, words: str
) -> None:
    key = await root_key(provider)
    setattr(keyprotect.only(), field, True)
    result = await job(keyprotect, RootKeyAction.DESTROY, key)
    assert result.error is not None
    assert words in result.error.message
    assert await try_wrap(key, context()) is None


async def test_one_version_cannot_be_taken_alone(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    await root_key(provider)
    keyprotect.pass_time()
    await provider.create(KEY_ID, 2, "", 256)
    key = RootKey(provider, reference(KEY_ID, *await provider.find(KEY_ID)))
    result = await job(keyprotect, RootKeyAction.DESTROY, key, target=1)
    assert not result.supported
    assert result.error is not None
    assert await try_wrap(key, context()) is None


async def test_expired_key_unwraps_and_does_not_wrap(keyprotect: FakeKeyProtect, provider: KeyProtectProvider) -> None:
    key = await root_key(provider)
    sealed = await wrap(key, context(), b"k" * 32)
    keyprotect.only().expires = keyprotect.clock.now + timedelta(hours=2)
    keyprotect.clock.advance(hours=3)
    assert await unwrap(key, context(), sealed) == b"k" * 32
    (outcome,) = await key.wrap([(context(), bytes(32))], monotonic() + 10)
    assert isinstance(outcome, CustodyError)
    assert (await provider.inspect([await _first(provider)])) == [KeyVersionState.DEACTIVATED]


def test_regions_are_facts() -> None:
    assert regions.describe("Standard", "eu-de") == "Key Protect, eu-de (MZR)"
    assert "SC-MZR" in regions.describe("Standard", "jp-osa")
    assert "not offered there" in regions.describe("Dedicated", "au-syd")
    assert "ends 2027-03-28" in regions.describe("HyperProtect", "us-south")
    assert "not a region known" in regions.describe("Standard", "mars")
    assert regions.REGIONS["us-south"].zones == ("us-south-1", "us-south-2", "us-south-3")


@pytest.mark.parametrize("endpoint", ["http://eu-de.kms.cloud.ibm.com", "https://eu-de.kms.cloud.ibm.com/api/v2"])
def test_endpoint_is_an_origin(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        KeyProtectConnection(
            endpoint=endpoint, instance_id="i", auth=KeyProtectAuth(api_key_file=tmp_path), iam_endpoint="https://iam"
        )
