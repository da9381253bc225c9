"""Observes a ClientCertificate: the certificate it gives, its instance, the published allowlist and the pods' answers."""

from __future__ import annotations

from kmip_operator.clientcertificate.snapshot import ClientCertificateSnapshot
from kmip_operator.kmipinstance import children
from kmip_operator.kube.cache import BY_FINGERPRINT
from kmip_operator.kube.resources import CLIENT_CERTIFICATES, KMIP_INSTANCES
from kmip_operator.observing import Sources
from kmip_operator.plan import Manifest


async def observe(sources: Sources, manifest: Manifest) -> ClientCertificateSnapshot:
    """One snapshot; reads only."""
    namespace = manifest["metadata"]["namespace"]
    reference = manifest["spec"].get("instanceRef") or {}
    instance = sources.named(KMIP_INSTANCES, namespace, reference)
    return ClientCertificateSnapshot(
        object=manifest,
        source=await sources.certificate(manifest),
        instance=instance,
        others=_others(sources, manifest),
        allowlist=await sources.allowlist(namespace, children.allowlist_name(instance))
        if instance is not None
        else None,
        pods=sources.pods(namespace, reference["name"]) if instance is not None else (),
    )


def _others(sources: Sources, manifest: Manifest) -> tuple[Manifest, ...]:
    metadata, fingerprint = manifest["metadata"], (manifest.get("status") or {}).get("sha256")
    instance = (manifest["spec"].get("instanceRef") or {}).get("name")
    if not fingerprint or not instance:
        return ()
    found = sources.caches.stores[CLIENT_CERTIFICATES].indexed(
        BY_FINGERPRINT, metadata["namespace"], f"{instance}/{fingerprint}"
    )
    return tuple(other for other in found if other["metadata"]["name"] != metadata["name"])
