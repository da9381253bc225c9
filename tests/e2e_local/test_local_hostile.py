"""Clients that are broken or mean no good, and what must not leak."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import socket
import ssl
from pathlib import Path

import pytest
from support import kmip_requests as frames
from support.kmip_socket import KmipSocket
from support.kmipd_process import Kmipd, dev, running, start, until
from support.softhsm import MODULE, make_token


def serves(kmipd: Kmipd) -> None:
    assert frames.statuses(kmipd.ask(frames.discover_versions())) == [0]


def test_garbage_instead_of_tls(kmipd: Kmipd) -> None:
    for number in range(50):
        with socket.create_connection(kmipd.address, timeout=20) as raw:
            raw.sendall(random.Random(number).randbytes(1 + number * 20))
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    continue
    serves(kmipd)
    assert not [event for event in kmipd.events() if event["level"] in {"error", "critical"}]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages_are_answered_in_their_version_or_end_the_connection(kmipd: Kmipd, seed: int) -> None:
    """Bytes of real requests changed, dropped, doubled: an answer or an end, never a hang, never a death."""
    dice = random.Random(seed)
    originals = [
        frames.create("n"),
        frames.get("00000000-0000-4000-8000-000000000000"),
        frames.locate("n"),
        frames.add_attributes("x", {"x-a": "b", "x-c": "d"}),
    ]
    for _ in range(60):
        message = bytearray(dice.choice(originals))
        for _ in range(dice.randrange(1, 5)):
            spot = dice.randrange(8, len(message))
            match dice.randrange(3):
                case 0:
                    message[spot] = dice.randrange(256)
                case 1:
                    del message[spot : spot + dice.randrange(1, 9)]
                case _:
                    message[spot:spot] = message[spot : spot + 8]
        whole = message[:4] + (len(message) - 8 & ~7).to_bytes(4, "big") + message[8 : 8 + (len(message) - 8 & ~7)]
        with kmipd.client() as connection:
            connection.send(bytes(whole))
            try:
                answer = connection.receive()
            except ConnectionError:
                continue
            assert answer[:4] == b"\x42\x00\x7b\x01"
    serves(kmipd)
    assert not [event for event in kmipd.events() if "bug" in event["event"]]


@pytest.mark.parametrize(
    "message",
    [
        b"\x42\x00\x78\x01\xff\xff\xff\xf8" + b"\0" * 64,
        b"\x42\x00\x78\x01\x06\x40\x00\x00" + b"\0" * 64,
        b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n",
        frames.get("x")[:40] + b"\xff" * 8 + frames.get("x")[48:],
    ],
    ids=["four-gigabytes", "hundred-megabytes", "http", "broken-frame"],
)
def test_a_lost_frame_is_answered_and_ends_the_connection(kmipd: Kmipd, message: bytes) -> None:
    with kmipd.client() as connection:
        connection.send(message)
        answer = connection.receive()
        assert frames.statuses(answer) == [1]
        assert connection.ended()
    serves(kmipd)


def test_deep_nesting_is_answered(kmipd: Kmipd) -> None:
    inner = b""
    for _ in range(4000):
        inner = b"\x42\x00\x08\x01" + len(inner).to_bytes(4, "big") + inner
    message = frames.message((1, 2), (10, inner))
    with kmipd.client() as connection:
        assert frames.statuses(connection.ask(message)) == [1]
    serves(kmipd)


def test_slow_and_truncated_frames_hold_up_nobody_and_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(dev(data)):
        pass
    config = json.loads((data / "kmipd.json").read_text())
    config["limits"] = {"handshake": 1, "frame": 1, "idle": 60}
    (data / "kmipd.json").write_text(json.dumps(config))
    files = ["--config", str(data / "kmipd.json"), "--with-custody", str(data / "custody.json")]
    with running(start(data, "serve", *files)) as kmipd:
        silent = [socket.create_connection(kmipd.address, timeout=20) for _ in range(50)]
        slow: list[KmipSocket] = [kmipd.client() for _ in range(50)]
        request = frames.discover_versions()
        for number, connection in enumerate(slow):
            connection.send(request[: 1 + number])
        serves(kmipd)
        assert all(connection.ended() for connection in slow)
        assert [raw.recv(1) for raw in silent] == [b""] * 50
        for raw in silent:
            raw.close()
        for connection in slow:
            connection.close()
        until(lambda: "kmipd_connections 0.0" in kmipd.page("/metrics")[1], "the end of all connections")
        assert 'kmipd_connections_closed_total{reason="frame_timeout"} 50.0' in kmipd.page("/metrics")[1]


def test_resets_in_the_middle_leave_nothing(kmipd: Kmipd) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for cut in (0, 4, 8, 60, None):
            connection = kmipd.client(version)
            connection.send(frames.create()[:cut])
            # SO_LINGER 0: the kernel sends a reset.
            connection.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
    serves(kmipd)
    until(lambda: "kmipd_connections 0.0" in kmipd.page("/metrics")[1], "the end of all connections")
    assert not [event for event in kmipd.events() if event["level"] in {"error", "critical"}]


def _forms(secret: bytes) -> list[bytes]:
    """How a secret may look where it does not belong."""
    digits = secret.hex().encode()
    return [secret, digits, digits.upper(), base64.b64encode(secret).rstrip(b"="), repr(secret)[2:-1].encode()]


def _search(kmipd: Kmipd, secrets: dict[str, bytes], skip: set[str]) -> list[str]:
    """Where a secret is found: files of the data directory, logs, pages, command lines."""
    files = [path for path in kmipd.directory.rglob("*") if path.is_file() and path.name not in skip]
    places = {str(path): path.read_bytes() for path in files}
    places["log"] = kmipd.log.read_bytes()
    places |= {path: kmipd.page(path)[1].encode() for path in ("/metrics", "/readyz")}
    for process in (kmipd.process.pid, kmipd.custody_pid()):
        for name in ("cmdline", "environ"):
            places[f"{process}/{name}"] = Path(f"/proc/{process}/{name}").read_bytes()
    return [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, content in places.items()
        if any(form in content for form in _forms(secret))
    ]


def test_no_secret_lies_where_it_should_not(tmp_path: Path) -> None:
    token = make_token(tmp_path / "token")
    password = os.urandom(12).hex().encode()
    options = ["--pkcs11-module", str(MODULE), "--token-label", token.label, "--pin-file", str(token.pin_file)]
    for data, extra, environment in (
        (tmp_path / "software", [], {}),
        (tmp_path / "module", options, dict(token.environment)),
    ):
        with running(dev(data, *extra, environment=environment)) as kmipd:
            secrets = {"PIN": token.pin.encode(), "password": password}
            if not extra:
                secrets["seed"] = (data / "seed").read_bytes()
            assert frames.statuses(kmipd.ask(frames.register_secret(password))) == [0]
            for number in range(3):
                uid = frames.identifier(kmipd.ask(frames.create(f"n{number}")))
                secrets[f"key {number}"] = frames.key_material(kmipd.ask(frames.get(uid)))
            # Trouble makes programs talkative.
            kmipd.ask(b"\x42\x00\x78\x01\0\0\0\x20" + password + b"\0" * 8)
            os.kill(kmipd.custody_pid(), 9)
            until(lambda: frames.statuses(kmipd.ask(frames.create())) == [0], "keys again")
            assert _search(kmipd, secrets, skip={"seed"}) == []
            assert re.search(rb'"operation":"Create"', (data / "audit.log").read_bytes())
