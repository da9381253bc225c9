"""Requests to an API server that has trouble: throttling, errors, silence, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from kmip_operator.kube.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError, UnreachableError
from kmip_operator.kube.transport import ATTEMPTS, Transport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Transport]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    transport = Transport(configuration)
    try:
        yield transport
    finally:
        await transport.close()
        await runner.cleanup()


def status(code: int, reason: str, **headers: str) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": "said so"}, status=code, headers=headers)


async def test_a_throttled_request_waits_as_long_as_it_is_told() -> None:
    calls: list[float] = []

    async def handler(_: web.Request) -> web.Response:
        calls.append(asyncio.get_running_loop().time())
        return (
            status(429, "TooManyRequests", **{"Retry-After": "1"}) if len(calls) == 1 else web.json_response({"ok": 1})
        )

    async with serving(handler) as transport:
        assert await transport.request("GET", "/x") == {"ok": 1}
    assert calls[1] - calls[0] >= 1.0


async def test_trouble_that_stays_is_reported_after_few_attempts() -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return status(503, "ServiceUnavailable")

    async with serving(handler) as transport:
        with pytest.raises(ApiError) as caught:
            await transport.request("GET", "/x")
    assert caught.value.status == 503
    assert calls == ATTEMPTS


async def test_what_may_not_arrive_twice_is_sent_once() -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return status(500, "InternalError")

    async with serving(handler) as transport:
        with pytest.raises(ApiError):
            await transport.request("POST", "/x", body={}, retry=False)
    assert calls == 1


async def test_silence_ends_at_the_deadline() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with serving(handler) as transport:
        with pytest.raises(UnreachableError):
            async with asyncio.timeout(10):
                await transport.request("GET", "/x", deadline=0.3)


async def test_a_broken_connection_is_tried_again() -> None:
    calls = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"calls": calls})

    async with serving(handler) as transport:
        assert await transport.request("GET", "/x") == {"calls": 2}


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [(404, "NotFound", NotFoundError), (409, "Conflict", ConflictError), (409, "AlreadyExists", AlreadyExistsError)],
)
async def test_refusals_have_their_own_types(code: int, reason: str, kind: type[ApiError]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return status(code, reason)

    async with serving(handler) as transport:
        with pytest.raises(kind) as caught:
            await transport.request("GET", "/x")
    assert type(caught.value) is kind


async def test_a_proxys_error_page_is_an_error_without_its_text() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=403, text="<html>secret</html>")

    async with serving(handler) as transport:
        with pytest.raises(ApiError) as caught:
            await transport.request("GET", "/x")
    assert "secret" not in str(caught.value)


async def test_a_watch_delivers_lines_however_they_are_cut() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b'{"type":"AD', b'DED"}\n{"type":', b'"BOOKMARK"}\n\n{"type":"DELETED"}\n'):
            await response.write(part)
            await asyncio.sleep(0)
        return response

    async with serving(handler) as transport:
        events = [event async for event in transport.stream("/x", query={"watch": "true"}, inactivity=5)]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK", "DELETED"]


async def test_a_silent_watch_is_given_up() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"ADDED"}\n')
        await asyncio.sleep(60)
        return response

    async with serving(handler) as transport, asyncio.timeout(10):
        events = transport.stream("/x", query={}, inactivity=0.3)
        assert await anext(events) == {"type": "ADDED"}
        with pytest.raises(UnreachableError):
            await anext(events)
