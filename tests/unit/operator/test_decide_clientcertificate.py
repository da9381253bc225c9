"""Decisions about a ClientCertificate, and its allowlist entry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from support import pki
from support.operator_samples import (
    NOW,
    certificate_snapshot,
    client_certificate,
    instance,
    pod,
    pod_status,
    with_status,
)

from kmip_contract.allowlist import Allowlist
from kmip_contract.kmipd import ClientSeen
from kmip_contract.permissions import OPERATIONS, PROFILES, PermissionProfile
from kmip_operator.clientcertificate.certificate import entry, examine
from kmip_operator.clientcertificate.decide import decide
from kmip_operator.clientcertificate.snapshot import ClientCertificateSnapshot
from kmip_operator.facts import PemSource
from kmip_operator.plan import Plan

VCENTER = pki.make("vcenter", organization="VMware", not_after=timedelta(days=365))


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in plan.status["conditions"]}


def message(plan: Plan, kind: str = "Stalled") -> str:
    return next(str(item["message"]) for item in plan.status["conditions"] if item["type"] == kind)


def listed(snapshot: ClientCertificateSnapshot, revision: int, *pods: Any) -> ClientCertificateSnapshot:
    """The certificate is on its instance's list."""
    found = entry(examine(snapshot.object, snapshot.source, NOW))
    assert found is not None
    return replace(snapshot, allowlist=Allowlist(revision=revision, entries=(found,)), pods=pods)


def test_a_certificate_that_every_pod_enforces_is_ready() -> None:
    pods = (pod("a", status=pod_status(7)), pod("b", status=pod_status(8)))
    plan = decide(listed(certificate_snapshot(VCENTER.pem), 7, *pods), NOW)
    assert conditions(plan) == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
        "Accepted": ("True", "Accepted"),
        "Applied": ("True", "Applied"),
        "Expiring": ("False", "Valid"),
    }
    assert plan.status["appliedPods"] == "2/2"
    assert plan.status["revision"] == 7
    assert plan.status["subject"] == "O=VMware,CN=vcenter"
    assert plan.status["sha256"].replace(":", "").lower() == VCENTER.sha256
    assert not plan.poll_pods
    assert [(event.type, event.reason) for event in plan.events] == [("Normal", "Ready")]


def test_it_is_polled_until_the_last_pod_enforces_it() -> None:
    pods = (pod("a", status=pod_status(7)), pod("b", status=pod_status(6)))
    plan = decide(listed(certificate_snapshot(VCENTER.pem), 7, *pods), NOW)
    assert conditions(plan)["Applied"] == ("False", "Applying")
    assert conditions(plan)["Reconciling"] == ("True", "Applying")
    assert message(plan, "Applied") == "1 of 2 pods enforce revision 7. Missing: b."
    assert plan.poll_pods


def test_it_waits_for_the_list_and_for_pods() -> None:
    plan = decide(certificate_snapshot(VCENTER.pem), NOW)
    assert conditions(plan)["Reconciling"] == ("True", "Applying")
    plan = decide(listed(certificate_snapshot(VCENTER.pem), 3), NOW)
    assert conditions(plan)["Reconciling"] == ("True", "InstanceNotReady")


def test_other_certificates_on_the_list_do_not_change_what_is_said_of_this_one() -> None:
    snapshot = listed(certificate_snapshot(VCENTER.pem), 7, pod("a", status=pod_status(7)))
    snapshot = replace(snapshot, object=with_status(snapshot.object, decide(snapshot, NOW)))
    grown = replace(listed(snapshot, 12), pods=(pod("a", status=pod_status(11)),))
    plan = decide(grown, NOW)
    assert plan.status == snapshot.object["status"]
    assert not plan.poll_pods
    assert plan.events == ()


def test_a_changed_spec_waits_for_its_own_revision() -> None:
    snapshot = listed(certificate_snapshot(VCENTER.pem), 7, pod("a", status=pod_status(7)))
    done = with_status(snapshot.object, decide(snapshot, NOW))
    done["metadata"] = {**done["metadata"], "generation": 2}
    done["spec"] = {**done["spec"], "state": "Blocked"}
    before = replace(snapshot, object=done)
    plan = decide(before, NOW)
    assert conditions(plan)["Applied"] == ("False", "Applying")
    after = listed(replace(snapshot, object=done), 8, pod("a", status=pod_status(7)))
    plan = decide(after, NOW)
    assert plan.status["revision"] == 8
    assert plan.status["appliedPods"] == "0/1"
    plan = decide(listed(after, 8, pod("a", status=pod_status(8))), NOW)
    assert conditions(plan)["Ready"] == ("True", "Blocked")
    assert message(plan, "Ready") == "Every pod refuses it."


KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("pem", "reason", "sentence"),
    [
        (" \n", "NotACertificate", "spec.leaf.pem: found nothing. Give a PEM certificate"),
        ("hello", "NotACertificate", "spec.leaf.pem: found no PEM block. Give a PEM certificate"),
        (VCENTER.pem + KEY, "PrivateKeyGiven", "spec.leaf.pem: it holds a private key. Give the certificate alone"),
        (VCENTER.pem * 2, "SeveralCertificates", "spec.leaf.pem: found 2 certificates. Give exactly one"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "NotACertificate",
            "is no X.509 certificate. Export it again",
        ),
        (VCENTER.pem[:-40], "NotACertificate", "spec.leaf.pem: found a certificate whose end is missing."),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "NotACertificate",
            "spec.leaf.pem: found a block named CERTIFICATE REQUEST.",
        ),
        (
            pki.make("weak", rsa_bits=1024).pem,
            "WeakKey",
            "its RSA key has 1024 bits. Give a certificate with at least 2048.",
        ),
        (
            pki.make("old", not_before=timedelta(days=-9), not_after=timedelta(days=-1)).pem,
            "CertificateExpired",
            "spec.leaf.pem: the certificate expired on",
        ),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_field_finding_and_remedy(pem: str, reason: str, sentence: str) -> None:
    snapshot = certificate_snapshot(pem)
    plan = decide(snapshot, NOW)
    assert conditions(plan)["Stalled"] == ("True", reason)
    assert conditions(plan)["Accepted"] == ("False", reason)
    assert conditions(plan)["Ready"] == ("False", reason)
    assert sentence in message(plan)
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", reason)]
    assert entry(examine(snapshot.object, snapshot.source, NOW)) is None
    assert "PRIVATE KEY" not in str(plan.status)


@pytest.mark.parametrize(
    ("problem", "reason", "sentence"),
    [
        ("SecretMissing", "SecretMissing", "spec.leaf.secretRef: there is no Secret vcenter in this namespace."),
        ("SecretKeyMissing", "SecretKeyMissing", "spec.leaf.secretRef: key tls.crt of Secret vcenter does not exist."),
    ],
)
def test_a_secret_or_key_that_is_missing_is_named(problem: str, reason: str, sentence: str) -> None:
    source = PemSource(problem=problem, secret_name="vcenter", secret_key="tls.crt")
    plan = decide(certificate_snapshot("", object=client_certificate(), source=source), NOW)
    assert conditions(plan)["Stalled"] == ("True", reason)
    assert message(plan).startswith(sentence)


def test_without_its_instance_it_stalls() -> None:
    plan = decide(certificate_snapshot(VCENTER.pem, instance=None), NOW)
    assert conditions(plan)["Stalled"] == ("True", "InstanceMissing")
    assert conditions(plan)["Accepted"] == ("False", "InstanceMissing")


def test_of_two_objects_with_one_certificate_the_older_keeps_it() -> None:
    elder = client_certificate(VCENTER.pem, "elder", metadata={"creationTimestamp": "2026-10-01T10:00:00Z"})
    younger = client_certificate(VCENTER.pem, "younger")
    plan = decide(certificate_snapshot(VCENTER.pem, object=younger, others=(elder,)), NOW)
    assert conditions(plan)["Stalled"] == ("True", "DuplicateCertificate")
    assert "ClientCertificate elder of the same instance" in message(plan)
    plan = decide(certificate_snapshot(VCENTER.pem, object=elder, others=(younger,)), NOW)
    assert conditions(plan)["Accepted"] == ("True", "Accepted")


def test_one_that_is_not_valid_yet_is_listed_and_waited_for() -> None:
    future = pki.make("future", not_before=timedelta(hours=1), not_after=timedelta(days=90))
    snapshot = listed(certificate_snapshot(future.pem), 2, pod("a", status=pod_status(2)))
    plan = decide(snapshot, NOW)
    assert conditions(plan)["Ready"] == ("False", "CertificateNotYetValid")
    assert conditions(plan)["Accepted"][0] == "True"
    valid_from = x509.load_pem_x509_certificate(future.pem.encode()).not_valid_before_utc
    assert plan.requeue_after == pytest.approx((valid_from - NOW).total_seconds(), abs=2)
    assert conditions(decide(snapshot, NOW + timedelta(hours=2)))["Ready"][0] == "True"


