from pathlib import Path
from typing import Any

from kind.native.agent.volumes import pending_node, to_reclaim, volume_for
from kind.native.manifests import PROVISIONER

CLASSES = [
    {"metadata": {"name": "standard"}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete"},
    {"metadata": {"name": "kept"}, "provisioner": PROVISIONER, "reclaimPolicy": "Retain"},
    {"metadata": {"name": "foreign"}, "provisioner": "example.com/other"},
]


def claim(storage_class: str = "standard", node: str | None = "worker1", phase: str = "Pending") -> dict[str, Any]:
    annotations = {"volume.kubernetes.io/selected-node": node} if node else {}
    return {
        "metadata": {"namespace": "d", "name": "data", "uid": "u-1", "annotations": annotations},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
        "status": {"phase": phase},
    }


def test_claims_wait_until_the_scheduler_chose_a_node() -> None:
    assert pending_node(claim(), CLASSES) == "worker1"
    assert pending_node(claim(node=None), CLASSES) is None
    assert pending_node(claim(phase="Bound"), CLASSES) is None
    assert pending_node(claim("foreign"), CLASSES) is None


def test_a_volume_is_bound_to_its_claim_and_node_and_keeps_the_classs_policy() -> None:
    volume = volume_for(claim("kept"), "worker1", Path("/volumes/pvc-u-1"), CLASSES)
    assert volume["metadata"]["name"] == "pvc-u-1"
    assert volume["spec"]["claimRef"]["uid"] == "u-1"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["worker1"]


def test_only_released_volumes_of_this_provisioner_with_policy_delete_are_reclaimed() -> None:
    volume = volume_for(claim(), "worker1", Path("/volumes/pvc-u-1"), CLASSES)
    assert to_reclaim({**volume, "status": {"phase": "Released"}})
    assert not to_reclaim({**volume, "status": {"phase": "Bound"}})
    kept = volume_for(claim("kept"), "worker1", Path("/volumes/pvc-u-1"), CLASSES)
    assert not to_reclaim({**kept, "status": {"phase": "Released"}})
    foreign = {**volume, "metadata": {"name": "x"}, "status": {"phase": "Released"}}
    assert not to_reclaim(foreign)
