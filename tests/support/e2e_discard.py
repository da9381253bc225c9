"""Removes a test's namespace with everything in it, the retained included."""

from __future__ import annotations

from support.e2e_cluster import Cluster


def discard(cluster: Cluster, namespace: str) -> None:
    """Give consent for what is retained, and delete the namespace; its end is not waited for."""
    for kind in ("clientcertificates", "kmipinstances"):
        for item in cluster.items(kind, namespace):
            keyspace = item.get("status", {}).get("keyspace")
            if keyspace:
                cluster.kubectl(
                    "-n", namespace, "annotate", kind, item["metadata"]["name"], _consent(keyspace), "--overwrite"
                )
        cluster.kubectl("-n", namespace, "delete", kind, "--all", "--wait=false")
    for item in cluster.items("persistentvolumeclaims,secrets", namespace, "kmip.dev/keyspace"):
        keyspace = item["metadata"]["labels"]["kmip.dev/keyspace"]
        name = f"{item['kind'].lower()}/{item['metadata']['name']}"
        cluster.kubectl("-n", namespace, "annotate", name, _consent(keyspace), "--overwrite")
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    cluster.kubectl("delete", "persistentvolume", f"tokens-{namespace}", "--ignore-not-found", "--wait=false")


def _consent(keyspace: str) -> str:
    return f"kmip.dev/confirm-delete={keyspace}"
