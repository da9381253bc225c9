"""The plain port: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import Listen
from kmipd.admin.health import Readiness, livez
from kmipd.admin.http import Response
from kmipd.admin.metrics import KmipdMetrics, MetricsPage, Readings
from kmipd.admin.ports import PlainPort
from kmipd.server.counters import DURATION_BOUNDS, Counters


async def _broken() -> Response:
    raise RuntimeError("no")


@asynccontextmanager
async def port(readiness: Readiness, page: MetricsPage) -> AsyncIterator[tuple[str, int]]:
    routes = {"/livez": livez, "/readyz": readiness.readyz, "/metrics": page.page, "/broken": _broken}
    plain = PlainPort(routes)
    [address] = await plain.start(Listen(host="127.0.0.1", port=0))
    try:
        yield address
    finally:
        plain.close()


def metrics(counters: Counters | None = None, readings: Readings | None = None) -> MetricsPage:
    async def read() -> Readings:
        return readings or Readings()

    return MetricsPage(KmipdMetrics(counters or Counters(), DURATION_BOUNDS, "1.2.3"), read)


async def talk(address: tuple[str, int], data: bytes) -> bytes:
    """Everything the port says to ``data`` before it hangs up."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    return answer


def get(path: str, *, close: bool = True) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n".encode()


async def test_pages_and_keep_alive() -> None:
    async with port(Readiness({}), metrics()) as address:
        answer = await talk(address, get("/livez", close=False) + get("/nothing?x=1", close=False) + get("/broken"))
        assert re.findall(rb"HTTP/1\.1 [^\r]+", answer) == [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 404 Not Found",
            b"HTTP/1.1 500 Error",
        ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HEAD /livez HTTP/1.0\r\n\r\n", b"200"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"400"),
    ],
)
async def test_only_simple_requests_are_answered(data: bytes, status: bytes) -> None:
    async with port(Readiness({}), metrics()) as address:
        answer = await talk(address, data)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1") == 1


async def test_silent_connections_do_not_keep_a_probe_out() -> None:
    async with port(Readiness({}), metrics()) as address:
        silent = [await asyncio.open_connection(*address) for _ in range(100)]
        assert (await talk(address, get("/livez"))).startswith(b"HTTP/1.1 200")
        for _, writer in silent:
            writer.close()


async def test_readiness_names_what_is_wrong() -> None:
    findings = {"a": "", "b": "broken"}

    async def check_a() -> str:
        return findings["a"]

    async def check_b() -> str:
        if findings["b"] == "raise":
            raise OSError("unreachable")
        return findings["b"]

    readiness = Readiness({"a": check_a, "b": check_b})
    assert (await readiness.readyz()).status == 503
    readiness.started = True
    assert (await readiness.readyz()) == (503, "text/plain; charset=utf-8", b"[+] a\n[-] b: broken\n")
    findings["b"] = "raise"
    assert b"[-] b: unreachable" in (await readiness.readyz()).body
    findings["b"] = ""
    assert (await readiness.readyz()).status == 200
    readiness.draining = True
    assert (await readiness.readyz()).body == b"draining\n"


async def test_metrics_tell_what_was_counted() -> None:
    counters = Counters(connections=3)
    for microseconds in (10, 60, 10_000_000):
        counters.request("Get", "Success", "", microseconds)
    counters.request("Get", "OperationFailed", "ItemNotFound", 20)
    counters.request("0x7777", "OperationFailed", "OperationNotSupported", 20)
    counters.handshakes["ok"] = 2
    readings = Readings(
        objects={"Active": 7}, root_key_state=RootKeyState.USABLE, client_certificate_expiry={"vc": 1e9}
    )
    async with port(Readiness({}), metrics(counters, readings)) as address:
        lines = (await talk(address, get("/metrics"))).decode().splitlines()
    for line in (
        'kmipd_requests_total{operation="Get",result="Success"} 3.0',
        'kmipd_requests_total{operation="Get",result="ItemNotFound"} 1.0',
        'kmipd_requests_total{operation="Unknown",result="OperationNotSupported"} 1.0',
        'kmipd_request_duration_seconds_bucket{le="5e-05",operation="Get"} 2.0',
        'kmipd_request_duration_seconds_bucket{le="+Inf",operation="Get"} 4.0',
        'kmipd_request_duration_seconds_count{operation="Get"} 4.0',
        'kmipd_handshakes_total{result="ok"} 2.0',
        "kmipd_connections 3.0",
        'kmipd_objects{state="Active"} 7.0',
        'kmipd_root_key_state{state="Usable"} 1.0',
        'kmipd_root_key_state{state="Revoked"} 0.0',
        'kmipd_client_certificate_expiry_timestamp_seconds{client="vc"} 1e+09',
        'kmipd_build_info{version="1.2.3"} 1.0',
    ):
        assert line in lines, line
