"""What is wrong is refused at apply or said by a Stalled condition: field, finding, remedy. Nothing is retried hot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support import e2e_manifests as make
from support.e2e_audit import AuditLog
from support.e2e_cluster import Cluster
from support.e2e_operator import OperatorLog
from support.pki import Identity
from support.pki import make as certificate

from demo.kubernetes import KINDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GOOD = certificate("client", rsa_bits=2048)
OTHER = certificate("other", rsa_bits=2048)
EXPIRED = certificate("old", not_before=timedelta(days=-30), not_after=timedelta(days=-1))
RETRY_WINDOW = 25.0
"""Seconds without a write: longer than any hot retry, and than the second step of a back-off that starts at 10 s."""

GARBAGE = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def errors(cluster: Cluster, module_namespace: str) -> str:
    """A namespace in which everything below is wrong at once, and one instance that works."""
    ns = module_namespace
    cluster.apply_objects(
        make.secret(ns, "seed", seed="0123456789abcdef" * 4),
        make.software(ns),
        make.root_key(ns),
        make.root_key(ns, "restricted", allowedInstances={"matchLabels": {"team": "storage"}}),
        make.sqlite(ns),
        make.leaf(ns, "good", GOOD.pem),
        make.secret(ns, "not-a-certificate", tls_crt="hello\n"),
        make.secret(ns, "private-key", tls_crt=_key_pem(OTHER)),
        make.secret(ns, "wrong-key-name", cert_pem=OTHER.pem),
        make.leaf(ns, "garbage", GARBAGE),
        make.leaf(ns, "not-a-certificate", secret_name="not-a-certificate"),
        make.leaf(ns, "private-key", secret_name="private-key"),
        make.leaf(ns, "wrong-key-name", secret_name="wrong-key-name"),
        make.leaf(ns, "no-secret", secret_name="absent"),
        make.leaf(ns, "expired", EXPIRED.pem),
        make.leaf(ns, "no-instance", OTHER.pem, instance="absent"),
        make.authority(ns, "not-an-authority", OTHER.pem, {"commonName": "x"}),
        make.software(ns, "no-secret", "late-seed"),
        make.root_key(ns, "no-manager", "absent"),
        make.sqlite(ns, "no-root-key", "absent"),
        make.sqlite(ns, "nowhere", regions=[make.region("mars")]),
        make.sqlite(ns, "no-address", service={"type": "LoadBalancer", "loadBalancerClass": "example.com/nobody"}),
        make.sqlite(ns, "not-allowed", "restricted"),
    )
    cluster.until("clientcertificate", ns, "good")
    # It is younger, so the other keeps the certificate.
    cluster.apply_objects(make.leaf(ns, "duplicate", GOOD.pem))
    return ns


def _key_pem(identity: Identity) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (make.leaf("default", "x", "hello"), ("spec.leaf.pem", "must begin with -----BEGIN CERTIFICATE-----")),
        (make.leaf("default", "x", _key_pem(OTHER)), ("spec.leaf.pem", "must not hold a private key")),
        (make.leaf("default", "x", GOOD.pem + OTHER.pem), ("spec.leaf.pem", "exactly one certificate")),
        (
            make.sqlite("default", "x", regions=[make.region("a"), make.region("b")]),
            ("SQLite storage serves one region", "PostgreSQL"),
        ),
        (
            make.resource("KeyManager", "default", "x", {"type": "PKCS11", "credentials": {}}),
            ("spec.credentials.use", "Required value"),
        ),
    ],
)
def test_refused_at_apply(cluster: Cluster, manifest: Any, words: tuple[str, ...]) -> None:
    message = cluster.apply_refused(manifest)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("kind", "name", "reason", "words"),
    [
        ("clientcertificate", "garbage", "NotACertificate", ("spec.leaf.pem", "certificate")),
        (
            "clientcertificate",
            "not-a-certificate",
            "NotACertificate",
            ("spec.leaf.secretRef", "Secret not-a-certificate"),
        ),
        ("clientcertificate", "private-key", "PrivateKeyGiven", ("spec.leaf.secretRef", "private key", "certificate")),
        ("clientcertificate", "wrong-key-name", "SecretKeyMissing", ("spec.leaf.secretRef", "tls.crt", "Name the key")),
        ("clientcertificate", "no-secret", "SecretMissing", ("spec.leaf.secretRef", "no Secret absent", "Create it")),
        ("clientcertificate", "expired", "CertificateExpired", ("spec.leaf.pem", "expired on", "Give its successor")),
        (
            "clientcertificate",
            "no-instance",
            "InstanceMissing",
            ("spec.instanceRef", "no KmipInstance absent", "Create it"),
        ),
        ("clientcertificate", "not-an-authority", "NotAnAuthority", ("spec.authority.pem", "not an authority", "Leaf")),
        ("clientcertificate", "duplicate", "DuplicateCertificate", ("spec.leaf", "good", "Delete one of the two")),
        (
            "keymanager",
            "no-secret",
            "SecretMissing",
            ("spec.credentials.use", "no Secret late-seed", "in its key seed"),
        ),
        ("rootkey", "no-manager", "KeyManagerMissing", ("spec.keyManagerRef", "no KeyManager absent", "Create it")),
        ("kmipinstance", "no-root-key", "RootKeyMissing", ("spec.rootKeyRef", "no RootKey absent", "Create it")),
        ("kmipinstance", "nowhere", "RegionUnknown", ("spec.regions[0].name", "eu-de, eu-nl", "nodeSelector")),
        (
            "kmipinstance",
            "not-allowed",
            "ReferenceNotPermitted",
            ("spec.rootKeyRef", "spec.allowedInstances", "label the instance"),
        ),
        ("kmipinstance", "no-address", "AddressPending", ("spec.service", "no address", "load balancer controller")),
    ],
)
def test_stalled_with_field_finding_and_remedy(
    cluster: Cluster, errors: str, kind: str, name: str, reason: str, words: tuple[str, ...]
) -> None:
    message = cluster.stalled(kind, errors, name, reason)
    for word in words:
        assert word in message
    assert cluster.condition(kind, errors, name, "Ready")["status"] == ("True" if name == "no-address" else "False")


def test_what_is_wrong_beside_it_does_not_stop_the_good(cluster: Cluster, errors: str) -> None:
    cluster.until("kmipinstance", errors, "kms")
    cluster.until("clientcertificate", errors, "good")


def test_an_instance_that_is_not_permitted_serves_nothing(cluster: Cluster, errors: str) -> None:
    cluster.stalled("kmipinstance", errors, "not-allowed", "ReferenceNotPermitted")
    assert cluster.pods(errors, "not-allowed") == []
    cluster.kubectl("-n", errors, "label", "kmipinstance", "not-allowed", "team=storage")
    cluster.until("kmipinstance", errors, "not-allowed")
    cluster.kubectl("-n", errors, "label", "kmipinstance", "not-allowed", "team-")
    cluster.stalled("kmipinstance", errors, "not-allowed", "ReferenceNotPermitted")
    cluster.until_none(lambda: cluster.pods(errors, "not-allowed"))


def test_nothing_is_retried_hot(cluster: Cluster, errors: str, audit: AuditLog, operator_log: OperatorLog) -> None:
    for kind in KINDS:
        for item in cluster.items(kind, errors):
            by_type = {each["type"]: each["status"] for each in item["status"]["conditions"]}
            assert by_type["Ready"] == "True" or by_type["Stalled"] == "True", item["metadata"]["name"]
    jobs = {item["metadata"]["name"] for item in cluster.items("jobs", errors)}
    mark, line = audit.mark(), operator_log.mark()

    def writes() -> list[Any]:
        return [write for write in audit.since(mark) if write.namespace == errors]

    assert cluster.quiet_for(RETRY_WINDOW, writes) == []
    operator_log.collect()
    assert [entry for entry in operator_log.entries(line) if entry.get("namespace") == errors] == []
    assert {item["metadata"]["name"] for item in cluster.items("jobs", errors)} == jobs


def test_what_was_missing_is_taken_when_it_comes(cluster: Cluster, errors: str) -> None:
    cluster.apply_objects(
        make.secret(errors, "absent", tls_crt=OTHER.pem), make.secret(errors, "late-seed", seed="fedcba9876543210" * 4)
    )
    cluster.until("clientcertificate", errors, "no-secret")
    cluster.until("keymanager", errors, "no-secret")
    cluster.apply_objects(make.secret(errors, "not-a-certificate", tls_crt=certificate("late").pem))
    cluster.until("clientcertificate", errors, "not-a-certificate")


def test_the_older_certificate_gone_the_duplicate_takes_over(cluster: Cluster, errors: str) -> None:
    cluster.stalled("clientcertificate", errors, "duplicate", "DuplicateCertificate")
    cluster.delete("clientcertificate", errors, "good")
    cluster.until("clientcertificate", errors, "duplicate")


def test_what_is_in_use_cannot_be_deleted(cluster: Cluster, errors: str) -> None:
    cluster.until("kmipinstance", errors, "kms")
    cluster.wait_for_field("rootkey", errors, "root", "keyspaces")
    message = cluster.refused("-n", errors, "delete", "rootkey", "root")
    for word in ("RootKey root", "keyspace", "status.keyspaces", "never destroys the key"):
        assert word in message
    message = cluster.refused("-n", errors, "delete", "keymanager", "software")
    for word in ("KeyManager software", "status.rootKeys", "delete those first"):
        assert word in message