def test_it_is_said_thirty_days_before_it_ends() -> None:
    snapshot = listed(certificate_snapshot(VCENTER.pem), 2, pod("a", status=pod_status(2)))
    assert conditions(decide(snapshot, NOW + timedelta(days=334)))["Expiring"] == ("False", "Valid")
    plan = decide(snapshot, NOW + timedelta(days=336))
    assert conditions(plan)["Expiring"] == ("True", "CertificateExpiring")
    assert conditions(plan)["Ready"][0] == "True"
    assert conditions(decide(snapshot, NOW + timedelta(days=366)))["Expiring"] == ("True", "CertificateExpired")


def test_the_last_day_it_was_seen_never_goes_back() -> None:
    today = ClientSeen(name="vcenter", last_seen=NOW.date())
    snapshot = listed(certificate_snapshot(VCENTER.pem), 2, pod("a", status=pod_status(2, clients=(today,))))
    plan = decide(snapshot, NOW)
    assert plan.status["lastSeen"] == NOW.date().isoformat()
    restarted = replace(snapshot, object=with_status(snapshot.object, plan), pods=(pod("a", status=pod_status(2)),))
    assert decide(restarted, NOW).status["lastSeen"] == NOW.date().isoformat()


def authority_of(identity: pki.Identity, **match: str) -> ClientCertificateSnapshot:
    spec: dict[str, Any] = {
        "type": "Authority",
        "leaf": None,
        "authority": {"pem": identity.pem, "match": match or {"commonName": "vc"}},
    }
    return certificate_snapshot(identity.pem, object=client_certificate(identity.pem, **spec))


def test_an_authority_is_listed_with_what_its_certificates_must_say() -> None:
    snapshot = authority_of(pki.authority(), dnsName="vc.corp.example")
    found = entry(examine(snapshot.object, snapshot.source, NOW))
    assert found is not None
    assert found.type == "Authority"
    assert found.match is not None
    assert (found.match.dns_name, found.match.common_name) == ("vc.corp.example", None)


def test_a_leaf_is_no_authority() -> None:
    for extensions in ((), (x509.BasicConstraints(ca=False, path_length=None),)):
        plan = decide(authority_of(pki.make("leaf", extensions=extensions)), NOW)
        assert conditions(plan)["Stalled"] == ("True", "NotAnAuthority")
        assert message(plan).startswith("spec.authority.pem: CN=leaf is not an authority")


@pytest.mark.parametrize(
    ("permissions", "operations"),
    [
        (None, PROFILES[PermissionProfile.VSPHERE]),
        ({"profile": "Full"}, OPERATIONS),
        ({"profile": "ReadOnly"}, PROFILES[PermissionProfile.READ_ONLY]),
        ({"operations": ["Get", "Locate"]}, frozenset({"Get", "Locate"})),
    ],
)
def test_permissions_become_operations(permissions: dict[str, Any] | None, operations: frozenset[str]) -> None:
    manifest = client_certificate(VCENTER.pem, permissions=permissions)
    found = entry(examine(manifest, PemSource(pem=VCENTER.pem), NOW))
    assert found is not None
    assert found.operations == operations


def test_text_around_the_one_block_is_ignored() -> None:
    noisy = f"Bag Attributes\n  friendlyName: vc\nsubject=CN = vcenter\n{VCENTER.pem}\n\n"
    found = entry(examine(client_certificate(noisy), PemSource(pem=noisy), NOW))
    assert found is not None
    assert found.pem == VCENTER.pem


def test_deciding_again_with_what_was_written_changes_nothing() -> None:
    for snapshot in (
        listed(certificate_snapshot(VCENTER.pem), 7, pod("a", status=pod_status(7))),
        certificate_snapshot("hello"),
        certificate_snapshot(VCENTER.pem, instance=None),
        certificate_snapshot(VCENTER.pem, instance=instance()),
    ):
        plan = decide(snapshot, NOW)
        again = decide(replace(snapshot, object=with_status(snapshot.object, plan)), NOW + timedelta(minutes=1))
        assert again.status == plan.status
        assert again.events == ()
