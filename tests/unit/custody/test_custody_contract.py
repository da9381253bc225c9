"""What holds for every provider and mechanism."""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic
from uuid import uuid4

import pytest
from support.custody_backends import KEY_ID, Backend, handle_of, reference, try_wrap, unwrap, wrap
from support.custody_client import context

from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState
from kmip_custody.errors import CustodyError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import Options
from kmip_custody.rootkey import Result, RootKey


@pytest.mark.parametrize("length", [0, 1, 16, 24, 32, 37, 64, 1000, 4096])
async def test_round_trip_of_every_length(backend: Backend, length: int) -> None:
    root_key = await backend.root_key()
    plaintext = secrets.token_bytes(length)
    record = await wrap(root_key, context(), plaintext)
    assert await unwrap(root_key, context(), record) == plaintext
    if length >= 16:
        assert plaintext not in record


async def test_record_is_bound_to_object_keyspace_and_generation(backend: Backend) -> None:
    root_key = await backend.root_key()
    record = await wrap(root_key, context("7"), bytes(32))
    for other in (context("8"), context("7", keyspace=uuid4()), context("7", generation=2)):
        assert await unwrap(root_key, other, record) == CustodyErrorKind.INTEGRITY
    assert await unwrap(root_key, context("7"), record) == bytes(32)


async def test_record_of_another_root_key_is_refused(backend: Backend) -> None:
    ours = await backend.root_key()
    theirs = await backend.root_key("another")
    record = await wrap(theirs, context(), bytes(32))
    assert await unwrap(ours, context(), record) == CustodyErrorKind.INTEGRITY
    renamed = RootKey(backend.provider, theirs.ref.model_copy(update={"key_id": KEY_ID}))
    assert await unwrap(renamed, context(), record) == CustodyErrorKind.INTEGRITY
    assert await unwrap(theirs, context(), record) == bytes(32)


async def test_every_changed_byte_is_noticed(backend: Backend) -> None:
    root_key = await backend.root_key()
    record = await wrap(root_key, context(), secrets.token_bytes(32))
    changed = [
        record[:at] + bytes([record[at] ^ flip]) + record[at + 1 :] for at in range(len(record)) for flip in (1, 0x80)
    ]
    changed += [record[:-1], record + b"\0", b"", record[:4]]
    outcomes = await root_key.unwrap([(context(), one) for one in changed], monotonic() + 60)
    assert all(isinstance(outcome, CustodyError) for outcome in outcomes)
    kinds = {outcome.kind for outcome in outcomes if isinstance(outcome, CustodyError)}
    # Unavailable: a changed version that is newer than the configuration knows may be a configuration still to come.
    assert kinds <= {CustodyErrorKind.INTEGRITY, CustodyErrorKind.UNAVAILABLE}
    assert not any(kind.revoked for kind in kinds)


async def test_a_batch_answers_each_item_alone(backend: Backend) -> None:
    root_key = await backend.root_key()
    plaintexts = [secrets.token_bytes(32) for _ in range(20)]
    records = [await wrap(root_key, context(str(n)), plaintext) for n, plaintext in enumerate(plaintexts)]
    records[3], records[11] = records[11], b"KMD1 but no record"
    outcomes = await root_key.unwrap([(context(str(n)), record) for n, record in enumerate(records)], monotonic() + 10)
    for number, outcome in enumerate(outcomes):
        if number in {3, 11}:
            assert isinstance(outcome, CustodyError)
            assert outcome.kind is CustodyErrorKind.INTEGRITY
        else:
            assert outcome == Result(plaintexts[number], 1)


async def test_many_at_once(backend: Backend) -> None:
    root_key = await backend.root_key()

    async def one(number: int) -> None:
        plaintext = secrets.token_bytes(32)
        record = await wrap(root_key, context(str(number)), plaintext)
        assert await unwrap(root_key, context(str(number)), record) == plaintext

    await asyncio.gather(*(one(number) for number in range(200)))


async def test_new_version_wraps_and_old_records_unwrap(backend: Backend) -> None:
    old = await backend.root_key(versions=1)
    record = await wrap(old, context("1"), b"old" * 8)
    both = await backend.root_key(versions=2)
    (outcome,) = await both.wrap([(context("2"), b"new" * 8)], monotonic() + 10)
    assert isinstance(outcome, Result)
    assert outcome.version == 2
    assert await unwrap(both, context("1"), record) == b"old" * 8
    # A replica that was not told of version 2 yet must not believe that the key was taken away.
    assert await unwrap(old, context("2"), outcome.data) == CustodyErrorKind.UNAVAILABLE


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (KeyVersionState.SUSPENDED, CustodyErrorKind.ROOT_KEY_DISABLED),
        (KeyVersionState.DESTROYED, CustodyErrorKind.ROOT_KEY_DESTROYED),
    ],
)
async def test_configured_state_is_obeyed(backend: Backend, state: KeyVersionState, kind: CustodyErrorKind) -> None:
    root_key = await backend.root_key()
    record = await wrap(root_key, context(), bytes(32))
    version = root_key.ref.versions[0].model_copy(update={"state": state})
    root_key.replace(root_key.ref.model_copy(update={"versions": (version,)}))
    assert await unwrap(root_key, context(), record) == kind
    assert await try_wrap(root_key, context()) == kind
    assert (await root_key.describe()).state is RootKeyState.REVOKED


