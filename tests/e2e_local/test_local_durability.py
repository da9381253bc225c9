"""What was acknowledged is there, whatever is killed and when."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support import kmip_requests as frames
from support.kmipd_process import Kmipd, dev, running, until
from support.postgresql import Cluster

CREATES = 200


def create_until_killed(kmipd: Kmipd, workers: int = 8) -> tuple[list[str], dict[str, bytes]]:
    """Create keys from several connections, kill -9 kmipd right after some 200th answer; every acknowledged identifier."""
    acknowledged: list[str] = []
    read: dict[str, bytes] = {}
    enough = threading.Event()
    target = CREATES + random.randrange(20)

    def work(number: int) -> None:
        try:
            with kmipd.client() as connection:
                while True:
                    uid = frames.identifier(connection.ask(frames.create(f"w{number}-{len(acknowledged)}")))
                    acknowledged.append(uid)
                    if len(acknowledged) >= target:
                        enough.set()
                    elif random.random() < 0.1:
                        read[uid] = frames.key_material(connection.ask(frames.get(uid)))
        except (OSError, StopIteration):
            enough.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    enough.wait(120)
    kmipd.kill()
    for thread in threads:
        thread.join()
    return acknowledged, read


def check(kmipd: Kmipd, acknowledged: list[str], read: dict[str, bytes]) -> None:
    assert len(acknowledged) >= CREATES
    with kmipd.client() as connection:
        keys = {uid: frames.key_material(connection.ask(frames.get(uid))) for uid in acknowledged}
    assert len(set(keys.values())) == len(acknowledged)
    assert {uid: keys[uid] for uid in read} == read


def test_kill_of_kmipd_after_200_creates_on_sqlite(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(dev(data)) as kmipd:
        custody = kmipd.custody_pid()
        acknowledged, read = create_until_killed(kmipd)
        # Custody must not outlive the kmipd that started it, or it would keep the socket.
        until(lambda: not Path(f"/proc/{custody}").exists(), "the end of custody")
    with running(dev(data)) as kmipd:
        check(kmipd, acknowledged, read)


@pytest.mark.postgresql
def test_kill_of_kmipd_after_200_creates_on_postgresql(serve_on_postgresql: Callable[[], Kmipd]) -> None:
    with running(serve_on_postgresql()) as kmipd:
        acknowledged, read = create_until_killed(kmipd)
    with running(serve_on_postgresql()) as kmipd:
        check(kmipd, acknowledged, read)


@pytest.mark.postgresql
def test_two_processes_share_a_database(serve_on_postgresql: Callable[[], Kmipd]) -> None:
    """A key made through one is read through the other, at once."""
    with running(serve_on_postgresql()) as one, running(serve_on_postgresql()) as two:
        for _ in range(20):
            uid = frames.identifier(one.ask(frames.create()))
            assert frames.key_material(two.ask(frames.get(uid))) == frames.key_material(one.ask(frames.get(uid)))


def test_kill_of_custody_is_recovered_from(tmp_path: Path) -> None:
    with running(dev(tmp_path / "data")) as kmipd:
        uids = [frames.identifier(kmipd.ask(frames.create())) for _ in range(3)]
        for _ in range(3):
            before = kmipd.custody_pid()
            os.kill(before, signal.SIGKILL)

            def created() -> bool:
                answer = kmipd.ask(frames.create())
                if frames.statuses(answer) == [0]:
                    uids.append(frames.identifier(answer))
                    return True
                return False

            until(created, "a new key after the end of custody")
            assert kmipd.custody_pid() != before
        for uid in uids:
            assert len(frames.key_material(kmipd.ask(frames.get(uid)))) == 32
        assert kmipd.page("/readyz")[0] == 200


def test_sigterm_loses_no_request(tmp_path: Path) -> None:
    """Clients that work while kmipd is told to end get an answer to everything they sent, and nothing acknowledged is lost."""
    data = tmp_path / "data"
    acknowledged: list[str] = []
    unanswered: list[str] = []
    busy = threading.Event()
    with running(dev(data)) as kmipd:

        def work() -> None:
            with kmipd.client() as connection:
                while True:
                    try:
                        connection.send(frames.create())
                    except OSError:
                        return
                    try:
                        acknowledged.append(frames.identifier(connection.receive()))
                    except OSError as error:
                        unanswered.append(str(error))
                        return
                    if len(acknowledged) > 50:
                        busy.set()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert busy.wait(60)
        assert kmipd.terminate() == 0
        for thread in threads:
            thread.join()
        created = [line["objects"][0] for line in kmipd.audit() if line["operation"] == "Create"]
    # A request that crosses the end of the connection was never begun: what kmipd created, it told.
    assert sorted(created) == sorted(acknowledged)
    with running(dev(data)) as kmipd:
        for uid in acknowledged:
            assert frames.statuses(kmipd.ask(frames.get(uid))) == [0]


def test_readiness_fails_while_draining_and_a_request_under_way_is_answered(tmp_path: Path) -> None:
    with running(dev(tmp_path / "data")) as kmipd:
        assert kmipd.page("/readyz") == (200, "[+] storage\n[+] allowlist\n[+] audit\n")
        request = frames.create()
        with kmipd.client() as connection:
            connection.send(request[:20])
            until(lambda: "kmipd_connections 1.0" in kmipd.page("/metrics")[1], "the connection")
            kmipd.process.send_signal(signal.SIGTERM)
            until(lambda: kmipd.page("/readyz") == (503, "draining\n"), "draining")
            connection.send(request[20:])
            assert frames.statuses(connection.receive()) == [0]
            assert connection.ended()
        assert kmipd.process.wait(20) == 0


@pytest.mark.postgresql
def test_kmipd_waits_for_its_database(serve_on_postgresql: Callable[[], Kmipd], cluster: Cluster) -> None:
    """After a power cut everything starts at once: kmipd lives, is not ready, and serves when the database is there."""
    cluster.primary.stop()
    try:
        kmipd = serve_on_postgresql()
        until(lambda: any(event["event"] == "waiting for the database" for event in kmipd.events()), "the complaint")
    finally:
        cluster.primary.start()
    with running(kmipd):
        assert frames.statuses(kmipd.ask(frames.create())) == [0]
        assert kmipd.page("/readyz")[0] == 200
