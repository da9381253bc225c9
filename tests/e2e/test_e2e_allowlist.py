"""Client certificates on three pods in two regions: trusted when applied, refused and dropped when removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support import e2e_manifests as make
from support.e2e_clients import (
    REFUSALS,
    accepted_by,
    sessions,
    until_all_accept,
    until_dropped,
    until_none_accepts,
    written,
)
from support.e2e_cluster import Cluster
from support.pki import authority
from support.pki import make as certificate

from demo.certificates import vcenter_identity
from demo.clients import Endpoint
from demo.vcenter import create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NS, INSTANCE = "regions", "everywhere"
COUNT = 20


@pytest.fixture
def pods(cluster: Cluster, main_job: Any) -> list[Endpoint]:
    """The three pods, each by itself."""
    cluster.until("kmipinstance", NS, INSTANCE)
    found = cluster.pod_endpoints(NS, INSTANCE)
    assert len(found) == 3
    return found


@pytest.mark.parametrize("attempt", range(3))
def test_applied_is_accepted_and_removed_is_refused_and_dropped(
    cluster: Cluster, pods: list[Endpoint], tmp_path: Path, attempt: int
) -> None:
    client = vcenter_identity(tmp_path, "client")
    assert accepted_by(pods, client) == []
    cluster.apply_objects(make.leaf(NS, "comes-and-goes", client.pem, instance=INSTANCE))
    until_all_accept(pods, client)
    message = cluster.until("clientcertificate", NS, "comes-and-goes", "Applied")
    assert message.startswith("3 of 3 pods")
    with sessions(pods, client) as live:
        keys = [create(connection) for connection in live]
        assert len(set(keys)) == 3
        cluster.kubectl("-n", NS, "delete", "clientcertificate", "comes-and-goes", "--wait=false")
        for connection in live:
            until_dropped(connection)
    until_none_accepts(pods, client)


def test_twenty_certificates_of_one_name_work_and_each_is_revoked_alone(
    cluster: Cluster, pods: list[Endpoint], tmp_path: Path
) -> None:
    clients = [written(certificate("same", organization="Same"), tmp_path, f"same-{i}") for i in range(COUNT)]
    names = [f"same-{i}" for i in range(COUNT)]
    everyone = [pod.region for pod in pods]
    cluster.apply_objects(
        *(make.leaf(NS, name, client.pem, instance=INSTANCE) for name, client in zip(names, clients, strict=True))
    )
    try:
        for client in clients:
            until_all_accept(pods, client)
        with sessions(pods, clients[6]) as live, sessions(pods, clients[7]) as others:
            cluster.kubectl("-n", NS, "delete", "clientcertificate", names[6])
            for connection in live:
                until_dropped(connection)
            until_none_accepts(pods, clients[6])
            for connection in others:
                assert create(connection)
        for i, client in enumerate(clients):
            assert accepted_by(pods, client) == ([] if i == 6 else everyone), i
    finally:
        cluster.kubectl("-n", NS, "delete", "clientcertificate", *names, "--ignore-not-found")


def test_a_blocked_certificate_is_refused_until_it_is_active_again(
    cluster: Cluster, pods: list[Endpoint], tmp_path: Path
) -> None:
    client = vcenter_identity(tmp_path, "blocked")
    cluster.apply_objects(make.leaf(NS, "blocked", client.pem, instance=INSTANCE))
    until_all_accept(pods, client)
    with sessions(pods, client) as live:
        cluster.apply_objects(make.leaf(NS, "blocked", client.pem, instance=INSTANCE, state="Blocked"))
        for connection in live:
            until_dropped(connection)
    until_none_accepts(pods, client)
    cluster.until("clientcertificate", NS, "blocked", reason="Blocked")
    cluster.apply_objects(make.leaf(NS, "blocked", client.pem, instance=INSTANCE))
    until_all_accept(pods, client)
    cluster.delete("clientcertificate", NS, "blocked")


def test_an_authority_admits_what_matches(cluster: Cluster, pods: list[Endpoint], tmp_path: Path) -> None:
    mine, foreign = authority("Client CA"), authority("Client CA")
    name = x509.SubjectAlternativeName([x509.DNSName("vc01.example")])
    fits = written(certificate("vc01", mine, extensions=[name]), tmp_path, "fits")
    misses = written(certificate("vc02", mine), tmp_path, "misses")
    forged = written(certificate("vc01", foreign, extensions=[name]), tmp_path, "forged")
    match = {"commonName": "vc01", "dnsName": "vc01.example"}
    cluster.apply_objects(make.authority(NS, "authority", mine.pem, match, instance=INSTANCE))
    until_all_accept(pods, fits)
    assert accepted_by(pods, misses) == []
    assert accepted_by(pods, forged) == []
    with sessions(pods, fits) as live:
        cluster.kubectl("-n", NS, "delete", "clientcertificate", "authority")
        for connection in live:
            until_dropped(connection)
    until_none_accepts(pods, fits)


def test_a_secret_that_changes_is_followed(cluster: Cluster, pods: list[Endpoint], tmp_path: Path) -> None:
    old, new = vcenter_identity(tmp_path, "old"), vcenter_identity(tmp_path, "new")
    cluster.apply_objects(
        make.secret(NS, "follow", tls_crt=old.pem), make.leaf(NS, "follow", secret_name="follow", instance=INSTANCE)
    )
    until_all_accept(pods, old)
    cluster.secret(NS, "follow", {"tls.crt": new.pem})
    until_all_accept(pods, new)
    until_none_accepts(pods, old)
    cluster.delete("clientcertificate", NS, "follow")
    cluster.delete("secret", NS, "follow")


def test_fenced_stops_keys_and_enabled_serves_them_again(cluster: Cluster, main_job: Any, pods: list[Endpoint]) -> None:
    vcenter = vcenter_identity(main_job.work, "vcenter")
    with pods[0].connect(vcenter) as connection:
        key = create(connection)
        material = get(connection, key)

    def answers() -> list[str]:
        served = []
        for pod in pods:
            try:
                with pod.connect(vcenter) as connection:
                    assert get(connection, key) == material
                served.append(pod.region)
            except REFUSALS:
                continue
        return served

    assert len(answers()) == 3
    cluster.kubectl("-n", NS, "patch", "kmipinstance", INSTANCE, "--type=merge", "-p", '{"spec":{"serving":"Fenced"}}')
    try:
        cluster.until_none(answers)
        message = cluster.stalled("kmipinstance", NS, INSTANCE, "Fenced")
        assert "spec.serving" in message
        assert "Enabled" in message
    finally:
        patch = '{"spec":{"serving":null}}'
        cluster.kubectl("-n", NS, "patch", "kmipinstance", INSTANCE, "--type=merge", "-p", patch)
    cluster.until("kmipinstance", NS, INSTANCE, "AllowlistApplied")
    assert len(answers()) == 3


def test_the_last_day_of_a_client_is_known(cluster: Cluster, main_job: Any, pods: list[Endpoint]) -> None:
    vcenter = vcenter_identity(main_job.work, "vcenter")
    assert len(accepted_by(pods, vcenter)) == 3
    assert cluster.wait_for_field("clientcertificate", NS, "vcenter", "lastSeen")
    assert cluster.wait_for_field("clientcertificate", NS, "vcenter", "appliedPods") == "3/3"
