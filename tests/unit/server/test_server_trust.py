"""Who is let in, who is not, and how fast that changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from support import pki
from support.kmip_port import REQUEST, Port, files_of, open_port
from support.kmip_socket import KmipSocket, context

from kmip_contract.allowlist import Allowlist, EntryState, EntryType, SubjectMatch
from kmip_contract.kmipd import TlsProfile
from kmipd.server.access import AccessList, Refused

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CA = x509.BasicConstraints(ca=True, path_length=None)


def twenty(kind: str) -> list[pki.Identity]:
    """Twenty certificates of one subject and one issuer name."""
    if kind == "self-signed":
        return [pki.make("vcenter") for _ in range(20)]
    if kind == "self-signed authorities":
        return [pki.make("vcenter", extensions=[CA]) for _ in range(20)]
    if kind == "one issuer":
        issuer = pki.authority("VMCA")
        return [pki.make("vcenter", issuer) for _ in range(20)]
    issuers = [pki.authority("VMCA") for _ in range(4)]
    return [pki.make("vcenter", issuers[number % 4], extensions=[SERVER_AUTH]) for number in range(20)]


def test_an_entry_that_nobody_can_read_leaves_the_others_enforced() -> None:
    good, bad = pki.make("good"), pki.make("bad")
    # A version that X.509 does not have: the parser has an error of its own for it.
    der = bad.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    odd = bad.entry("odd").model_copy(
        update={"pem": ssl.DER_cert_to_PEM_cert(der), "sha256": hashlib.sha256(der).hexdigest()}
    )
    access = AccessList.compile(Allowlist(revision=3, entries=(odd, good.entry("good"))))
    assert access.decide(good.der).name == "good"
    assert [problem.split(":")[0] for problem in access.problems] == ["odd"]
    with pytest.raises(Refused):
        access.decide(der)


@pytest.mark.parametrize(
    "kind", ["self-signed", "self-signed authorities", "one issuer", "issuers of one name, EKU serverAuth"]
)
async def test_twenty_certificates_of_one_name_work_and_each_is_revoked_alone(tmp_path: Path, kind: str) -> None:
    clients = twenty(kind)
    entries = [client.entry(f"c{number}") for number, client in enumerate(clients)]
    async with open_port(tmp_path, *entries) as port:
        for version in VERSIONS:
            for client in clients:
                assert await port.ask(client, version=version) == REQUEST
        assert {client.name for _, client in port.echo.seen} == {f"c{number}" for number in range(20)}
        gone = clients[7]
        port.allow(*[entry for entry in entries if entry.sha256 != gone.sha256])
        await port.until(lambda: port.trust.access.revision == port.revision)
        for client in clients:
            assert await port.refuses(client) is (client is gone)
        assert await port.refuses(pki.make("vcenter"))


async def test_removal_and_blocking_end_live_connections(tmp_path: Path) -> None:
    stays, removed, blocked = pki.make("vc"), pki.make("vc"), pki.make("vc")
    async with open_port(tmp_path, stays.entry("a"), removed.entry("b"), blocked.entry("c")) as port:
        with (
            await port.connect(stays) as one,
            await port.connect(removed) as two,
            await port.connect(blocked) as three,
        ):
            for connection in (one, two, three):
                assert await asyncio.to_thread(connection.ask, REQUEST) == REQUEST
            port.allow(stays.entry("a"), blocked.entry("c", state=EntryState.BLOCKED))
            assert await asyncio.to_thread(two.ended)
            assert await asyncio.to_thread(three.ended)
            assert await asyncio.to_thread(one.ask, REQUEST) == REQUEST
        assert await port.refuses(blocked)
        refusals = [json.loads(line) for line in port.audit_file.read_text().splitlines() if "Refused" in line]
        assert {line["fingerprint"] for line in refusals} >= {removed.sha256, blocked.sha256}


async def test_a_request_already_sent_is_not_answered_after_removal(tmp_path: Path) -> None:
    client = pki.make("vc")
    async with open_port(tmp_path, client.entry("a")) as port:
        port.echo.gate = asyncio.Event()
        with await port.connect(client) as connection:
            await asyncio.to_thread(connection.send, REQUEST)
            await port.until(lambda: len(port.echo.seen) == 1)
            port.allow()
            assert await asyncio.to_thread(connection.ended)
            port.echo.gate.set()


async def test_a_certificate_that_expires_while_connected_is_refused(tmp_path: Path) -> None:
    client = pki.make("vc")
    moment = datetime.now(UTC).timestamp()
    async with open_port(tmp_path, client.entry("a", not_after=datetime.now(UTC) + timedelta(hours=1))) as port:
        port.server.clock = lambda: moment
        with await port.connect(client) as connection:
            assert await asyncio.to_thread(connection.ask, REQUEST) == REQUEST
            moment += 3601
            await asyncio.to_thread(connection.send, REQUEST)
            assert await asyncio.to_thread(connection.ended)
        assert "expired" in port.audit_file.read_text()


async def test_expired_and_future_certificates_are_refused(tmp_path: Path) -> None:
    old = pki.make("old", not_before=timedelta(days=-2), not_after=timedelta(days=-1))
    future = pki.make("future", not_before=timedelta(days=1), not_after=timedelta(days=2))
    async with open_port(tmp_path, old.entry("old"), future.entry("future")) as port:
        assert await port.refuses(old)
        assert await port.refuses(future)


@pytest.mark.parametrize("version", VERSIONS)
async def test_resumption_does_not_bypass_removal(tmp_path: Path, version: ssl.TLSVersion) -> None:
    client, other = pki.make("vc"), pki.make("other")
    async with open_port(tmp_path, client.entry("a"), other.entry("b")) as port:
        tls = context(files_of(tmp_path, client), version=version)

        def exchange(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with KmipSocket(port.address, tls, session=session) as connection:
                assert connection.ask(REQUEST) == REQUEST
                kept, reused = connection.tls.session, connection.tls.session_reused
                # OpenSSL forgets a session that does not end with a close_notify.
                connection.tls.unwrap().close()
                return kept, reused

        session, _ = await asyncio.to_thread(exchange, None)
        _, reused = await asyncio.to_thread(exchange, session)
        # Whether TLS 1.2 resumes or not is the server's choice; that it does makes the rest of this test worth something.
        assert reused is (version is ssl.TLSVersion.TLSv1_2)
        context_before = port.trust.context
        port.allow(other.entry("b"))
        await port.until(lambda: port.trust.access.revision == port.revision)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(exchange, session)
        # Even with the context that knows the session, the decision per request holds.
        port.trust.context = context_before
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(exchange, session)


async def test_authority_with_a_match(tmp_path: Path) -> None:
    issuer, impostor = pki.authority("Corp CA"), pki.authority("Corp CA")
    good = pki.make("vc01", issuer, organization="Corp")
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://corp/vc"), x509.DNSName("vc.corp")])
    named = pki.make("anything", issuer, extensions=[uri])
    match = issuer.entry("corp", kind=EntryType.AUTHORITY, match=SubjectMatch(common_name="vc01", organization="Corp"))
    by_uri = issuer.entry(
        "uri", kind=EntryType.AUTHORITY, match=SubjectMatch(uri="spiffe://corp/vc", dns_name="vc.corp")
    )
    blocked = pki.make("vc01", issuer, organization="Corp")
    async with open_port(tmp_path, match, by_uri, blocked.entry("bad", state=EntryState.BLOCKED)) as port:
        assert await port.ask(good) == REQUEST
        assert await port.ask(named) == REQUEST
        assert [client.name for _, client in port.echo.seen] == ["corp", "uri"]
        assert await port.refuses(pki.make("vc02", issuer, organization="Corp"))
        assert await port.refuses(pki.make("vc01", issuer))
        assert await port.refuses(pki.make("vc01", impostor, organization="Corp"))
        assert await port.refuses(blocked)
        port.allow(issuer.entry("corp", kind=EntryType.AUTHORITY))
        await port.until(lambda: port.trust.access.revision == port.revision)
        assert await port.ask(pki.make("whoever", issuer)) == REQUEST


async def test_a_pinned_certificate_cannot_issue_others(tmp_path: Path) -> None:
    pinned = pki.make("vc", extensions=[CA])
    async with open_port(tmp_path, pinned.entry("a")) as port:
        assert await port.ask(pinned) == REQUEST
        assert await port.refuses(pki.make("child", pinned))
        assert port.counters.handshakes["not_authorized"] == 1


async def test_a_broken_or_older_list_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    client = pki.make("vc")
    async with open_port(tmp_path, client.entry("a")) as port:
        (tmp_path / "allowlist.json").write_text("{ not json")
        await port.until(lambda: port.trust.allowlist_error is not None)
        assert await port.ask(client) == REQUEST
        port.revision = -1
        port.allow()
        await port.until(lambda: "older" in (port.trust.allowlist_error or ""))
        assert await port.ask(client) == REQUEST
        port.revision = 1
        port.allow(client.entry("a"), client.entry("b").model_copy(update={"pem": "junk", "sha256": "0" * 64}))
        await port.until(lambda: (port.trust.allowlist_error or "").startswith("b: "))
        assert port.trust.access.revision == 2
        assert await port.ask(client) == REQUEST
        port.allow(client.entry("a"))
        await port.until(lambda: port.trust.allowlist_error is None)


async def test_a_mounted_directory_swapped_by_symlink_is_followed(tmp_path: Path) -> None:
    client = pki.make("vc")
    mount = tmp_path / "mount"
    mount.mkdir()
    async with open_port(mount) as port:
        first, second = mount / "..1", mount / "..2"
        for number, directory in enumerate((first, second)):
            directory.mkdir()
            entries = [client.entry("a").model_dump(mode="json")] if number else []
            (directory / "allowlist.json").write_text(json.dumps({"revision": 10 + number, "entries": entries}))
        (mount / "..data").symlink_to("..1")
        (mount / "link").symlink_to("..data/allowlist.json")
        (mount / "link").replace(mount / "allowlist.json")
        await port.until(lambda: port.trust.access.revision == 10)
        assert await port.refuses(client)
        (mount / "..data_tmp").symlink_to("..2")
        (mount / "..data_tmp").replace(mount / "..data")
        await port.until(lambda: port.trust.access.revision == 11)
        assert await port.ask(client) == REQUEST


async def test_the_server_certificate_is_replaced_for_new_connections(tmp_path: Path) -> None:
    client = pki.make("vc")

    async def shown(port: Port) -> bytes | None:
        with await port.connect(client) as connection:
            return connection.tls.getpeercert(True)

    async with open_port(tmp_path, client.entry("a")) as port:
        before = await shown(port)
        fresh = pki.server(pki.authority())
        (tmp_path / "server.crt").write_text(fresh.pem)
        await port.until(lambda: port.trust.tls_error is not None)
        assert await shown(port) == before
        other = pki.make("vc2")
        port.allow(client.entry("a"), other.entry("b"))
        await port.until(lambda: port.trust.access.revision == port.revision)
        assert await port.ask(other) == REQUEST
        fresh.write(tmp_path, "server")
        await port.until(lambda: port.trust.tls_error is None)
        assert await shown(port) == fresh.der
        assert port.trust.identity.sha256 == fresh.sha256


async def test_without_a_certificate_a_client_still_sees_the_servers(tmp_path: Path) -> None:
    async with open_port(tmp_path, pki.make("vc").entry("a")) as port:
        with await port.connect(None, version=ssl.TLSVersion.TLSv1_3) as connection:
            assert connection.tls.getpeercert(True) == port_certificate(tmp_path)
        assert await port.refuses(None, version=ssl.TLSVersion.TLSv1_2)
        await port.until(lambda: port.counters.handshakes["no_client_certificate"] == 2)
        assert port.audit_file.read_text() == ""


def port_certificate(directory: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((directory / "server.crt").read_text())


async def test_nine_untrusted_handshakes_do_not_hold_up_the_tenth(tmp_path: Path) -> None:
    client = pki.make("vc")
    async with open_port(tmp_path) as port:
        for _ in range(9):
            assert await port.refuses(client)
        port.allow(client.entry("a"))
        await port.until(lambda: port.trust.access.revision == port.revision)
        assert await port.ask(client) == REQUEST
        assert port.counters.handshakes["certificate_not_trusted"] == 9
        assert len([line for line in port.audit_file.read_text().splitlines() if "not in the allowlist" in line]) == 9


@pytest.mark.parametrize("profile", list(TlsProfile))
async def test_the_suite_of_old_vcenters_is_offered_by_its_profile_alone(tmp_path: Path, profile: TlsProfile) -> None:
    client = pki.make("vc")
    async with open_port(tmp_path, client.entry("a"), profile=profile, rsa_bits=2048) as port:
        options = {"version": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-SHA256"}
        assert await port.refuses(client, **options) is (profile is TlsProfile.MODERN)
        assert await port.ask(client, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-RSA-AES128-GCM-SHA256") == REQUEST
