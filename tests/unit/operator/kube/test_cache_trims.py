"""What the caches leave out is what no observation reads."""

from __future__ import annotations

from typing import Any

import pytest

from kmip_operator.kube.cache import Caches
from kmip_operator.kube.resources import JOBS, NODES, PODS
from kmip_operator.kube.workloads import job_facts, node_facts, pod_facts

METADATA = {
    "name": "a",
    "uid": "u",
    "resourceVersion": "1",
    "creationTimestamp": "2026-11-01T10:00:00Z",
    "labels": {"topology.kubernetes.io/zone": "z1"},
}
CHILD = {**METADATA, "namespace": "keys"}


def cached(resource: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    caches = Caches(nodes=True)
    caches.learn(resource, manifest)
    kept = caches.current(resource, manifest["metadata"].get("namespace", ""), "a")
    assert kept is not None
    return kept


@pytest.mark.parametrize("unschedulable", [True, False])
def test_a_node_without_its_images_says_the_same(unschedulable: bool) -> None:
    node = {
        "metadata": METADATA,
        "spec": {"unschedulable": unschedulable, "podCIDR": "10.0.0.0/24"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.1.1.1"},
                {"type": "ExternalIP", "address": "192.0.2.1"},
            ],
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-01T10:00:00Z"}],
            "images": [{"names": ["example/large"]}],
        },
    }
    kept = cached(NODES, node)
    assert "images" not in kept["status"]
    assert node_facts(kept) == node_facts(node)
    assert node_facts(kept).address == "192.0.2.1"


def test_a_pod_without_its_spec_says_the_same() -> None:
    pod = {
        "metadata": CHILD,
        "spec": {"nodeName": "n1", "containers": [{"name": "kmipd"}]},
        "status": {
            "podIP": "10.0.0.7",
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-01T10:00:00Z"}],
        },
    }
    kept = cached(PODS, pod)
    assert "containers" not in kept["spec"]
    assert pod_facts(kept, {"n1": "z1"}) == pod_facts(pod, {"n1": "z1"})


def test_a_job_without_its_spec_says_the_same() -> None:
    condition = {"type": "Failed", "status": "True", "lastTransitionTime": "2026-11-01T10:00:00Z"}
    job = {"metadata": CHILD, "spec": {"backoffLimit": 0}, "status": {"failed": 1, "conditions": [condition]}}
    kept = cached(JOBS, job)
    assert "spec" not in kept
    assert job_facts(kept, ()) == job_facts(job, ())