async def test_deactivated_version_unwraps_and_does_not_wrap(backend: Backend) -> None:
    root_key = await backend.root_key()
    record = await wrap(root_key, context(), bytes(32))
    version = root_key.ref.versions[0].model_copy(update={"state": KeyVersionState.DEACTIVATED})
    root_key.replace(root_key.ref.model_copy(update={"versions": (version,)}))
    assert await unwrap(root_key, context(), record) == bytes(32)
    assert await try_wrap(root_key, context()) == CustodyErrorKind.CONFIGURATION


async def test_describe_names_the_key_manager(backend: Backend) -> None:
    description = await (await backend.root_key()).describe()
    assert description.state is RootKeyState.USABLE
    assert description.current_version == 1
    assert description.facts.mechanism == backend.provider.mechanism
    assert description.facts.manufacturer


async def test_creating_again_finds_the_same_key(backend: Backend) -> None:
    first = await backend.provider.create(KEY_ID, 1, "default/crk", 256)
    record = await wrap(RootKey(backend.provider, reference(KEY_ID, first)), context(), bytes(32))
    again = await backend.provider.create(KEY_ID, 1, "renamed", 256)
    assert again.key == first.key
    assert await unwrap(RootKey(backend.provider, reference(KEY_ID, again)), context(), record) == bytes(32)


async def test_records_outlive_the_process(backend: Backend) -> None:
    root_key = await backend.root_key()
    record = await wrap(root_key, context(), b"x" * 32)
    await backend.provider.close()
    provider, _ = make_provider(backend.connection, None, require_confirmed=True, options=Options(10.0))
    try:
        assert await unwrap(RootKey(provider, root_key.ref), context(), record) == b"x" * 32
    finally:
        await provider.close()


async def test_destroyed_key_is_told_at_once(token_backend: Backend) -> None:
    root_key = await token_backend.root_key()
    record = await wrap(root_key, context(), bytes(32))
    token_backend.token.destroy(handle_of(root_key))
    assert await unwrap(root_key, context(), record) == CustodyErrorKind.ROOT_KEY_DESTROYED
    assert await try_wrap(root_key, context()) == CustodyErrorKind.ROOT_KEY_DESTROYED
    description = await root_key.describe()
    assert description.state is RootKeyState.REVOKED
    assert description.error is not None
    assert handle_of(root_key) in description.error.message


async def test_key_that_was_never_there(token_backend: Backend) -> None:
    root_key = await token_backend.root_key()
    missing = root_key.ref.versions[0].model_copy(update={"handle": "00" * 16})
    root_key.replace(root_key.ref.model_copy(update={"versions": (missing,)}))
    assert await try_wrap(root_key, context()) == CustodyErrorKind.ROOT_KEY_NOT_FOUND


async def test_suspended_key_is_told_and_serves_again(token_backend: Backend) -> None:
    root_key = await token_backend.root_key()
    record = await wrap(root_key, context(), b"k" * 32)
    process = "UNWRAP" if token_backend.provider.mechanism == "AES_KEY_WRAP_PAD" else "DECRYPT"
    token_backend.token.permit(handle_of(root_key), process, allowed=False)
    assert await unwrap(root_key, context(), record) == CustodyErrorKind.ROOT_KEY_DISABLED
    description = await root_key.describe()
    assert description.state is RootKeyState.REVOKED
    token_backend.token.permit(handle_of(root_key), process, allowed=True)
    assert await unwrap(root_key, context(), record) == b"k" * 32
    assert (await root_key.describe()).state is RootKeyState.USABLE


async def test_lost_token_is_unreachable_not_revoked(token_backend: Backend) -> None:
    root_key = await token_backend.root_key()
    record = await wrap(root_key, context(), b"k" * 32)
    tokens = token_backend.token.tokens
    away = tokens.rename(tokens.with_name("away"))
    tokens.mkdir()
    outcome = await unwrap(root_key, context(), record)
    assert isinstance(outcome, CustodyErrorKind)
    assert outcome in {CustodyErrorKind.TOKEN_NOT_FOUND, CustodyErrorKind.UNAVAILABLE}
    assert (await root_key.describe()).state is RootKeyState.UNREACHABLE
    tokens.rmdir()
    away.rename(tokens)
    async with asyncio.timeout(20):
        while await unwrap(root_key, context(), record) != b"k" * 32:
            await asyncio.sleep(0.05)


async def test_two_keys_of_one_id_wrap_alike_and_both_unwrap(token_backend: Backend) -> None:
    hsm = token_backend.token
    root_key = await token_backend.root_key()
    before = await wrap(root_key, context("1"), b"1" * 32)
    for label in ("copy", "another copy"):
        hsm.duplicate(handle_of(root_key), label)
    found = await token_backend.provider.create(KEY_ID, 1, "default/crk", 256)
    assert "3 keys share CKA_ID" in found.note
    after = await wrap(root_key, context("2"), b"2" * 32)
    assert await unwrap(root_key, context("1"), before) == b"1" * 32
    assert await unwrap(root_key, context("2"), after) == b"2" * 32
    assert await unwrap(root_key, context("3"), after) == CustodyErrorKind.INTEGRITY


async def test_key_made_here_cannot_leave_the_token(token_backend: Backend) -> None:
    root_key = await token_backend.root_key()
    attributes = ["SENSITIVE", "EXTRACTABLE", "NEVER_EXTRACTABLE", "ALWAYS_SENSITIVE", "PRIVATE", "TOKEN"]
    found = token_backend.token.administer(
        "print(*(bool(keys[0][Attribute[name]]) for name in argv[4:]))", handle_of(root_key), *attributes
    )
    assert found == "True False True True True True"
    assert "default/crk/1" in token_backend.token.labels()
