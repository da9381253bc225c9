"""The CRDs in a person's hands, and the manifests the operator makes, on a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.operator_samples import (
    KEYSPACE,
    NOW,
    POSTGRESQL,
    client_certificate,
    instance,
    instance_after,
    instance_snapshot,
    pod,
    pod_status,
)

from kind.native.apiserver import ApiServer
from kmip_operator import crd
from kmip_operator.clientcertificate.decide import decide as decide_certificate
from kmip_operator.clientcertificate.snapshot import ClientCertificateSnapshot
from kmip_operator.facts import PemSource
from kmip_operator.kmipinstance.decide import decide
from kmip_operator.kmipinstance.prepare import prepare

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "unit" / "operator" / "golden"
NAMESPACE = "vsphere"

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> ApiServer:
    apiserver.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    names = [f"{kind.plural}.kmip.dev" for kind in crd.KINDS]
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *names)
    for namespace in (NAMESPACE, "regions"):
        apiserver.run_kubectl("create", "namespace", namespace)
    return apiserver


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_operators_manifests_are_valid(server: ApiServer, path: Path) -> None:
    done = server.run_kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid(server: ApiServer, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if not manifest["apiVersion"].startswith("kmip.dev/"):
            continue
        done = server.run_kubectl(
            "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(manifest)
        )
        assert done.returncode == 0, done.stderr


def put(server: ApiServer, manifest: dict[str, Any], status: dict[str, Any]) -> None:
    """Create an object and write its status as the operator does."""
    name, kind = manifest["metadata"]["name"], manifest["kind"]
    metadata = {"name": name, "namespace": NAMESPACE}
    server.kubectl("apply", "-f", "-", stdin=json.dumps({**manifest, "metadata": metadata}))
    patch = json.dumps({"status": status})
    server.kubectl("patch", "-n", NAMESPACE, kind, name, "--subresource=status", "--type=merge", "-p", patch)
    live = json.loads(server.kubectl("get", "-n", NAMESPACE, kind, name, "-o", "json"))
    assert live["status"] == json.loads(json.dumps(status)), "the schema dropped or changed something"


def test_a_vmware_administrator_sees_where_to_connect_and_whether_it_works(server: ApiServer) -> None:
    snapshot = instance_snapshot(object=instance(POSTGRESQL, "vc-tokyo"))
    snapshot = instance_after(snapshot, decide(prepare(snapshot, NOW), NOW), NOW)
    pods = (
        pod("a", "jp-tok", status=pod_status(1)),
        pod("b", "jp-tok", status=pod_status(1)),
        pod("c", "jp-osa", status=pod_status(1)),
    )
    snapshot = instance_after(snapshot, decide(snapshot, NOW), NOW)
    object.__setattr__(snapshot, "pods", pods)
    for child in snapshot.children:
        if child["kind"] == "Deployment":
            child["status"] = {"observedGeneration": 1, "updatedReplicas": child["spec"]["replicas"]}
    put(server, snapshot.object, decide(snapshot, NOW).status)
    table = server.kubectl("get", "kmip", "-A").splitlines()
    heading = next(line for line in table if "ADDRESS" in line)
    row = next(line for line in table if "vc-tokyo" in line)
    assert heading.split() == ["NAMESPACE", "NAME", "READY", "REASON", "ADDRESS", "PODS", "SERVER-UNTIL", "AGE"]
    assert "kms1.corp.example:5696" in row
    assert "True" in row
    assert "3/3" in row
    assert KEYSPACE in server.kubectl("get", "ki", "-n", NAMESPACE, "-o", "wide")


def test_a_refused_certificate_says_why_in_the_table(server: ApiServer) -> None:
    manifest = client_certificate(None, "expired")
    source = PemSource(problem="SecretMissing", secret_name="vcenter", secret_key="tls.crt")
    put(server, manifest, decide_certificate(ClientCertificateSnapshot(manifest, source, instance()), NOW).status)
    row = next(line for line in server.kubectl("get", "kcc", "-n", NAMESPACE).splitlines() if "expired" in line)
    assert "False" in row
    assert "SecretMissing" in row


def test_certificates_are_found_by_their_instance(server: ApiServer) -> None:
    put(server, client_certificate(None, "mine"), {})
    other = client_certificate(None, "theirs")
    other["spec"]["instanceRef"]["name"] = "another"
    put(server, other, {})
    found = server.kubectl(
        "get", "kcc", "-n", NAMESPACE, "--field-selector", "spec.instanceRef.name=another", "-o", "name"
    )
    assert found.split() == ["clientcertificate.kmip.dev/theirs"]


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_explain_reads_like_documentation(server: ApiServer, kind: crd.Kind) -> None:
    text = server.kubectl("explain", f"{kind.plural}.spec")
    assert "<no description>" not in text
    assert "FIELDS:" in text


def test_nothing_is_defaulted_that_git_does_not_say(server: ApiServer) -> None:
    manifest = instance(name="plain")
    put(server, manifest, {})
    live = json.loads(server.kubectl("get", "-n", NAMESPACE, "ki", "plain", "-o", "json"))
    assert live["spec"] == manifest["spec"]
