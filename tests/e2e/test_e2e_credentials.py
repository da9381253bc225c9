"""A PIN that is wrong reaches the token once, counted at the module; one that is right is taken when it comes."""

from __future__ import annotations

from typing import Any

import pytest
from support import e2e_manifests as make
from support.e2e_audit import AuditLog
from support.e2e_cluster import Cluster
from support.e2e_hsm import PodHsm, make_pod_hsm

from demo.certificates import vcenter_identity
from demo.vcenter import create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WRONG = "135790"
WINDOW = 12.0
"""Seconds in which nothing may happen: longer than the first back-off of what is retried."""


@pytest.fixture(scope="module")
def hsm(cluster: Cluster, module_namespace: str) -> PodHsm:
    made = make_pod_hsm(cluster, module_namespace)
    cluster.apply_objects(*made.supports())
    return made


def jobs(cluster: Cluster, namespace: str) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.items("jobs", namespace)}


def test_an_unknown_module_is_named(cluster: Cluster, hsm: PodHsm, audit: AuditLog) -> None:
    ns = hsm.namespace
    cluster.apply_objects(make.secret(ns, "right", pin=hsm.pin), hsm.key_manager("no-module", "right", "/opt/none.so"))
    message = cluster.stalled("keymanager", ns, "no-module", "ModuleNotFound")
    assert "/opt/none.so" in message
    before, mark = jobs(cluster, ns), audit.mark()
    assert cluster.quiet_for(WINDOW, lambda: [each for each in audit.since(mark) if each.namespace == ns]) == []
    assert jobs(cluster, ns) == before
    assert hsm.shim.logins() == []


def test_a_wrong_pin_reaches_the_token_once(cluster: Cluster, hsm: PodHsm, audit: AuditLog) -> None:
    ns = hsm.namespace
    known = hsm.refusals()
    cluster.apply_objects(make.secret(ns, "pin", pin=WRONG), hsm.key_manager("hsm", "pin"))
    cluster.apply_objects(make.root_key(ns, manager="hsm"))
    message = cluster.stalled("keymanager", ns, "hsm", "CredentialRefused")
    assert "spec.credentials.use" in message
    assert WRONG not in message
    mark = audit.mark()
    cluster.kubectl("-n", ns, "label", "keymanager", "hsm", "e2e=look")
    assert cluster.quiet_for(WINDOW, lambda: [each for each in audit.since(mark) if each.namespace == ns]) == []
    assert hsm.refusals() - known == 1
    assert cluster.condition("keymanager", ns, "hsm", "Reachable")["status"] == "True"
    assert cluster.condition("keymanager", ns, "hsm", "Authorized")["status"] == "False"


def test_the_right_pin_recovers_it(cluster: Cluster, hsm: PodHsm) -> None:
    ns = hsm.namespace
    cluster.apply_objects(make.secret(ns, "pin", pin=hsm.pin))
    cluster.until("keymanager", ns, "hsm")
    cluster.until("rootkey", ns, "root")
    assert hsm.refusals() == 1


def test_a_pin_that_becomes_wrong_stops_no_pod_and_is_tried_once(cluster: Cluster, hsm: PodHsm, tmp_path: Any) -> None:
    ns = hsm.namespace
    client = vcenter_identity(tmp_path, "client")
    cluster.apply_objects(make.sqlite(ns), make.leaf(ns, "client", client.pem))
    cluster.until("clientcertificate", ns, "client")
    cluster.until("kmipinstance", ns, "kms")
    endpoint = cluster.endpoint(ns, "kms")
    with endpoint.connect(client) as connection:
        key = create(connection)
        material = get(connection, key)
    known = hsm.refusals()
    cluster.apply_objects(make.secret(ns, "pin", pin=WRONG))
    cluster.stalled("keymanager", ns, "hsm", "CredentialRefused")
    with endpoint.connect(client) as connection:
        assert get(connection, key) == material
        assert len(get(connection, create(connection))) == 32
    # A pod that starts now finds a credential that no Job confirmed: it must not try it.
    cluster.kubectl("-n", ns, "delete", "pod", "kms-0", "--timeout=60s")
    assert cluster.quiet_for(WINDOW, lambda: [hsm.refusals()] if hsm.refusals() > known + 1 else []) == []
    assert hsm.refusals() == known + 1
    cluster.apply_objects(make.secret(ns, "pin", pin=hsm.pin))
    cluster.until("keymanager", ns, "hsm")
    cluster.until("kmipinstance", ns, "kms")
    cluster.until_reachable(endpoint, client)
    with endpoint.connect(client) as connection:
        assert get(connection, key) == material
    assert hsm.refusals() == known + 1
