"""Backup, proof, restore and rescue as a person does them: by the command line, on real processes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from kmip import enums
from kmip.core.attributes import Name
from kmip.core.factories.attributes import AttributeFactory
from kmip.pie.client import ProxyKmipClient
from kmip.pie.exceptions import KmipOperationFailure
from support import kmip_requests as frames
from support.archives import read_archive, write_archive
from support.kmipd_process import Kmipd, dev, running, start

from kmipd.backup.archive import Archive


def command(*arguments: object, code: int = 0) -> str:
    """Run ``kmipd ARGUMENTS``; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "kmipd", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def make_keys(kmipd: Kmipd, count: int, prefix: str = "disk") -> dict[str, bytes]:
    with kmipd.client() as connection:
        uids = [frames.identifier(connection.ask(frames.create(f"{prefix}-{number}"))) for number in range(count)]
        return {uid: frames.key_material(connection.ask(frames.get(uid))) for uid in uids}


def pykmip(kmipd: Kmipd) -> ProxyKmipClient:
    host, port = kmipd.address
    directory = kmipd.directory
    files = {"ca": f"{directory}/ca.crt", "cert": f"{directory}/client.crt", "key": f"{directory}/client.key"}
    return ProxyKmipClient(hostname=host, port=port, kmip_version=enums.KMIPVersion.KMIP_1_4, **files)


