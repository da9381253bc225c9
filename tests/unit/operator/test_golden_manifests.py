"""The manifests the operator writes, word for word: a change here restarts pods or surprises reviewers, so it must be meant.

Write them anew with KMIP_UPDATE_GOLDEN=1, and say in the release notes whether pods restart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.operator_samples import (
    NOW,
    POSTGRESQL,
    instance,
    instance_snapshot,
    key_manager,
    key_manager_snapshot,
    meta,
    ready_key_manager,
    root_key_snapshot,
)

from kmip_operator.keymanager import decide as keymanager_decide
from kmip_operator.kmipinstance import decide as instance_decide
from kmip_operator.kmipinstance import prepare as instance_prepare
from kmip_operator.plan import Manifest
from kmip_operator.rootkey import decide as rootkey_decide

GOLDEN = Path(__file__).parent / "golden"


def manifests(spec: Manifest | None = None, **changes: Any) -> list[Manifest]:
    snapshot = instance_prepare.prepare(instance_snapshot(object=instance(spec), **changes), NOW)
    found = instance_decide.decide(snapshot, NOW).apply
    # The allowlist carries the time of its publication; its own tests read it.
    return [item for item in found if item["metadata"]["name"] != "vc-allowlist"]


def software() -> Manifest:
    credentials = {"use": {"secretRef": {"name": "seed"}}}
    manifest = ready_key_manager(type="Software", credentials=credentials)
    del manifest["spec"]["pkcs11"]
    return manifest


def vendor() -> Manifest:
    return ready_key_manager(
        pkcs11={
            "tokenLabel": "partition-1",
            "module": {
                "path": "/usr/lib/libvendor.so",
                "image": "vendor.example/client:7",
                "imagePullPolicy": "Always",
            },
            "mechanism": "AES_KEY_WRAP_PAD",
        },
        custody={
            "image": "corp.example/custody:2",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "corp"}],
            "runAsUser": 1234,
            "fsGroup": 5678,
            "resources": {"requests": {"cpu": "0.1", "memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
        },
    )


FULL: Manifest = {
    **POSTGRESQL,
    "regions": [
        {
            "name": "jp-tok",
            "replicas": 3,
            "nodeSelector": {"pool": "kms"},
            "service": {
                "type": "LoadBalancer",
                "hostNames": ["kms.corp.example"],
                "annotations": {"lb.example/internal": "true"},
                "nodePort": 31696,
                "loadBalancerIP": "198.51.100.7",
                "loadBalancerClass": "example.com/internal",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "externalTrafficPolicy": "Local",
            },
        }
    ],
    "cache": {"maxAge": "10s"},
    "kmipd": {"image": "corp.example/kmipd:2", "imagePullPolicy": "Never", "resources": {"limits": {"cpu": 2}}},
    "pod": {
        "labels": {"cost-centre": "42"},
        "annotations": {"example.com/note": "keys"},
        "priorityClassName": "storage-critical",
        "tolerations": [{"key": "kms", "operator": "Exists", "effect": "NoSchedule"}],
    },
}


def keymanager_jobs(**changes: Any) -> list[Manifest]:
    check = meta("luna-credential-check")
    snapshot = key_manager_snapshot(object=key_manager(**changes), credential_check=check)
    return list(keymanager_decide.decide(snapshot, NOW).create)


CASES: dict[str, Callable[[], list[Manifest]]] = {
    "instance-sqlite": lambda: manifests(),
    "instance-postgresql-two-regions": lambda: manifests(POSTGRESQL),
    "instance-everything-set": lambda: manifests(FULL, key_manager=vendor()),
    "instance-software-key-manager": lambda: manifests(key_manager=software()),
    "keymanager-probe-jobs": lambda: keymanager_jobs(),
    "rootkey-create-job": lambda: list(rootkey_decide.decide(root_key_snapshot(), NOW).create),
}


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_what_they_were(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    # Through JSON, so that parts which are shared are written out.
    text = yaml.safe_dump_all(json.loads(json.dumps(CASES[name]())), sort_keys=False, width=120)
    if os.environ.get("KMIP_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("instance")])
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    for manifest in CASES[name]():
        if manifest["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("instance")])
def test_custody_alone_has_the_credential_and_the_module(name: str) -> None:
    for manifest in CASES[name]():
        if manifest["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        pod = manifest["spec"]["template"]["spec"]
        mounted = {item["name"] for item in pod["containers"][0]["volumeMounts"]}
        assert not mounted & {"credential", "credential-check", "module", "module-config", "module-files"}
        assert {item["name"] for item in pod["initContainers"][0]["volumeMounts"]} >= {"credential", "socket"}
        assert all("subPath" not in item for item in pod["containers"][0]["volumeMounts"])
