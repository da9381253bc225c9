"""Nothing is lost by a delete, and nothing is left behind by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import e2e_manifests as make
from support.e2e_cluster import SYSTEM, Cluster, Manifest

from demo import job
from demo.certificates import vcenter_identity
from demo.kubernetes import KINDS
from demo.vcenter import create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def everything(namespace: str, pem: str, **instance: Any) -> list[Manifest]:
    return [
        make.software(namespace),
        make.root_key(namespace),
        make.sqlite(namespace, **instance),
        make.leaf(namespace, "client", pem),
    ]


def apply_and_wait(cluster: Cluster, namespace: str, manifests: list[Manifest]) -> None:
    cluster.apply_objects(*manifests)
    cluster.wait_ready(namespace, timeout=120)


def data(cluster: Cluster, namespace: str, name: str) -> Any:
    found = cluster.find("secret", namespace, name)
    assert found is not None
    return found["data"]


def test_the_same_keys_after_everything_but_the_volume_was_deleted(
    cluster: Cluster, main_job: Any, namespace: str, tmp_path: Path
) -> None:
    client = vcenter_identity(tmp_path, "client")
    vcenter = vcenter_identity(main_job.work, "vcenter")
    manifests = everything(namespace, client.pem)
    cluster.apply_objects(make.secret(namespace, "seed", seed="a seed of this test's own, 32 bytes long"))
    apply_and_wait(cluster, namespace, manifests)
    endpoint = cluster.endpoint(namespace, "kms")
    cluster.until_reachable(endpoint, client)
    with endpoint.connect(client) as connection:
        keys = {key: get(connection, key) for key in [create(connection) for _ in range(10)]}
    keyspace = cluster.wait_for_field("kmipinstance", namespace, "kms", "keyspace")
    authority, server = data(cluster, namespace, "kms-ca"), data(cluster, namespace, "kms-server")
    (claim,) = cluster.items("persistentvolumeclaims", namespace)
    cluster.wait_for_label("persistentvolumeclaim", namespace, claim["metadata"]["name"], "kmip.dev/keyspace", keyspace)

    cluster.delete("kmipinstance", namespace, "kms")
    cluster.delete("clientcertificate", namespace, "client")
    cluster.until_none(lambda: cluster.items("pods", namespace, "kmip.dev/instance=kms"))
    assert data(cluster, namespace, "kms-ca") == authority
    assert data(cluster, namespace, "kms-server") == server
    for retained in (f"persistentvolumeclaim/{claim['metadata']['name']}", "secret/kms-ca", "secret/kms-server"):
        message = cluster.refused("-n", namespace, "delete", retained)
        assert keyspace in message
        assert "kmip.dev/confirm-delete" in message
    message = cluster.refused("-n", namespace, "delete", "rootkey", "root")
    assert "1 keyspace" in message

    cluster.helm("uninstall", "kmip-operator", "--namespace", SYSTEM, "--wait")
    try:
        crds = cluster.kubectl("get", "crd", "-o", "name")
        assert crds.count("kmip.dev") == 4
        # Without the operator keys are still served.
        assert main_job.vsphere.accepts(vcenter)
        cluster.delete_without_policies("rootkey", namespace, "root")
        cluster.delete_without_policies("keymanager", namespace, "software")
        kept = {
            f"PersistentVolumeClaim/{claim['metadata']['name']}",
            "Secret/kms-ca",
            "Secret/kms-server",
            "Secret/seed",
        }
        cluster.until_none(lambda: cluster.objects(namespace) - kept - BUILT_IN)
        assert cluster.objects(namespace) - BUILT_IN == kept
    finally:
        job.install(cluster)

    apply_and_wait(cluster, namespace, manifests)
    again = cluster.endpoint(namespace, "kms")
    cluster.until_reachable(again, client)
    with again.connect(client) as connection:
        assert {key: get(connection, key) for key in keys} == keys
        assert len(get(connection, create(connection))) == 32
    assert cluster.wait_for_field("kmipinstance", namespace, "kms", "keyspace") == keyspace
    assert data(cluster, namespace, "kms-ca") == authority
    assert data(cluster, namespace, "kms-server") == server


BUILT_IN = {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}


def test_each_kind_takes_with_it_what_it_made_and_nothing_else(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    client = vcenter_identity(tmp_path, "client")
    bystander = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "bystander", "namespace": namespace, "labels": {"kmip.dev/instance": "kms"}},
        "data": {"mine": "yes"},
    }
    stages: list[set[str]] = []
    cluster.apply_objects(make.secret(namespace, "seed", seed="0123456789abcdef" * 4), bystander)
    steps = everything(namespace, client.pem)
    stages.append(cluster.objects(namespace))
    for manifest in steps:
        cluster.apply_objects(manifest)
        cluster.until(manifest["kind"].lower(), namespace, manifest["metadata"]["name"])
        stages.append(cluster.objects(namespace))
    (claim,) = (name for name in stages[3] if name.startswith("PersistentVolumeClaim/"))
    retained = {claim, "Secret/kms-ca", "Secret/kms-server"}

    def only(wanted: set[str]) -> None:
        cluster.until_none(lambda: cluster.objects(namespace) ^ wanted)

    cluster.delete("clientcertificate", namespace, "client")
    only(stages[3])
    cluster.delete("kmipinstance", namespace, "kms")
    only(stages[2] | retained)
    # With the last keyspace confirmed and gone, the root key and then its key manager may go.
    for name in retained:
        kind, _, plain = name.partition("/")
        found = cluster.find(kind, namespace, plain)
        assert found is not None
        consent = f"kmip.dev/confirm-delete={found['metadata']['labels']['kmip.dev/keyspace']}"
        cluster.kubectl("-n", namespace, "annotate", kind, plain, consent)
        cluster.delete(kind, namespace, plain)
    only(stages[2])
    cluster.until_gone_from_status("rootkey", namespace, "root", "keyspaces")
    cluster.delete("rootkey", namespace, "root")
    only(stages[1])
    cluster.until_gone_from_status("keymanager", namespace, "software", "rootKeys")
    cluster.delete("keymanager", namespace, "software")
    only(stages[0])


def test_delete_with_consent_takes_volume_and_authority_too(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    client = vcenter_identity(tmp_path, "client")
    cluster.apply_objects(make.secret(namespace, "seed", seed="0123456789abcdef" * 4))
    apply_and_wait(cluster, namespace, everything(namespace, client.pem, deletionPolicy="Delete"))
    keyspace = cluster.wait_for_field("kmipinstance", namespace, "kms", "keyspace")
    message = cluster.refused("-n", namespace, "delete", "kmipinstance", "kms")
    assert f"kmip.dev/confirm-delete={keyspace}" in message
    cluster.kubectl("-n", namespace, "annotate", "kmipinstance", "kms", "kmip.dev/confirm-delete=something-else")
    assert keyspace in cluster.refused("-n", namespace, "delete", "kmipinstance", "kms")
    cluster.kubectl(
        "-n", namespace, "annotate", "kmipinstance", "kms", f"kmip.dev/confirm-delete={keyspace}", "--overwrite"
    )
    (claim,) = cluster.items("persistentvolumeclaims", namespace)
    volume = claim["spec"]["volumeName"]
    for kind, name in (("pvc", claim["metadata"]["name"]), ("secret", "kms-ca"), ("secret", "kms-server")):
        cluster.until_owned(kind, namespace, name)
    cluster.delete("kmipinstance", namespace, "kms")
    cluster.until_none(lambda: cluster.items("persistentvolumeclaims,secrets", namespace, "kmip.dev/keyspace"))
    cluster.until_none(lambda: cluster.kubectl("get", "persistentvolume", volume, "--ignore-not-found", "-o", "name"))


def test_a_namespace_goes_in_any_order_once_there_is_consent(cluster: Cluster, tmp_path: Path) -> None:
    namespace = "e2e-goes"
    cluster.namespace(namespace)
    client = vcenter_identity(tmp_path, "client")
    cluster.apply_objects(make.secret(namespace, "seed", seed="0123456789abcdef" * 4))
    apply_and_wait(cluster, namespace, everything(namespace, client.pem))
    (claim,) = cluster.items("persistentvolumeclaims", namespace)
    keyspace = cluster.wait_for_field("kmipinstance", namespace, "kms", "keyspace")
    cluster.wait_for_label("persistentvolumeclaim", namespace, claim["metadata"]["name"], "kmip.dev/keyspace", keyspace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    for kind in KINDS[2:]:
        cluster.until_none(lambda kind=kind: cluster.items(kind, namespace))  # type: ignore[misc]
    assert len(cluster.items("persistentvolumeclaims", namespace)) == 1
    for item in cluster.items("persistentvolumeclaims,secrets", namespace, "kmip.dev/keyspace"):
        consent = f"kmip.dev/confirm-delete={keyspace}"
        cluster.kubectl("-n", namespace, "annotate", item["kind"], item["metadata"]["name"], consent)
    cluster.until_none(
        lambda: cluster.kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "name"), timeout=180
    )