def test_backup_proof_and_restore_of_a_server_that_runs(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    with running(dev(data)) as kmipd:
        keys = make_keys(kmipd, 30)
        secret = frames.identifier(kmipd.ask(frames.register_secret(b"correct horse battery staple")))
        with pykmip(kmipd) as client:
            gone = client.create(enums.CryptographicAlgorithm.AES, 256)
            client.destroy(gone)
        printed = command("backup", "--data-dir", data, "--to", archive)
        assert "32 objects, 1 of them destroyed" in printed
        proven = command("verify", archive, "--custody-socket", data / "custody.sock")
        assert "RECOVERABLE 31/31" in proven
        assert "30 compared with their digest" in proven
        assert "in use by process" in command("restore", archive, "--data-dir", data, code=1)
        assert "32 the same already" in command("restore", archive, "--data-dir", data, "--dry-run")
        later = make_keys(kmipd, 3, "later")
    assert archive.stat().st_mode & 0o777 == 0o600
    content = archive.read_bytes()
    database = b"".join(file.read_bytes() for file in data.glob("kmip.db*"))
    for key in (*keys.values(), b"correct horse"):
        assert key not in content
        assert key not in database

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(data, elsewhere, ignore=shutil.ignore_patterns("kmip.db*", "kmipd.json", "audit.log", "*.sock*"))
    assert "32 added" in command("restore", archive, "--data-dir", elsewhere)
    with running(dev(elsewhere)) as kmipd:
        for uid, key in keys.items():
            assert frames.key_material(kmipd.ask(frames.get(uid))) == key
        assert b"correct horse battery staple" in kmipd.ask(frames.get(secret))
        assert frames.statuses(kmipd.ask(frames.get(gone))) == [1]
        for uid in later:
            assert frames.statuses(kmipd.ask(frames.get(uid))) == [1]
        newest = frames.identifier(kmipd.ask(frames.create("newest")))

    second = tmp_path / "second"
    command("backup", "--data-dir", data, "--to", second)
    merged = command("restore", second, "--data-dir", elsewhere)
    assert "3 added" in merged
    # Its first Get ended the secret's freshness there: that row is newer than the archive's.
    assert "31 the same already" in merged
    assert "1 kept, newer" in merged
    with running(dev(elsewhere)) as kmipd:
        for uid, key in {**keys, **later}.items():
            assert frames.key_material(kmipd.ask(frames.get(uid))) == key
        assert frames.statuses(kmipd.ask(frames.get(newest))) == [0]
        with pykmip(kmipd) as client:
            assert client.locate(attributes=[_name("disk-7")]) == [list(keys)[7]]


def _name(text: str) -> object:
    value = Name.create(text, enums.NameType.UNINTERPRETED_TEXT_STRING)
    return AttributeFactory().create_attribute(enums.AttributeType.NAME, value)


def test_a_destroyed_key_never_returns(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    with running(dev(data)) as kmipd:
        uid, other = make_keys(kmipd, 2)
        command("backup", "--data-dir", data, "--to", archive)
        with pykmip(kmipd) as client:
            client.destroy(uid)
    assert "1 kept destroyed" in command("restore", archive, "--data-dir", data, "--apply-destroyed")
    with running(dev(data)) as kmipd:
        assert frames.statuses(kmipd.ask(frames.get(uid))) == [1]
        assert frames.statuses(kmipd.ask(frames.get(other))) == [0]


def test_an_archive_has_every_key_acknowledged_before_it_began(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    with running(dev(data)) as kmipd:
        acknowledged: list[str] = []
        stop = threading.Event()

        def work() -> None:
            with kmipd.client() as connection:
                while not stop.is_set():
                    acknowledged.append(frames.identifier(connection.ask(frames.create())))

        writers = [threading.Thread(target=work) for _ in range(4)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(3):
                before = list(acknowledged)
                command("backup", "--data-dir", data, "--to", archive)
                found = {row.uid for row in read_archive(archive)}
                assert set(before) <= found
                printed = command("verify", archive, "--custody-socket", data / "custody.sock")
                assert f"RECOVERABLE {len(found)}/{len(found)}" in printed
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert len(acknowledged) > 10
        kmipd.kill()
        # What the killed server left in the write-ahead log is in the archive too.
        command("backup", "--data-dir", data, "--to", archive)
        assert set(acknowledged) <= {row.uid for row in read_archive(archive)}


def test_the_proof_names_what_cannot_be_recovered(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    with running(dev(data)) as kmipd:
        make_keys(kmipd, 6)
        command("backup", "--data-dir", data, "--to", archive)
    with Archive.open(archive) as read:
        keyspace = read.header.keyspace
    rows = read_archive(archive)
    custody = data / "custody.json"

    def failing(changed: dict[int, dict[str, object]]) -> dict[str, str]:
        broken = [dataclasses.replace(row, **changed.get(place, {})) for place, row in enumerate(rows)]  # type: ignore[arg-type]
        path = write_archive(tmp_path / "broken", broken, keyspace)
        told = json.loads(command("verify", path, "--custody", custody, "--json", code=2 if changed else 0))
        assert told["total"] == 6
        assert told["recoverable"] == 6 - len(changed)
        return {failure["uid"]: failure["reason"] for failure in told["failures"]}

    assert failing({}) == {}
    material = rows[1].material
    assert material is not None
    altered = material[:-1] + bytes([material[-1] ^ 1])
    other_digest = rows[3].attributes
    reasons = failing(
        {
            0: {"material": rows[1].material},  # another object's
            1: {"material": altered},
            2: {"generation": 2},
            4: {"attributes": other_digest},
        }
    )
    assert set(reasons) == {rows[place].uid for place in (0, 1, 2, 4)}
    assert "digest" in reasons[rows[4].uid]
    assert rows[1].root_key_id in reasons[rows[1].uid]

    # The root key is another one: nothing can be recovered, and every object says why.
    strange = tmp_path / "strange"
    with running(dev(strange)):
        pass
    lost = command("verify", archive, "--custody", strange / "custody.json", code=2)
    assert "RECOVERABLE 0/6" in lost
    assert lost.count("not recoverable: ") == 6
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-40])
    assert "truncated" in command("verify", archive, "--custody", custody, code=1)


def test_rescue_serves_reads_from_an_archive_alone(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    with running(dev(data)) as kmipd:
        keys = make_keys(kmipd, 5)
        command("backup", "--data-dir", data, "--to", archive)
    for file in data.glob("kmip.db*"):
        file.unlink()
    before = archive.read_bytes()
    server = start(
        data, "rescue", str(archive), "--listen", "127.0.0.1:0",
        "--tls-cert", f"{data}/server.crt", "--tls-key", f"{data}/server.key", "--tls-profile", "VSphere7",
        "--allowlist", f"{data}/allowlist.json", "--custody", f"{data}/custody.json", "--audit", f"{tmp_path}/audit",
    )  # fmt: skip
    with running(server) as kmipd, pykmip(kmipd) as client:
        for uid, key in keys.items():
            assert client.get(uid).value == key
            assert client.get_attribute_list(uid)
        assert client.locate(attributes=[_name("disk-3")]) == [list(keys)[3]]
        refused: list[Callable[[], object]] = [
            lambda: client.create(enums.CryptographicAlgorithm.AES, 256),
            lambda: client.activate(uid),
            lambda: client.destroy(uid),
        ]
        for act in refused:
            with pytest.raises(KmipOperationFailure, match="answers from a backup") as error:
                act()
            assert error.value.reason == enums.ResultReason.PERMISSION_DENIED
        assert client.get(uid).value == keys[uid]
    assert server.process.returncode == 0
    assert archive.read_bytes() == before
    assert not list(data.glob("kmip.db*"))


@pytest.mark.postgresql
def test_an_archive_moves_a_keyspace_from_postgresql_to_a_file(
    serve_on_postgresql: Callable[[], Kmipd], tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    with running(serve_on_postgresql()) as kmipd:
        keys = make_keys(kmipd, 5)
        command("backup", "--config", kmipd.directory / "kmipd.json", "--to", archive)
        shutil.rmtree(tmp_path / "first")
        shutil.copytree(kmipd.directory, tmp_path / "first", ignore=shutil.ignore_patterns("kmipd.json", "*.sock*"))
        assert "5 the same already" in command("restore", archive, "--config", kmipd.directory / "kmipd.json")
    assert "5 added" in command("restore", archive, "--data-dir", tmp_path / "first")
    with running(dev(tmp_path / "first")) as kmipd:
        for uid, key in keys.items():
            assert frames.key_material(kmipd.ask(frames.get(uid))) == key
