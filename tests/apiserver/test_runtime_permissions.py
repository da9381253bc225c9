"""The operator works cluster-wide with exactly these permissions, and says which one is missing when one is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import lifecycle
from support.operator_process import OperatorProcess, wait_for
from support.simulated_kubelet import SimulatedKubelet

from kmip_operator.crd import KINDS, render

pytestmark = pytest.mark.apiserver

READ = ["get", "list", "watch"]
RULES = [
    {
        "apiGroups": ["kmip.dev"],
        "resources": ["keymanagers", "rootkeys", "kmipinstances", "clientcertificates"],
        "verbs": READ,
    },
    {
        "apiGroups": ["kmip.dev"],
        "resources": [
            f"{plural}/status" for plural in ("keymanagers", "rootkeys", "kmipinstances", "clientcertificates")
        ],
        "verbs": ["patch"],
    },
    {
        "apiGroups": [""],
        "resources": ["secrets", "configmaps", "services", "serviceaccounts"],
        "verbs": [*READ, "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods", "persistentvolumeclaims"], "verbs": [*READ, "patch"]},
    {
        "apiGroups": ["apps"],
        "resources": ["statefulsets", "deployments"],
        "verbs": [*READ, "create", "patch", "delete"],
    },
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": [*READ, "create", "delete"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": [*READ, "create", "patch", "delete"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": READ},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
]


class Restricted:
    """An operator with a user of its own in a namespace of its own."""

    def __init__(self, apiserver: Any, folder: Path, rules: list[dict[str, Any]]) -> None:
        self.apiserver = apiserver
        self.namespace = f"rbac-{uuid.uuid4().hex[:8]}"
        user = f"operator-{self.namespace}"
        for kind in KINDS:
            apiserver.kubectl("apply", "-f", "-", stdin=render(kind))
        apiserver.kubectl("create", "namespace", self.namespace)
        metadata = {"name": user}
        group = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        }
        for manifest in (role, binding):
            apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        self.kubelet = SimulatedKubelet(apiserver.kubectl, self.namespace, folder)
        self.kubelet.start()
        self.operator = OperatorProcess(
            apiserver.user_kubeconfig(user),
            folder / "operator.log",
            *("--namespace", self.namespace, "--identity", "restricted"),
        )

    def ready(self, kind: str, name: str) -> bool:
        done = self.apiserver.run_kubectl("get", kind, name, "-n", self.namespace, "-o", "json")
        status = json.loads(done.stdout).get("status") or {} if done.returncode == 0 else {}
        return any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ())

    def all_ready(self) -> bool:
        self.kubelet.step()
        return all(self.ready(*one) for one in (("km", "soft"), ("rk", "crk"), ("ki", "vc"), ("kcc", "vc01")))

    def apply(self, *manifests: dict[str, Any]) -> None:
        text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        self.apiserver.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=text)


@pytest.fixture
def restricted(apiserver: Any, tmp_path: Path) -> Iterator[Restricted]:
    made = Restricted(apiserver, tmp_path, RULES)
    yield made
    made.operator.kill()
    made.kubelet.stop()


def test_these_permissions_are_enough(restricted: Restricted) -> None:
    with restricted.operator as operator:
        operator.wait_until_it_says("caches complete")
        restricted.apply(*lifecycle.everything())
        wait_for("all four Ready", restricted.all_ready, seconds=120)
        refused = [line for line in operator.lines() if "Forbidden" in json.dumps(line)]
        assert refused == []


def test_a_missing_permission_ends_the_process_with_its_name(apiserver: Any, tmp_path: Path) -> None:
    rules = [rule for rule in RULES if "secrets" not in rule["resources"]]
    restricted = Restricted(apiserver, tmp_path, rules)
    with restricted.operator as operator:
        assert operator.process is not None
        assert operator.process.wait(60) == 1
        assert 'cannot list resource \\"secrets\\"' in json.dumps(operator.lines())
