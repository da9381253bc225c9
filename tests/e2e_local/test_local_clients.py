"""What real clients do on the network, against real processes."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kmip import enums
from kmip.core.attributes import Name
from kmip.core.factories.attributes import AttributeFactory
from kmip.pie.client import ProxyKmipClient
from kmip.pie.exceptions import KmipOperationFailure
from support import kmip_requests as frames
from support import pki
from support.kmip_socket import ClientFiles, KmipSocket, context
from support.kmipd_process import Kmipd, dev, running, start, until
from support.softhsm import MODULE, ensure_installed, make_token

from kmip_contract.allowlist import Allowlist, Serving

V = (1, 1)


def pykmip_round_trip(kmipd: Kmipd) -> None:
    host, port = kmipd.address
    directory = kmipd.directory
    files = {"ca": f"{directory}/ca.crt", "cert": f"{directory}/client.crt", "key": f"{directory}/client.key"}
    for version in (enums.KMIPVersion.KMIP_1_0, enums.KMIPVersion.KMIP_1_2, enums.KMIPVersion.KMIP_1_4):
        with ProxyKmipClient(hostname=host, port=port, kmip_version=version, **files) as client:
            name = f"disk-{version.name}"
            uid = client.create(enums.CryptographicAlgorithm.AES, 256, name=name)
            key = client.get(uid).value
            assert len(key) == 32
            client.activate(uid)
            assert client.get(uid).value == key
            wanted = AttributeFactory().create_attribute(
                enums.AttributeType.NAME,
                Name.create(name, enums.NameType.UNINTERPRETED_TEXT_STRING),
            )
            assert client.locate(attributes=[wanted]) == [uid]
            with pytest.raises(KmipOperationFailure):
                client.destroy(uid)
            client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid)
            client.destroy(uid)
            with pytest.raises(KmipOperationFailure):
                client.get(uid)


def test_pykmip_client(kmipd: Kmipd) -> None:
    pykmip_round_trip(kmipd)
    assert {event["operation"] for event in kmipd.audit()} == {
        "Create",
        "Get",
        "Activate",
        "Locate",
        "Revoke",
        "Destroy",
    }


def test_pykmip_client_with_the_root_key_in_a_pkcs11_module(tmp_path: Path) -> None:
    ensure_installed()
    token = make_token(tmp_path / "token")
    options = ["--pkcs11-module", str(MODULE), "--token-label", token.label, "--pin-file", str(token.pin_file)]
    data = tmp_path / "data"
    with running(dev(data, *options, environment=token.environment)) as kmipd:
        pykmip_round_trip(kmipd)
        uid = frames.identifier(kmipd.ask(frames.create()))
        key = frames.key_material(kmipd.ask(frames.get(uid)))
    with running(dev(data, *options, environment=token.environment)) as kmipd:
        assert frames.key_material(kmipd.ask(frames.get(uid))) == key


def test_dev_takes_everything_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(dev(data)) as kmipd:
        uid = frames.identifier(kmipd.ask(frames.create()))
        key = frames.key_material(kmipd.ask(frames.get(uid)))
        before = {name: (data / name).read_bytes() for name in ("ca.crt", "client.crt", "server.crt", "seed")}
        assert (data / "seed").stat().st_mode & 0o777 == 0o600
        assert (data / "client.key").stat().st_mode & 0o777 == 0o600
    assert kmipd.process.returncode == 0
    with running(dev(data)) as kmipd:
        assert {name: (data / name).read_bytes() for name in before} == before
        assert frames.key_material(kmipd.ask(frames.get(uid))) == key


def test_a_hundred_empty_connections_are_quiet(kmipd: Kmipd) -> None:
    before = len(kmipd.events())
    for number in range(100):
        version = ssl.TLSVersion.TLSv1_2 if number % 2 else ssl.TLSVersion.TLSv1_3
        kmipd.client(version).close()
    assert frames.statuses(kmipd.ask(frames.discover_versions())) == [0]
    assert [event for event in kmipd.events()[before:] if event["level"] not in {"debug", "info"}] == []
    assert len(kmipd.audit()) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_server_certificate_can_be_read_without_one(kmipd: Kmipd, version: ssl.TLSVersion) -> None:
    """As vCenter does before there is any trust; with TLS 1.2 from the handshake that then fails."""
    shown = read_chain(kmipd.address, version)
    assert shown == (kmipd.directory / "server.crt").read_text()
    assert frames.statuses(kmipd.ask(frames.discover_versions())) == [0]


def read_chain(address: tuple[str, int], version: ssl.TLSVersion) -> str:
    """The leaf as ``openssl s_client -showcerts`` sees it."""
    option = "-tls1_2" if version is ssl.TLSVersion.TLSv1_2 else "-tls1_3"
    command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", option, "-showcerts"]
    output = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    start = output.index("-----BEGIN CERTIFICATE-----")
    return output[start : output.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")] + "\n"


def allow(kmipd: Kmipd, *clients: pki.Identity) -> None:
    """Add clients to the directory's allowlist."""
    file = kmipd.directory / "allowlist.json"
    kept = Allowlist.read(file)
    entries = (*kept.entries, *(client.entry(f"extra-{client.sha256[:8]}") for client in clients))
    fresh = file.with_suffix(".new")
    fresh.write_bytes(Allowlist(revision=kept.revision + 1, entries=entries).to_json())
    fresh.replace(file)


