"""Key managers behind a network that is cut, slow, throttled, and answers wrongly; the real one stands behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest
from support.custody_backends import KEY_ID, reference, try_wrap, unwrap, wrap
from support.custody_client import context
from support.custody_proxy import FaultyProxy
from support.fake_keyprotect import FakeKeyProtect

from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import Connection, CustodyErrorKind, KeyProtectConnection, VaultConnection
from kmip_custody.errors import CustodyError
from kmip_custody.providers import make_provider
from kmip_custody.providers.api import Options, RootKeyProvider
from kmip_custody.providers.http import TRIES
from kmip_custody.rootkey import Result, RootKey

REMOTE = ("vault", "keyprotect")


class Remote(NamedTuple):
    """A provider whose key manager is behind ``proxy``, with a root key and a record of it."""

    provider: RootKeyProvider
    proxy: FaultyProxy
    root_key: RootKey
    record: bytes


@pytest.fixture(params=REMOTE)
async def remote(request: pytest.FixtureRequest, tmp_path: Path, keyprotect: FakeKeyProtect) -> AsyncIterator[Remote]:
    """Each key manager that speaks HTTP."""
    server = keyprotect if request.param == "keyprotect" else request.getfixturevalue("vault")
    direct: Connection = server.connection(tmp_path)
    assert isinstance(direct, VaultConnection | KeyProtectConnection)
    upstream = direct.address if isinstance(direct, VaultConnection) else direct.endpoint
    async with FaultyProxy(upstream, direct.ca_file).serving() as proxy:
        field = "address" if isinstance(direct, VaultConnection) else "endpoint"
        connection = direct.model_copy(update={field: proxy.address})
        provider, _ = make_provider(connection, None, require_confirmed=True, options=Options(10.0))
        found = await provider.create(KEY_ID, 1, "default/crk", 256)
        root_key = RootKey(provider, reference(KEY_ID, found))
        record = await wrap(root_key, context(), b"k" * 32)
        yield Remote(provider, proxy, root_key, record)
        await provider.close()


async def within(remote: Remote, seconds: float) -> CustodyErrorKind | bytes:
    (outcome,) = await remote.root_key.unwrap([(context(), remote.record)], monotonic() + seconds)
    return outcome.kind if isinstance(outcome, CustodyError) else outcome.data


def uses(path: str) -> bool:
    """Whether a request wraps or unwraps."""
    return "crypt/" in path or path.endswith("wrap")


async def test_outage_is_unreachable_and_passes(remote: Remote) -> None:
    remote.proxy.cut = True
    assert await within(remote, 10) == CustodyErrorKind.UNAVAILABLE
    assert (await remote.root_key.describe()).state is RootKeyState.UNREACHABLE
    remote.proxy.cut = False
    assert await within(remote, 10) == b"k" * 32
    assert (await remote.root_key.describe()).state is RootKeyState.USABLE


async def test_slowness_ends_at_each_deadline(remote: Remote) -> None:
    remote.proxy.hold()
    patient = asyncio.create_task(within(remote, 20))
    assert await within(remote, 0.2) == CustodyErrorKind.DEADLINE_EXCEEDED
    assert not patient.done()
    assert remote.provider.hung_for == 0
    remote.proxy.release()
    assert await patient == b"k" * 32


async def test_passing_refusals_are_repeated(remote: Remote) -> None:
    remote.proxy.matches = uses
    for status in (429, 503, 500, 502):
        before = remote.proxy.requests.total()
        remote.proxy.answer(status, times=TRIES - 1)
        assert await within(remote, 10) == b"k" * 32
        assert remote.proxy.requests.total() == before + TRIES


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, CustodyErrorKind.THROTTLED), (503, CustodyErrorKind.UNAVAILABLE), (500, CustodyErrorKind.UNAVAILABLE)],
)
async def test_lasting_refusals_are_told_and_are_no_revocation(
    remote: Remote, status: int, kind: CustodyErrorKind
) -> None:
    remote.proxy.matches = uses
    remote.proxy.answer(status, times=TRIES)
    assert await within(remote, 10) == kind
    assert not kind.revoked
    assert await within(remote, 10) == b"k" * 32


async def test_retry_after_beyond_the_deadline_is_not_waited_for(remote: Remote) -> None:
    remote.proxy.matches = uses
    remote.proxy.answer(429, Retry_After="3600")
    assert await within(remote, 10) == CustodyErrorKind.THROTTLED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>proxy log-in</html>",
        b"[]",
        b'{"data": null}',
        b'{"data": {"batch_results": []}}',
        b'{"data": {"batch_results": [{"plaintext": 7}]}}',
        b'{"data": {"batch_results": [{"plaintext": "not base64!"}]}}',
        b'{"plaintext": 7}',
        b'{"plaintext": "not base64!"}',
        b'{"plaintext": "", "ciphertext": ""}',
    ],
)
async def test_wrong_answers_are_no_keys(remote: Remote, body: bytes) -> None:
    remote.proxy.matches = uses
    remote.proxy.answer(200, body)
    assert await within(remote, 10) == CustodyErrorKind.UNAVAILABLE
    remote.proxy.answer(200, body)
    assert await try_wrap(remote.root_key, context()) == CustodyErrorKind.UNAVAILABLE
    assert await within(remote, 10) == b"k" * 32


@pytest.mark.parametrize("status", [204, 307, 404, 418])
async def test_strange_statuses_fail_alone(remote: Remote, status: int) -> None:
    remote.proxy.matches = uses
    remote.proxy.answer(status, b"", times=2)
    outcome = await within(remote, 10)
    assert isinstance(outcome, CustodyErrorKind)
    remote.proxy.answers.clear()
    assert await within(remote, 10) == b"k" * 32


async def test_a_lie_about_the_plaintext_is_noticed_by_the_watch(remote: Remote) -> None:
    def forge(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.endswith("unwrap") or "/decrypt/" in path:
            return status, re.sub(
                rb'("plaintext": ?".{8}).', lambda m: m[1] + (b"B" if m[0][-1:] == b"A" else b"A"), body
            )
        return status, body

    remote.proxy.forge = forge
    description = await remote.root_key.describe()
    assert description.state is RootKeyState.UNREACHABLE
    remote.proxy.forge = None
    assert (await remote.root_key.describe()).state is RootKeyState.USABLE


async def test_many_batches_at_once(remote: Remote) -> None:
    items = [(context(str(number)), bytes([number % 256]) * 32) for number in range(200)]
    batches = [items[start : start + 20] for start in range(0, len(items), 20)]
    wrapped = await asyncio.gather(*(remote.root_key.wrap(batch, monotonic() + 30) for batch in batches))
    records = [one.data for outcomes in wrapped for one in outcomes if isinstance(one, Result)]
    sealed = [(bound, record) for (bound, _), record in zip(items, records, strict=True)]
    opened = await remote.root_key.unwrap(sealed, monotonic() + 30)
    assert [one.data for one in opened if isinstance(one, Result)] == [plaintext for _, plaintext in items]
    assert await unwrap(remote.root_key, context("7"), records[8]) == CustodyErrorKind.INTEGRITY


async def test_close_answers_what_was_asked(remote: Remote) -> None:
    remote.proxy.hold()
    waiting = asyncio.create_task(within(remote, 30))
    await asyncio.sleep(0)
    while not remote.provider.hung_for and not any(uses(path) for path in remote.proxy.requests):
        await asyncio.sleep(0.01)
    await remote.provider.close()
    assert await waiting == CustodyErrorKind.UNAVAILABLE
