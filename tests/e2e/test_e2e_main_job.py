"""The main job on a real cluster: the demonstration's own steps, and what a person and a GitOps tool see of it."""

from __future__ import annotations

from typing import Any

import pytest
from support.e2e_cluster import Cluster

from demo.certificates import vcenter_identity
from demo.kubernetes import KINDS, ROOT
from demo.vcenter import encrypt_vm, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CHART = ROOT / "helm" / "kmip-operator"
EXAMPLES = ("vsphere", "regions")


def test_the_demonstration_works(cluster: Cluster, main_job: Any) -> None:
    assert [endpoint.region for endpoint in main_job.regions] == ["eu-de", "eu-nl"]
    assert len({endpoint.host for endpoint in (main_job.vsphere, *main_job.regions)}) == 3


@pytest.mark.parametrize("namespace", EXAMPLES)
def test_all_four_kinds_are_ready(cluster: Cluster, main_job: Any, namespace: str) -> None:
    for kind in KINDS:
        (*found,) = cluster.items(kind, namespace)
        assert found
        for item in found:
            by_type = {each["type"]: each for each in item["status"]["conditions"]}
            assert by_type["Ready"]["status"] == "True", by_type
            assert by_type["Reconciling"]["status"] == "False", by_type
            assert by_type["Stalled"]["status"] == "False", by_type
            assert item["status"]["observedGeneration"] == item["metadata"]["generation"]


def test_get_kmip_says_where_to_connect_and_whether_it_works(cluster: Cluster, main_job: Any) -> None:
    text = cluster.kubectl("get", "kmip", "-A")
    (vsphere,) = [line for line in text.splitlines() if "kmipinstance.kmip.dev/vc-tokyo" in line]
    assert f"{main_job.vsphere.host}:5696" in vsphere
    assert vsphere.split()[2:4] == ["True", "Ready"]
    (regions,) = [line for line in text.splitlines() if "kmipinstance.kmip.dev/everywhere" in line]
    assert all(f"{endpoint.host}:5696" in regions for endpoint in main_job.regions)
    assert "3/3" in regions
    (client,) = [
        line for line in text.splitlines() if "clientcertificate.kmip.dev/vcenter" in line and "vc-tokyo" in line
    ]
    assert client.split()[2:4] == ["True", "Ready"]
    for word in ("READY", "REASON", "ADDRESS", "PODS", "AUTHORIZED", "USABLE", "APPLIED", "VALID-UNTIL"):
        assert word in text


def test_the_chart_is_clean(cluster: Cluster, main_job: Any) -> None:
    assert "0 chart(s) failed" in cluster.helm("lint", "--strict", CHART)
    rendered = cluster.helm("template", "kmip-operator", CHART, "--namespace", "kmip-system")
    applied = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered
    )
    assert "deployment.apps/kmip-operator serverside-applied (server dry run)" in applied


@pytest.mark.parametrize("namespace", EXAMPLES)
def test_manifests_that_were_applied_show_no_difference(cluster: Cluster, main_job: Any, namespace: str) -> None:
    assert cluster.kubectl("diff", "--server-side", "-f", ROOT / "examples" / namespace) == ""


def test_specs_stay_as_they_were_written(cluster: Cluster, main_job: Any) -> None:
    for item in cluster.items(",".join(KINDS), None):
        managers = {each["manager"] for each in item["metadata"]["managedFields"] if "f:spec" in each["fieldsV1"]}
        assert "kmip-operator" not in managers, item["metadata"]
        assert not any(key.startswith("kopf") for key in item["metadata"].get("annotations", {}))
        assert not item["metadata"].get("finalizers")


def test_a_steady_state_writes_nothing(cluster: Cluster, main_job: Any, audit: Any, operator_log: Any) -> None:
    for namespace in EXAMPLES:
        cluster.wait_ready(namespace, timeout=60)
    mark, line = audit.mark(), operator_log.mark()
    # Any event makes a round of the object: a change of metadata that nothing depends on.
    for namespace in EXAMPLES:
        cluster.kubectl(
            "-n", namespace, "label", "kmipinstances,rootkeys,keymanagers", "--all", "e2e=look", "--overwrite"
        )
    # Namespaces of other tests may still be on their way out.
    assert cluster.quiet_for(20, lambda: [write for write in audit.since(mark) if write.namespace in EXAMPLES]) == []
    operator_log.collect()
    assert [entry for entry in operator_log.entries(line) if entry.get("namespace") in EXAMPLES] == []


def test_keys_outlive_pods(cluster: Cluster, main_job: Any) -> None:
    vcenter = vcenter_identity(main_job.work, "vcenter")
    encrypted = encrypt_vm(lambda: main_job.vsphere.connect(vcenter))
    cluster.kubectl("-n", "vsphere", "delete", "pod", "vc-tokyo-0", "--timeout=60s")
    cluster.wait_ready("vsphere", timeout=120)
    cluster.until_reachable(main_job.vsphere, vcenter)
    with main_job.vsphere.connect(vcenter) as connection:
        assert get(connection, encrypted.vm_key) == encrypted.vm_material
