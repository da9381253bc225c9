"""The chart for one namespace: Roles only, and nothing of other namespaces is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import e2e_manifests as make
from support.e2e_audit import AuditLog
from support.e2e_cluster import SYSTEM, Cluster
from support.e2e_operator import OperatorLog

from demo import job
from demo.certificates import vcenter_identity
from demo.kubernetes import KINDS, ROOT
from demo.vcenter import create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASE = "tenant-kmip-operator"


@pytest.fixture
def tenant(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A namespace with an operator of its own; the operator of all namespaces rests meanwhile."""
    cluster.kubectl("-n", SYSTEM, "scale", "deployment/kmip-operator", "--replicas=0")
    cluster.until_none(cluster.operator_pods)
    cluster.helm(
        "install", RELEASE, ROOT / "helm" / "kmip-operator", "--namespace", namespace, "--wait", "--timeout", "2m",
        *job.image_settings(), "--set", f"watchNamespaces={{{namespace}}}", "--set", "crds.enabled=false",
        "--set", "admissionPolicies.enabled=false", "--set", "replicas=1",
    )  # fmt: skip
    try:
        yield namespace
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", namespace, "--wait")
        cluster.kubectl("-n", SYSTEM, "scale", "deployment/kmip-operator", "--replicas=2")
        cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/kmip-operator", "--timeout=120s")


def test_it_works_with_roles_alone_and_leaves_other_namespaces(
    cluster: Cluster, tenant: str, module_namespace: str, audit: AuditLog, operator_log: OperatorLog, tmp_path: Path
) -> None:
    client = vcenter_identity(tmp_path, "client")
    bindings = cluster.items("clusterrolebindings", None)
    assert not [item for item in bindings if RELEASE in str(item.get("subjects"))]
    mark, line = audit.mark(), operator_log.mark()
    for place in (tenant, module_namespace):
        cluster.apply_objects(
            make.secret(place, "seed", seed="0123456789abcdef" * 4),
            make.software(place),
            make.root_key(place),
            make.sqlite(place, regions=[make.region("eu-de")]),
            make.leaf(place, "client", client.pem),
        )
    cluster.wait_ready(tenant, timeout=120)
    endpoint = cluster.endpoint(tenant, "kms")
    cluster.until_reachable(endpoint, client)
    with endpoint.connect(client) as connection:
        assert len(get(connection, create(connection))) == 32
    found = cluster.items(",".join(KINDS), module_namespace)
    assert len(found) == 4
    assert not [item for item in found if "status" in item]
    writes = audit.since(mark, f"{tenant}:{RELEASE}")
    assert writes
    assert {write.namespace for write in writes} == {tenant}
    assert [write for write in writes if write.code == 403] == []
    operator_log.collect()
    assert [entry for entry in operator_log.entries(line) if entry["level"] not in ("info", "debug")] == []
