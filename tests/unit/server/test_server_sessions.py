"""Connections: framing, order, limits, time-outs, closing."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path

import pytest
from support import pki
from support.kmip_port import REQUEST, open_port, request

from kmip_contract.kmipd import Limits, Listen
from kmipd.server.server import listening_sockets

CLIENT = pki.make("vc01")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
async def test_answers_and_names_the_client(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        assert await port.ask(CLIENT, version=version) == REQUEST
        [(message, client)] = port.echo.seen
        assert message == REQUEST
        assert (client.name, client.fingerprint) == ("vc01", CLIENT.sha256)
        assert client.address.startswith("127.0.0.1:")
        assert port.counters.handshakes["ok"] == 1


async def test_pipelined_and_split_messages_are_answered_in_order(tmp_path: Path) -> None:
    messages = [request(bytes([number % 256]) * 8 * (1 + number % 5)) for number in range(200)]
    stream = b"".join(messages)
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        with await port.connect(CLIENT) as connection:
            for start in range(0, len(stream), 777):
                await asyncio.to_thread(connection.send, stream[start : start + 777])
            assert [await asyncio.to_thread(connection.receive) for _ in messages] == messages


async def test_pipelined_messages_wait_for_the_one_before(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        port.echo.gate = asyncio.Event()
        with await port.connect(CLIENT) as connection:
            messages = [request(bytes([number]) * 8) for number in range(5)]
            await asyncio.to_thread(connection.send, b"".join(messages))
            await port.until(lambda: len(port.echo.seen) == 1)
            port.echo.gate.set()
            assert [await asyncio.to_thread(connection.receive) for _ in messages] == messages


async def test_a_large_message_comes_back_whole(tmp_path: Path) -> None:
    large = request(bytes(range(256)) * 4000)
    async with open_port(tmp_path, CLIENT.entry("vc01"), limits=Limits(message_bytes=2 * 1024 * 1024)) as port:
        with await port.connect(CLIENT) as connection:
            await asyncio.to_thread(connection.send, large)
            # Not read until the server had to stop writing, so that the rest goes out from the write callback.
            await port.until(lambda: len(port.echo.seen) == 1)
            assert await asyncio.to_thread(connection.receive) == large
            assert await asyncio.to_thread(connection.ask, REQUEST) == REQUEST


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n",
        b"\x42\x00\x78\x01\xff\xff\xff\xf8" + b"\0" * 100,
        b"\x42\x00\x78\x01\x00\x00\x00\x07" + b"\0" * 8,
    ],
    ids=["http", "four-gigabytes", "odd-length"],
)
async def test_lost_framing_is_answered_and_ends_the_connection(tmp_path: Path, start: bytes) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        with await port.connect(CLIENT) as connection:
            await asyncio.to_thread(connection.send, start)
            assert (await asyncio.to_thread(connection.receive))[:3] == b"\x42\x00\x7b"
            assert await asyncio.to_thread(connection.ended)
        assert await port.ask(CLIENT) == REQUEST


async def test_slow_frames_idle_connections_and_handshakes_end(tmp_path: Path) -> None:
    limits = Limits(handshake=0.2, idle=0.4, frame=0.2)
    async with open_port(tmp_path, CLIENT.entry("vc01"), limits=limits) as port:
        reader, writer = await asyncio.open_connection(*port.address)
        assert await reader.read() == b""
        writer.close()
        with await port.connect(CLIENT) as idle, await port.connect(CLIENT) as slow:
            await asyncio.to_thread(slow.send, REQUEST[:9])
            assert await asyncio.to_thread(slow.ended)
            assert await asyncio.to_thread(idle.ended)
        await port.until(lambda: port.counters.connections == 0)
        assert port.counters.handshakes["timeout"] == 1
        assert port.counters.closed["frame_timeout"] == 1
        assert port.counters.closed["idle_timeout"] == 1


async def test_connections_are_limited_per_address(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01"), limits=Limits(connections_per_address=2)) as port:
        with await port.connect(CLIENT), await port.connect(CLIENT):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await port.connect(CLIENT)
            assert port.counters.handshakes["connection_limit"] == 1
        await port.until(lambda: port.counters.connections == 0)
        assert await port.ask(CLIENT) == REQUEST


async def test_empty_connections_are_quiet(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        for _ in range(20):
            (await port.connect(CLIENT)).close()
        await port.until(lambda: port.counters.connections == 0)
        assert port.audit_file.read_text() == ""
        assert port.counters.closed == {"by_client": 20}


async def test_the_audit_line_is_there_when_the_answer_comes(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry('vc "01"\n')) as port:
        await port.ask(CLIENT)
        [line] = port.audit_file.read_text().splitlines()
        event = json.loads(line)
        assert event["client"] == 'vc "01"\n'
        assert event["fingerprint"] == CLIENT.sha256
        assert (event["operation"], event["objects"], event["outcome"], event["us"]) == ("Get", ["id-1"], "Success", 7)
        assert (event["instance"], event["region"], event["version"]) == ("test", "tok", "1.1")


async def test_nothing_is_answered_that_cannot_be_audited(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        with await port.connect(CLIENT) as connection:
            assert await asyncio.to_thread(connection.ask, REQUEST) == REQUEST
            port.audit_file.unlink()
            port.audit_file.symlink_to("/dev/full")
            port.server.audit.reopen()
            await asyncio.to_thread(connection.send, REQUEST)
            assert await asyncio.to_thread(connection.ended)
        assert not port.server.audit.available
        begun = len(port.echo.seen)
        with await port.connect(CLIENT) as another:
            await asyncio.to_thread(another.send, REQUEST)
            assert await asyncio.to_thread(another.ended)
        assert len(port.echo.seen) == begun, "an operation was begun that could not be audited"
        port.audit_file.unlink()
        port.server.audit.reopen()
        assert await port.ask(CLIENT) == REQUEST
        assert len(port.audit_file.read_text().splitlines()) == 2


async def test_draining_answers_what_was_sent_and_ends_what_is_idle(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        with await port.connect(CLIENT) as idle, await port.connect(CLIENT) as busy:
            assert await asyncio.to_thread(idle.ask, REQUEST) == REQUEST
            port.echo.gate = asyncio.Event()
            await asyncio.to_thread(busy.send, REQUEST)
            await port.until(lambda: len(port.echo.seen) == 2)
            draining = asyncio.create_task(port.server.drain(20))
            assert await asyncio.to_thread(idle.ended)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await port.connect(CLIENT)
            port.echo.gate.set()
            assert await asyncio.to_thread(busy.receive) == REQUEST
            assert await asyncio.to_thread(busy.ended)
        await draining


async def test_the_client_that_leaves_while_it_is_served_leaves_nothing(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        port.echo.gate = asyncio.Event()
        with await port.connect(CLIENT) as connection:
            await asyncio.to_thread(connection.send, REQUEST)
            await port.until(lambda: len(port.echo.seen) == 1)
        await port.until(lambda: port.counters.connections == 0)
        port.echo.gate.set()
        await port.until(lambda: not port.server.running)
        await port.until(lambda: len(port.audit_file.read_text().splitlines()) == 1)


async def test_an_empty_host_means_every_address_of_both_families() -> None:
    [listener] = await listening_sockets(Listen(port=0))
    port = listener.getsockname()[1]
    loop = asyncio.get_running_loop()
    try:
        for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            client = socket.socket(family)
            client.setblocking(False)
            await loop.sock_connect(client, (host, port))
            accepted, _ = await loop.sock_accept(listener)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            client.close()
            accepted.close()
    finally:
        listener.close()


async def test_a_reset_after_data_ends_the_connection(tmp_path: Path) -> None:
    async with open_port(tmp_path, CLIENT.entry("vc01")) as port:
        for version in VERSIONS:
            for sent in (b"", REQUEST[:9], REQUEST):
                connection = await port.connect(CLIENT, version=version)
                connection.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if sent:
                    # In this thread: the loop sees the data and the reset together.
                    connection.send(sent)
                connection.close()
                await port.until(lambda: port.counters.connections == 0)
