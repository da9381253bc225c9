"""A SoftHSM2 token that the cluster's pods reach through a module that counts what arrives at it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from support.e2e_cluster import Cluster
from support.e2e_manifests import Manifest, resource, secret
from support.softhsm import Shim, make_shim, make_token

from kind.native.nodeconfig import SHARED

MOUNT = "/var/lib/hsm"
USER = 65532
PIN_INCORRECT = "0xa0"
"""CKR_PIN_INCORRECT as the counting module writes it."""


@dataclass(frozen=True)
class PodHsm:
    """The token, its folder on this machine, and its namespace."""

    shim: Shim
    namespace: str
    folder: Path

    @property
    def pin(self) -> str:
        """The right PIN."""
        return self.shim.hsm.pin

    def refusals(self) -> int:
        """How many log-ins with a wrong PIN reached the token."""
        return self.shim.logins().count(PIN_INCORRECT)

    def key_manager(self, name: str, pin_secret: str, module: str = f"{MOUNT}/shim/p11shim.so") -> Manifest:
        """A KeyManager for it."""
        credential = {"secretRef": {"name": pin_secret}}
        environment = {
            "SOFTHSM2_CONF": "/etc/kmip/module/softhsm2.conf",
            "P11SHIM_TARGET": str(self.shim.hsm.module),
            "P11SHIM_DIR": f"{MOUNT}/shim",
        }
        pkcs11 = {
            "tokenLabel": self.shim.hsm.label,
            "module": {"path": module},
            "configSecretRef": {"name": "hsm-conf"},
            "environment": [{"name": key, "value": value} for key, value in environment.items()],
            "volumeClaimRef": {"name": "tokens", "mountPath": MOUNT},
        }
        return resource(
            "KeyManager",
            self.namespace,
            name,
            {
                "type": "PKCS11",
                "pkcs11": pkcs11,
                "credentials": {"use": credential, "manage": credential},
                "custody": {"image": "localhost/kmip-operator/custody-softhsm:dev"},
            },
        )

    def supports(self) -> list[Manifest]:
        """The volume and the module's configuration."""
        name = f"tokens-{self.namespace}"
        size = {"storage": "64Mi"}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.namespace, "name": "tokens"},
                "hostPath": {"path": f"{SHARED}/{self.folder.name}", "type": "Directory"},
            },
        }
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "tokens", "namespace": self.namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": size},
            },
        }
        conf = f"directories.tokendir = {MOUNT}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        return [volume, claim, secret(self.namespace, "hsm-conf", softhsm2_conf=conf)]


def make_pod_hsm(cluster: Cluster, namespace: str) -> PodHsm:
    """Initialise a token in the folder that all nodes share, and give it to the user that custody runs as."""
    folder = cluster.state.shared / namespace
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    hsm = PodHsm(make_shim(make_token(folder)), namespace, folder)
    # The PIN reaches pods by its Secret alone.
    hsm.shim.hsm.pin_file.unlink()
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, USER, USER)
    return hsm
