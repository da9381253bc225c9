"""Frames that arrive in pieces, are too large, or make no sense."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmip_contract.custody import FRAME, MAX_FRAME
from kmip_contract.rootkey import CustodyErrorKind
from kmipd.keys.api import KeyUnavailable
from kmipd.keys.client import CustodyClient
from kmipd.keys.frames import FrameProtocol


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=30), st.one_of(st.integers(0, 300), st.integers(0, 200_000))), max_size=6),
    st.lists(st.one_of(st.integers(1, 40), st.integers(1000, 70_000)), min_size=1, max_size=8),
)
def test_frames_survive_any_cutting(shapes: list[tuple[bytes, int]], cuts: list[int]) -> None:
    frames = [(header, bytes([number + 1]) * size) for number, (header, size) in enumerate(shapes)]
    received: list[tuple[bytes, bytes]] = []

    async def run() -> None:
        protocol = FrameProtocol(lambda header, body: received.append((header, bytes(body))))
        stream = b"".join(FRAME.pack(len(header), len(body)) + header + body for header, body in frames)
        position = turn = 0
        while position < len(stream):
            space = protocol.get_buffer(-1)
            assert len(space) > 0
            piece = stream[position : position + min(cuts[turn % len(cuts)], len(space))]
            space[: len(piece)] = piece
            protocol.buffer_updated(len(piece))
            position += len(piece)
            turn += 1
        assert not any(protocol._buffer), "what was delivered is wiped"

    asyncio.run(run())
    assert received == frames


@pytest.mark.parametrize(
    "answer",
    [
        FRAME.pack(MAX_FRAME + 1, 0),
        FRAME.pack(2, 0) + b"{]",
        FRAME.pack(8, 0) + b'{"id":1}',
        FRAME.pack(19, 5) + b'{"id":1,"items":[]}12345',
    ],
    ids=["too large", "not JSON", "no description", "no description, stray body"],
)
async def test_an_answer_that_makes_no_sense_is_a_refusal(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "socket"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    client = CustodyClient(path, timeout=2.0)
    with pytest.raises(KeyUnavailable) as caught:
        await client.describe()
    assert caught.value.kind is CustodyErrorKind.UNAVAILABLE
    await client.aclose()
    server.close()


async def test_a_socket_nobody_listens_on_is_named(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(path))
    client = CustodyClient(path, timeout=0.2)
    with pytest.raises(KeyUnavailable, match=f"{path}.*refused"):
        await client.describe()
    await client.aclose()
