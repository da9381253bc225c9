"""Provisions volumes: a folder on the node that the scheduler chose, removed when the claim goes (unless retained)."""

import shutil
import sys
from http import HTTPStatus
from pathlib import Path

from kind.native.kube import ApiError, Client, Object
from kind.native.manifests import PROVISIONER
from kind.native.state import State
from kind.native.topology import Topology

_SELECTED = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


def pending_node(claim: Object, classes: list[Object]) -> str | None:
    """The node a claim waits to get a volume on, if it waits for this provisioner."""
    ours = {each["metadata"]["name"] for each in classes if each.get("provisioner") == PROVISIONER}
    spec, meta = claim["spec"], claim["metadata"]
    if claim.get("status", {}).get("phase") != "Pending" or spec.get("volumeName") or meta.get("deletionTimestamp"):
        return None
    if spec.get("storageClassName") not in ours:
        return None
    node = (meta.get("annotations") or {}).get(_SELECTED)
    return None if node is None else str(node)


def volume_for(claim: Object, node: str, folder: Path, classes: list[Object]) -> Object:
    """The PersistentVolume for a claim: a local volume that only the given node can mount."""
    meta, spec = claim["metadata"], claim["spec"]
    chosen = next(each for each in classes if each["metadata"]["name"] == spec["storageClassName"])
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{meta['uid']}", "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": chosen.get("reclaimPolicy", "Delete"),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "local": {"path": str(folder)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
                    ]
                }
            },
        },
    }


def to_reclaim(volume: Object) -> bool:
    """Whether a volume of this provisioner is to be removed with its contents."""
    return (
        (volume["metadata"].get("annotations") or {}).get(_PROVISIONED_BY) == PROVISIONER
        and volume.get("status", {}).get("phase") == "Released"
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and not volume["metadata"].get("deletionTimestamp")
    )


class Provisioner:
    """Makes and removes folders and their PersistentVolumes."""

    def __init__(self, client: Client, state: State, topology: Topology) -> None:
        self._client = client
        self._folders = {node.name: state.node(node.name) / "volumes" for node in topology.nodes}

    def reconcile(self, claims: list[Object], volumes: list[Object], classes: list[Object]) -> None:
        """Provision what is pending, reclaim what is released."""
        existing = {volume["metadata"]["name"] for volume in volumes}
        for claim in claims:
            node = pending_node(claim, classes)
            if node in self._folders and f"pvc-{claim['metadata']['uid']}" not in existing:
                self._provision(claim, node, classes)
        for volume in volumes:
            if to_reclaim(volume):
                self._reclaim(volume)

    def _provision(self, claim: Object, node: str, classes: list[Object]) -> None:
        folder = self._folders[node] / f"pvc-{claim['metadata']['uid']}"
        folder.mkdir(exist_ok=True)
        # As other provisioners of folders do: pods without fsGroup run as any user.
        folder.chmod(0o777)
        self._client.apply(volume_for(claim, node, folder, classes))
        meta = claim["metadata"]
        print(f"volumes: {meta['namespace']}/{meta['name']}: {folder}", file=sys.stderr, flush=True)

    def _reclaim(self, volume: Object) -> None:
        path = Path(volume["spec"]["local"]["path"])
        # The path is removed only where this provisioner makes them, whatever the object says.
        if path.parent in self._folders.values() and path.name == volume["metadata"]["name"] and path.exists():
            shutil.rmtree(path)
        try:
            self._client.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        print(f"volumes: {volume['metadata']['name']} removed", file=sys.stderr, flush=True)
