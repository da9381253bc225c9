"""Rotation, suspension and destruction by Jobs, over every provider, with a custody that serves meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import pytest
from support.custody_backends import KEY_ID, Backend, try_wrap, unwrap, wrap
from support.custody_client import context, run_job

from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import (
    CustodyErrorKind,
    KeyVersionState,
    RootKeyAction,
    RootKeyRef,
    RootKeyRequest,
    RootKeyResult,
)
from kmip_custody.rootkey import RootKey

SUSPENDING = {"AES_GCM", "AES_CBC_PAD_HMAC", "AES_KEY_WRAP_PAD", "keyprotect"}
LASTING = {"software"}
"""Backends whose keys cannot be destroyed."""


async def job(
    backend: Backend, action: RootKeyAction, ref: RootKeyRef | None = None, **fields: object
) -> RootKeyResult:
    request = RootKeyRequest.model_validate(
        {"action": action, "connection": backend.connection, "key_id": KEY_ID, "root_key": ref, **fields}
    )
    backend.pass_time()
    code, result, log = await asyncio.to_thread(run_job, request, backend.environment)
    assert (code == 0) == (result.error is None), log
    return result


async def done(backend: Backend, action: RootKeyAction, ref: RootKeyRef | None = None, **fields: object) -> RootKeyRef:
    """The root key after a Job that must succeed."""
    result = await job(backend, action, ref, **fields)
    assert result.error is None, result.error
    assert result.root_key is not None
    return result.root_key


async def test_rotation_wraps_anew_and_old_records_unwrap(backend: Backend) -> None:
    root_key = await backend.root_key()
    old = await wrap(root_key, context("1"), b"o" * 32)
    rotated = await done(backend, RootKeyAction.ROTATE, root_key.ref, label="default/crk")
    assert [version.version for version in rotated.versions] == [1, 2]
    assert rotated.versions[0] == root_key.ref.versions[0]
    assert rotated.versions[1].state is KeyVersionState.ACTIVE
    assert len({version.handle for version in rotated.versions}) == 2
    root_key.replace(rotated)
    assert (await root_key.describe()).current_version == 2
    new = await wrap(root_key, context("2"), b"n" * 32)
    assert await unwrap(root_key, context("1"), old) == b"o" * 32
    assert await unwrap(root_key, context("2"), new) == b"n" * 32
    # Told of the result or not, asking again from where it began makes no third version.
    if backend.name != "software":
        again = await done(
            backend, RootKeyAction.ROTATE, root_key.ref.model_copy(update={"versions": rotated.versions[:1]})
        )
        assert again == rotated
        described = await job(backend, RootKeyAction.DESCRIBE)
        assert described.root_key == rotated, "also found by its id alone"
        assert described.root_key_facts is not None
        assert described.root_key_facts.exportable is False


async def test_suspended_root_key_serves_again(backend: Backend) -> None:
    root_key = await backend.root_key(versions=2)
    record = await wrap(root_key, context(), b"k" * 32)
    result = await job(backend, RootKeyAction.DISABLE, root_key.ref)
    if backend.name not in SUSPENDING:
        assert not result.supported
        assert result.error is not None
        assert "cannot be disabled" in result.error.message
        assert not (await job(backend, RootKeyAction.ENABLE, root_key.ref)).supported
        assert await unwrap(root_key, context(), record) == b"k" * 32
        return
    assert result.root_key is not None, result.error
    assert {version.state for version in result.root_key.versions} == {KeyVersionState.SUSPENDED}
    assert await unwrap(root_key, context(), record) == CustodyErrorKind.ROOT_KEY_DISABLED
    assert await try_wrap(root_key, context()) == CustodyErrorKind.ROOT_KEY_DISABLED
    assert (await root_key.describe()).state is RootKeyState.REVOKED
    enabled = await done(backend, RootKeyAction.ENABLE, root_key.ref)
    assert {version.state for version in enabled.versions} == {KeyVersionState.ACTIVE}
    assert await unwrap(root_key, context(), record) == b"k" * 32
    assert (await root_key.describe()).state is RootKeyState.USABLE


async def test_destruction_is_proved_and_final(backend: Backend) -> None:
    root_key = await backend.root_key(versions=2)
    first = RootKey(backend.provider, root_key.ref.model_copy(update={"versions": root_key.ref.versions[:1]}))
    records = [await wrap(first, context(), b"1" * 32), await wrap(root_key, context(), b"2" * 32)]
    result = await job(backend, RootKeyAction.DESTROY, root_key.ref)
    if backend.name in LASTING:
        assert not result.supported
        assert result.error is not None
        assert "delete the Secret" in result.error.message
        assert await unwrap(root_key, context(), records[1]) == b"2" * 32
        return
    if backend.name == "vault":
        assert result.error is not None
        assert result.supported
        assert "deletion_allowed=true" in result.error.message
        assert await unwrap(root_key, context(), records[1]) == b"2" * 32
        backend.allow_deletion()
        result = await job(backend, RootKeyAction.DESTROY, root_key.ref)
    destruction = result.destruction
    assert destruction is not None, result.error
    assert (destruction.canaries, destruction.proven) == (2, backend.name != "keyprotect"), destruction
    assert destruction.refused_as is CustodyErrorKind.ROOT_KEY_DESTROYED
    assert destruction.canary is not None
    assert base64.b64decode(destruction.canary).startswith(b"KMD1")
    assert result.root_key is not None
    assert {version.state for version in result.root_key.versions} == {KeyVersionState.DESTROYED}
    for record in records:
        assert await unwrap(root_key, context(), record) == CustodyErrorKind.ROOT_KEY_DESTROYED
    assert await try_wrap(root_key, context()) == CustodyErrorKind.ROOT_KEY_DESTROYED
    assert (await root_key.describe()).state is RootKeyState.REVOKED
    again = await job(backend, RootKeyAction.DESTROY, root_key.ref)
    assert again.destruction is not None, again.error
    assert (again.destruction.canaries, again.destruction.proven) == (0, False), (
        "nothing is proved of what is not there"
    )
    # The same id may have another key later; no old record is taken for one of its.
    replacement = await backend.root_key()
    assert await unwrap(replacement, context(), records[0]) == CustodyErrorKind.INTEGRITY


async def test_one_old_version_is_destroyed(token_backend: Backend) -> None:
    root_key = await token_backend.root_key(versions=2)
    first = RootKey(token_backend.provider, root_key.ref.model_copy(update={"versions": root_key.ref.versions[:1]}))
    old, new = await wrap(first, context(), b"1" * 32), await wrap(root_key, context(), b"2" * 32)
    result = await job(token_backend, RootKeyAction.DESTROY, root_key.ref, target=1)
    assert result.destruction is not None, result.error
    assert result.destruction.proven
    assert result.root_key is not None
    assert [version.state for version in result.root_key.versions] == [
        KeyVersionState.DESTROYED,
        KeyVersionState.ACTIVE,
    ]
    root_key.replace(result.root_key)
    assert await unwrap(root_key, context(), old) == CustodyErrorKind.ROOT_KEY_DESTROYED
    assert await unwrap(root_key, context(), new) == b"2" * 32
    assert (await root_key.describe()).state is RootKeyState.USABLE
    rotated = await done(token_backend, RootKeyAction.ROTATE, result.root_key)
    assert [version.version for version in rotated.versions] == [1, 2, 3]


async def test_token_that_does_not_let_a_key_be_suspended(token_backend: Backend) -> None:
    fixed: Mapping[str, str] = {"AES_KEY_WRAP_PAD": "UNWRAP"}
    token_backend.token.administer(
        "session.generate_key(KeyType.AES, 256, id=b'fixed', label='fixed', store=True, template={"
        "Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.MODIFIABLE: False})"
    )
    if token_backend.name == "AES_CBC_PAD_HMAC":
        token_backend.token.administer(
            "session.generate_key(KeyType.GENERIC_SECRET, 256, id=b'fixed', label='fixed/mac', store=True,"
            " mechanism=__import__('pkcs11').Mechanism.GENERIC_SECRET_KEY_GEN,"
            " capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY, template={Attribute.MODIFIABLE: False})"
        )
    adopted = await done(token_backend, RootKeyAction.ADOPT, key_id="fixed")
    result = await job(token_backend, RootKeyAction.DISABLE, adopted)
    assert not result.supported
    assert result.error is not None
    assert f"CKA_{fixed.get(token_backend.name, 'DECRYPT')}" in result.error.message


@pytest.mark.parametrize("action", [RootKeyAction.ROTATE, RootKeyAction.DESCRIBE, RootKeyAction.DESTROY])
async def test_key_that_is_not_there(backend: Backend, action: RootKeyAction) -> None:
    result = await job(backend, action, key_id="nobody")
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.ROOT_KEY_NOT_FOUND
    result = await job(backend, action, (await backend.root_key()).ref, target=7)
    if action is RootKeyAction.DESTROY:
        assert result.error is not None
        assert "no version 7" in result.error.message