def test_nine_untrusted_handshakes_then_trust(kmipd: Kmipd, tmp_path: Path) -> None:
    stranger = pki.make("vcenter")
    tls = context(ClientFiles(*stranger.write(tmp_path, "stranger")))

    def accepted() -> bool:
        try:
            with KmipSocket(kmipd.address, tls) as connection:
                return frames.statuses(connection.ask(frames.discover_versions())) == [0]
        except OSError:
            return False

    assert not any(accepted() for _ in range(9))
    allow(kmipd, stranger)
    until(accepted, "acceptance of the new certificate")
    refusals = [line for line in kmipd.audit() if line["outcome"] == "Refused"]
    assert len(refusals) >= 9


def test_vcenter_encrypts_a_vm_over_overlapping_connections(kmipd: Kmipd) -> None:
    with ThreadPoolExecutor(2) as pool:

        def session(*steps: Callable[[KmipSocket], bytes]) -> list[bytes]:
            with kmipd.client() as connection:
                answers = [connection.ask(frames.discover_versions(V))]
                answers += [step(connection) for step in steps]
                for answer in answers:
                    assert set(frames.statuses(answer)) == {0}
                    assert frames.version_of(answer) == V
                return answers

        def asks(message: bytes) -> Callable[[KmipSocket], bytes]:
            return lambda connection: connection.ask(message)

        def stamps(uid: str, attributes: dict[str, str]) -> list[Callable[[KmipSocket], bytes]]:
            wanted = [asks(frames.get_attributes(uid, name, version=V)) for name in attributes]
            return [*wanted, asks(frames.add_attributes(uid, attributes, V))]

        product = {
            "x-Product_Version": "7.0.3 build-19480866",
            "x-Vendor": "VMware, Inc.",
            "x-Product": "VMware vSphere",
        }
        host = {"x-Identifier": "host-uuid", "x-Component": "ESXi Server", "x-Name": "172.16.0.2"}
        machine = {"x-Identifier": "vm-uuid", "x-Component": "Virtual Machine", "x-Name": "test01"}
        vm = frames.identifier(session(asks(frames.create(version=V)))[1])
        stamping = pool.submit(session, *stamps(vm, product))
        creating = pool.submit(session, asks(frames.create(version=V)))
        stamping.result()
        esxi = frames.identifier(creating.result()[1])

        def takes(uid: str) -> list[Callable[[KmipSocket], bytes]]:
            return [
                asks(frames.get(uid, V)),
                asks(frames.get_attributes(uid, "State", version=V)),
                asks(frames.activate(uid, V)),
            ]

        activating = pool.submit(session, *takes(esxi))
        stamping = pool.submit(session, *stamps(esxi, product))
        answers = activating.result()
        assert len(frames.key_material(answers[1])) == 32
        assert frames.state(answers[2]) == 1
        stamping.result()
        session(*stamps(esxi, host))
        session(*takes(vm))
        session(*stamps(vm, machine))
        for uid, names in ((vm, product | machine), (esxi, product | host)):
            assert frames.state(kmipd.ask(frames.get_attributes(uid, "State", version=V))) == 2
            answer = kmipd.ask(frames.get_attributes(uid, *names, version=V))
            for value in names.values():
                assert value.encode() in answer


def test_sixty_four_hosts_ask_at_once(kmipd: Kmipd) -> None:
    """One certificate, many addresses, all at the same moment: a rack after a power cut."""
    uid = frames.identifier(kmipd.ask(frames.create()))
    key = frames.key_material(kmipd.ask(frames.get(uid)))

    def boot(number: int) -> bytes:
        with kmipd.client(source=f"127.0.1.{number + 1}") as connection:
            return frames.key_material(connection.ask(frames.get(uid)))

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(boot, range(64))) == {key}
    sources = {line["address"].rpartition(":")[0] for line in kmipd.audit()}
    assert len(sources) == 65


