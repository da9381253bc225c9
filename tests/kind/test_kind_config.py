"""The kind configuration: its keys are those of kind's v1alpha4, its topology the native cluster's."""

from pathlib import Path
from typing import Any

import yaml

from kind.native.nodeconfig import SHARED
from kind.native.topology import DEFAULT_PLACES

CONFIG = Path(__file__).resolve().parents[2] / "kind" / "kind.yaml"
# Fields of kind's configuration version kind.x-k8s.io/v1alpha4 (kind refuses others).
CLUSTER = {
    "kind", "apiVersion", "name", "nodes", "networking", "featureGates", "runtimeConfig", "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902", "containerdConfigPatches", "containerdConfigPatchesJSON6902",
}  # fmt: skip
NODE = {
    "role", "image", "labels", "extraMounts", "extraPortMappings", "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
}  # fmt: skip
MOUNT = {"containerPath", "hostPath", "readOnly", "selinuxRelabel", "propagation"}


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return loaded


def test_only_fields_that_kind_knows() -> None:
    cluster = config()
    assert (cluster["kind"], cluster["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert cluster.keys() <= CLUSTER
    for node in cluster["nodes"]:
        assert node.keys() <= NODE
        assert node["role"] in {"control-plane", "worker"}
        assert all(isinstance(value, str) for value in node.get("labels", {}).values())
        for mount in node.get("extraMounts", ()):
            assert mount.keys() <= MOUNT


def test_same_topology_as_the_native_cluster() -> None:
    nodes = config()["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker", "worker"]
    labels = [node["labels"] for node in nodes[1:]]
    places = [(each["topology.kubernetes.io/region"], each["topology.kubernetes.io/zone"]) for each in labels]
    assert tuple(places) == DEFAULT_PLACES
    assert all(node["extraMounts"][0]["containerPath"] == SHARED for node in nodes[1:])
