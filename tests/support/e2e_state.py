"""What a namespace holds, without what differs between two runs of the same steps."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from support.e2e_cluster import Cluster, Manifest

KINDS = (
    "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,persistentvolumeclaims"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{16})\b")
_ADDRESS = re.compile(r"\b10(?:\.\d{1,3}){3}\b")
_DROPPED = {
    "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "status", "selfLink",
    "kmip.dev/published-at", "deployment.kubernetes.io/revision", "nodePort", "clusterIP", "clusterIPs", "healthCheckNodePort",
    "kmip.dev/allowlist-revision",
}  # fmt: skip


def normalised(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Every child by ``Kind/name``: its specification, with identities, digests and random content replaced by marks."""
    found = {}
    for item in cluster.items(KINDS, namespace):
        name = f"{item['kind']}/{item['metadata']['name']}"
        content = _secret(item) if item["kind"] == "Secret" else item
        text = json.dumps(_without(content), sort_keys=True).replace(namespace, "NAMESPACE")
        text = text.replace(namespace.replace("-", "_"), "SCHEMA")
        for pattern, mark in ((_UUID, "UUID"), (_DIGEST, "DIGEST"), (_ADDRESS, "ADDRESS")):
            text = pattern.sub(mark, text)
        found[name] = json.loads(text)
    return found


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items() if key not in _DROPPED}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value


def _secret(item: Manifest) -> Manifest:
    """Only the keys of what is random; an allowlist's entries, without its revision."""
    data: Manifest = dict.fromkeys(item.get("data", {}), "content")
    if "allowlist.json" in data:
        allowlist = json.loads(base64.b64decode(item["data"]["allowlist.json"]))
        data["allowlist.json"] = {key: value for key, value in allowlist.items() if key != "revision"}
    return {**item, "data": data}