def test_removed_certificate_is_cut_off_and_returns(kmipd: Kmipd, tmp_path: Path) -> None:
    clients = [pki.make("vcenter") for _ in range(20)]
    allow(kmipd, *clients)
    contexts = [context(ClientFiles(*one.write(tmp_path, f"c{number}"))) for number, one in enumerate(clients)]

    def answered(number: int) -> bool:
        try:
            with KmipSocket(kmipd.address, contexts[number]) as connection:
                return frames.statuses(connection.ask(frames.discover_versions())) == [0]
        except OSError:
            return False

    until(lambda: answered(19), "acceptance")
    assert all(answered(number) for number in range(20))
    with KmipSocket(kmipd.address, contexts[3]) as live:
        assert frames.statuses(live.ask(frames.discover_versions())) == [0]
        file = kmipd.directory / "allowlist.json"
        kept = Allowlist.read(file)
        entries = tuple(entry for entry in kept.entries if entry.sha256 != clients[3].sha256)
        file.write_bytes(Allowlist(revision=kept.revision + 1, entries=entries).to_json())
        assert live.ended()
    assert [answered(number) for number in range(20)] == [number != 3 for number in range(20)]


def test_status_over_mutual_tls_for_the_operator_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(dev(data)):
        pass
    operators = pki.authority("operators")
    operator, other = pki.make("operator", operators), pki.make("operator", pki.authority("operators"))
    certificate, key = pki.server(pki.authority("instance")).write(tmp_path, "status")
    (tmp_path / "operators.crt").write_text(operators.pem)
    port = free_port()
    config = json.loads((data / "kmipd.json").read_text())
    config["config_id"] = "config-7"
    del config["audit_file"]
    config["status"] = {
        "listen": {"host": "127.0.0.1", "port": port},
        "certificate_file": str(certificate),
        "key_file": str(key),
        "client_ca_file": str(tmp_path / "operators.crt"),
    }
    (data / "kmipd.json").write_text(json.dumps(config))
    arguments = ["serve", "--config", str(data / "kmipd.json"), "--with-custody", str(data / "custody.json")]
    with running(start(data, *arguments)) as kmipd:
        kmipd.ask(frames.create())
        status = json.loads(get_status(port, ClientFiles(*operator.write(tmp_path, "operator"))))
        # Without a file of its own the audit goes to standard output.
        [line] = [event for line in kmipd.log.read_text().splitlines() if (event := audit_event(line))]
        assert (line["operation"], line["outcome"], line["client"]) == ("Create", "Success", "client")
        assert status["config_id"] == "config-7"
        assert status["allowlist_revision"] == 1
        assert status["root_key_state"] == "Usable"
        assert status["storage"]["type"] == "SQLite"
        assert status["storage"]["durable"] is False
        assert status["objects"] == {"PreActive": 1}
        assert status["clients"] == [{"name": "client", "last_seen": datetime.now(UTC).date().isoformat()}]
        assert len(status["server_certificate_sha256"]) == 64
        for files in (ClientFiles(), ClientFiles(*other.write(tmp_path, "other"))):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get_status(port, files)


def audit_event(line: str) -> dict[str, str] | None:
    found = json.loads(line) if line.startswith('{"time"') else None
    return found if isinstance(found, dict) else None


def test_fencing_refuses_keys_and_lifting_it_serves_them_again(kmipd: Kmipd) -> None:
    uid = frames.identifier(kmipd.ask(frames.create()))
    with kmipd.client() as connection:
        for serving, status in ((Serving.FENCED, 1), (Serving.ENABLED, 0)):
            file = kmipd.directory / "allowlist.json"
            kept = Allowlist.read(file)
            file.write_bytes(kept.model_copy(update={"revision": kept.revision + 1, "serving": serving}).to_json())

            def answers(wanted: int = status) -> bool:
                return frames.statuses(connection.ask(frames.get(uid))) == [wanted]

            until(answers, serving.value)
            assert frames.statuses(connection.ask(frames.create())) == [status]
            assert f"kmipd_fenced {status}.0" in kmipd.page("/metrics")[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def get_status(port: int, files: ClientFiles) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw, context(files).wrap_socket(raw) as tls:
        tls.sendall(b"GET /status HTTP/1.1\r\nHost: kmipd\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := tls.recv(65536):
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head:
            raise ConnectionError("no answer")
        assert head.startswith(b"HTTP/1.1 200 ")
        return body
